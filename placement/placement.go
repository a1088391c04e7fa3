// Package placement decides which worker gets a session: pure rules over figures that the caller brings. It reserves
// nothing and calls nobody.
package placement

import (
	"cmp"
	"strings"
)

// Worker is what is known of a worker when a session looks for a place.
type Worker struct {
	ID          string
	Online      bool    // ready for new sessions: neither offline nor in maintenance
	Sessions    int     // assigned to it, running or not
	MaxSessions int     // that it can hold
	CPU         float64 // share in use, 0 to 1 or in percent, but the same for all
	Memory      float64 // likewise
}

// Room reports whether the worker can take one session more.
func (w Worker) Room() bool { return w.Online && w.Sessions < w.MaxSessions }

// Pick returns the worker that the next session goes to: among those with room, the one with the lowest share of its
// sessions used, then of CPU, then of memory; the lowest ID decides the rest, so that the same figures always give the
// same answer. false: nobody has room.
//
// The share comes first because it is counted and therefore exact, while CPU and memory are some seconds old and would
// send a burst of sessions to one worker.
func Pick(workers []Worker) (id string, ok bool) {
	var best *Worker
	for i := range workers {
		if w := &workers[i]; w.Room() && (best == nil || compare(w, best) < 0) {
			best = w
		}
	}
	if best == nil {
		return "", false
	}
	return best.ID, true
}

// compare orders workers with room, the better one first.
func compare(a, b *Worker) int {
	return cmp.Or(
		// a.Sessions/a.MaxSessions against b's, without the division: shares that are equal compare as equal.
		cmp.Compare(int64(a.Sessions)*int64(b.MaxSessions), int64(b.Sessions)*int64(a.MaxSessions)),
		cmp.Compare(a.CPU, b.CPU),
		cmp.Compare(a.Memory, b.Memory),
		strings.Compare(a.ID, b.ID),
	)
}
