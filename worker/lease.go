package worker

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Why a lease ended.
var (
	errLapsed     = errors.New("the lease lapsed")
	errSuperseded = errors.New("the gateway no longer knows this term")
	errRemoved    = errors.New("an administrator removed this worker")
	errOutOfStep  = errors.New("gateway and worker count events differently")
)

// lease is the right, within one term, to connect and to write to the network. It ends once and for good: by its
// own timer, without anybody's help, or when revoked. It is counted from when the worker sent the request that
// granted or renewed it, so it never outlasts the gateway's own count. A process that was stopped for a while wakes up
// before its timers do, so whoever is about to act asks held, which looks at the clock.
type lease struct {
	now    func() time.Time // with a monotonic reading
	ctx    context.Context  // done when the lease has ended
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	until time.Time
	timer *time.Timer
}

func newLease(parent context.Context, now func() time.Time, sent time.Time, d time.Duration) *lease {
	l := &lease{now: now, until: sent.Add(d)}
	l.ctx, l.cancel = context.WithCancelCause(parent)
	l.mu.Lock()
	l.timer = time.AfterFunc(l.until.Sub(now()), l.expire)
	l.mu.Unlock()
	return l
}

// held reports whether the lease stands at this moment. Who finds that its time is over ends it.
func (l *lease) held() bool {
	if l.ctx.Err() != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now().Before(l.until) {
		return true
	}
	l.cancel(errLapsed)
	return false
}

// renew counts the lease anew from sent. A lease that has ended stays ended.
func (l *lease) renew(sent time.Time, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil || !l.now().Before(l.until) {
		return
	}
	l.until = sent.Add(d)
	l.timer.Reset(l.until.Sub(l.now()))
}

// expire runs when the timer fires; a renewal may have overtaken it.
func (l *lease) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := l.until.Sub(l.now()); left > 0 {
		l.timer.Reset(left)
		return
	}
	l.cancel(errLapsed)
}

// revoke ends the lease now.
func (l *lease) revoke(why error) {
	l.cancel(why)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
}

// lost is closed when the lease has ended.
func (l *lease) lost() <-chan struct{} { return l.ctx.Done() }
