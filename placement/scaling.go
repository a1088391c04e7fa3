package placement

import (
	"fmt"
	"math"
	"time"
)

const (
	// ScaleUpAbove is the utilisation above which more workers are recommended.
	ScaleUpAbove = 0.8
	// ScaleTarget is the utilisation that a new recommendation aims at.
	ScaleTarget = 0.7
	// ScaleDownBelow is the utilisation that one worker fewer must stay under before fewer are recommended. Between the two
	// bounds the recommendation stays what it is.
	ScaleDownBelow = 0.6
	// ScaleUpAfter is how long more workers must be asked for without pause: a burst that Fill places at once needs none.
	ScaleUpAfter = time.Minute
	// ScaleDownAfter is the same for fewer. It is longer because a worker too few costs messages, one too many only money.
	ScaleDownAfter = 10 * time.Minute
	// UnknownSize is the MaxSessions that a worker is assumed to have while none is online that could tell.
	UnknownSize = 50
)

// Fleet is what a recommendation is made from.
type Fleet struct {
	Workers  []Worker // whose lease lives
	Homeless int      // sessions that wait for room
}

// Scaling is a recommendation. The zero value is none yet.
type Scaling struct {
	Recommended int       // workers that there should be, at least 1
	Since       time.Time // of that recommendation
	Candidate   int       // the smallest change that the figures have asked for throughout, if they ask for one; 0: none
	Pending     time.Time // since when they ask, without pause; zero: they don't
	Workers     int       // online now
	Utilization float64   // sessions assigned and homeless, per room of the online workers; 1 if there is no room but sessions
	Reason      string    // one sentence for people
}

// Action names what has to be done to follow the recommendation: "scale_up", "scale_down" or "none".
func (s Scaling) Action() string {
	switch {
	case s.Recommended > s.Workers:
		return "scale_up"
	case s.Recommended < s.Workers:
		return "scale_down"
	}
	return "none"
}

// Recommend returns the recommendation that follows was, in view of the fleet now. The first one is as many workers as
// are online. After that it changes when the figures have asked for more for ScaleUpAfter, or for fewer for ScaleDownAfter,
// and then by the smallest change that they asked for in that time: a peak of seconds at the end of it doesn't count.
//
// The figures are measured against the recommended number of workers, not against those online: what was recommended
// may take minutes to appear, and is not asked for twice meanwhile; nor is a worker called needless that was
// never there.
func Recommend(was Scaling, f Fleet, now time.Time) Scaling {
	d := demandOf(f)
	s := Scaling{Recommended: was.Recommended, Since: was.Since, Workers: d.online, Utilization: d.utilization}
	if s.Recommended == 0 {
		s.Recommended, s.Since = max(d.online, 1), now
	}
	want, why := d.ask(s.Recommended)
	if want == s.Recommended {
		s.Reason = why + "."
		return s
	}
	after, milder := ScaleUpAfter, min(want, was.Candidate)
	if want < s.Recommended {
		after, milder = ScaleDownAfter, max(want, was.Candidate)
	}
	s.Candidate, s.Pending = want, now
	if was.Candidate != 0 && (was.Candidate > s.Recommended) == (want > s.Recommended) {
		s.Candidate, s.Pending = milder, was.Pending
	}
	if now.Sub(s.Pending) < after {
		s.Reason = fmt.Sprintf("%s: %d instead of %d once that has lasted %.0f min.", why, s.Candidate, s.Recommended, after.Minutes())
		return s
	}
	s.Reason = fmt.Sprintf("%s: %d instead of %d.", why, s.Candidate, s.Recommended)
	s.Recommended, s.Since = s.Candidate, now
	s.Candidate, s.Pending = 0, time.Time{}
	return s
}

// demand is what a fleet carries. Its loads are in workers of average size: 2.5 fill two and a half.
type demand struct {
	sessions, cpu, memory float64
	utilization           float64
	online                int
	homeless              int
}

// demandOf counts the sessions of all workers, since those of a worker in maintenance need room elsewhere soon, but CPU
// and memory of the online ones only.
func demandOf(f Fleet) demand {
	d := demand{homeless: f.Homeless}
	sessions, room := f.Homeless, 0
	for _, w := range f.Workers {
		sessions += w.Sessions
		if w.Online {
			d.online++
			d.cpu += w.CPU / 100
			d.memory += w.Memory / 100
			room += w.MaxSessions
		}
	}
	size := float64(UnknownSize)
	if room > 0 {
		size = float64(room) / float64(d.online)
		d.utilization = float64(sessions) / float64(room)
	} else if sessions > 0 {
		d.utilization = 1
	}
	d.sessions = float64(sessions) / size
	return d
}

// ask returns the number of workers that the figures ask for where n are recommended, and the beginning of a sentence
// that says why.
//
// Fewer are asked for only as far as CPU and memory stay at their targets too, if they follow the number of workers.
// Without that, a fleet that was enlarged for its CPU would shrink again because it holds few sessions, and so on for ever.
func (d demand) ask(n int) (want int, why string) {
	need, workers := d.need(), float64(n)
	switch {
	case d.homeless > 0 && d.online >= n:
		return max(need, d.online+1), "There is no room for " + count(d.homeless, "session")
	case d.sessions > ScaleUpAbove*workers+slack:
		return need, fmt.Sprintf("Sessions would fill %s to %.1f %%", count(n, "worker"), 100*d.sessions/workers)
	case d.cpu > CPUHigh/100*workers+slack:
		return need, fmt.Sprintf("CPU of %s would be at %.1f %%", count(n, "worker"), 100*d.cpu/workers)
	case d.memory > MemoryHigh/100*workers+slack:
		return need, fmt.Sprintf("Memory of %s would be at %.1f %%", count(n, "worker"), 100*d.memory/workers)
	case need < n && d.sessions < ScaleDownBelow*(workers-1)-slack:
		return need, fmt.Sprintf("Sessions would fill %s to only %.1f %%", count(need, "worker"), 100*d.sessions/float64(need))
	}
	return n, fmt.Sprintf("Sessions would fill %s to %.1f %%, CPU to %.1f %%, memory to %.1f %%: no change",
		count(n, "worker"), 100*d.sessions/workers, 100*d.cpu/workers, 100*d.memory/workers)
}

// need returns how many workers bring all loads to their targets or below. It is at least 1: without any, the next
// session would have to wait for a machine to start.
func (d demand) need() int {
	filled := max(d.sessions/ScaleTarget, d.cpu/(targetCPU/100), d.memory/(targetMemory/100))
	return max(1, int(math.Ceil(filled-slack)))
}

// slack keeps rounding from making more than three workers of what fills three to exactly 70 %.
const slack = 1e-9

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
