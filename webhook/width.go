package webhook

import "time"

const (
	// StartWidth is what a new endpoint gets: enough to be quick, too little to hurt it.
	StartWidth = 4
	// MaxWidth bounds one endpoint's share of a runner's slots.
	MaxWidth = 64
	// SlowAnswer shrinks the width as a failure does: a third of the timeout is an endpoint that struggles.
	SlowAnswer = 5 * time.Second
	// BreakAfter consecutive failures the endpoint is taken for dead and only probed.
	BreakAfter = 10
	// MaxProbePause bounds how long a recovered endpoint waits to be noticed.
	MaxProbePause = 30 * time.Second
)

// Width decides how many deliveries go to an endpoint side by side: additive increase, multiplicative decrease, as TCP
// finds the width of a line, and a breaker for an endpoint that only fails. It is a value: After returns the next one.
// The zero value is an endpoint of which nothing is known.
type Width struct {
	size     int       // 0: nothing known yet
	failures int       // consecutive
	resume   time.Time // while broken: when the next probe may go
	slow     bool      // the last batch took SlowAnswer or more, or was cut off
}

// Batch is what became of the deliveries that Slots allowed.
type Batch struct {
	Succeeded int
	Failed    int           // timeouts too; not deliveries that were cancelled from our side
	Slowest   time.Duration // the longest answer of all of them
}

// Slots returns how many deliveries may go out together now: 1 to MaxWidth. 0 means not before resume.
func (w Width) Slots(now time.Time) (n int, resume time.Time) {
	if !w.Broken() {
		return w.width(), time.Time{}
	}
	if now.Before(w.resume) {
		return 0, w.resume
	}
	return 1, time.Time{}
}

// Broken reports whether the endpoint is only being probed.
func (w Width) Broken() bool { return w.failures >= BreakAfter }

// Slow reports whether the endpoint kept us waiting the last time.
func (w Width) Slow() bool { return w.slow }

// CutOff returns the width of an endpoint that was not waited for any longer.
func (w Width) CutOff() Width {
	w.slow = true
	return w
}

// After returns the width in view of a batch that ended now. A batch as large as the width that went well widens it by one; a
// smaller one proves nothing about more. A failure or a slow answer halves it. An empty batch changes nothing.
func (w Width) After(b Batch, now time.Time) Width {
	if b.Succeeded+b.Failed == 0 {
		return w
	}
	size := w.width()
	w.slow = b.Slowest >= SlowAnswer
	switch {
	case b.Failed > 0 || b.Slowest >= SlowAnswer:
		w.size = max(size/2, 1)
	case b.Succeeded >= size:
		w.size = min(size+1, MaxWidth)
	}
	if b.Succeeded > 0 {
		w.failures, w.resume = 0, time.Time{}
		return w
	}
	// Probes are counted one by one; those of the batch that broke it are one step, not many.
	if w.failures < BreakAfter {
		w.failures = min(w.failures+b.Failed, BreakAfter)
	} else {
		w.failures++
	}
	if w.Broken() {
		w.resume = now.Add(probePause(w.failures - BreakAfter))
	}
	return w
}

func (w Width) width() int {
	if w.size == 0 {
		return StartWidth
	}
	return w.size
}

// probePause is min(30 s, 2^k s) after k failed probes.
func probePause(k int) time.Duration {
	if k >= 5 { // 2^5 s is beyond the bound already, and no shift can overflow
		return MaxProbePause
	}
	return time.Second << k
}
