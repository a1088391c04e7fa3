// Package placement decides which worker gets a session, which sessions move, whom to spare and how many workers there
// should be: pure rules over figures that the caller brings. It reserves nothing and calls nobody.
package placement

import (
	"cmp"
	"slices"
	"strings"
)

// Simulator is the engine whose phones are nobody's.
const Simulator = "simulator"

// TakesNew reports whether new sessions go to workers of an engine, in view of the engines of all workers that are registered, be they
// alive or not. As soon as one is real, simulated phones take none: who links his phone must not be given a simulated one because
// the real workers are full, or away for a moment. An empty name is of a worker that was announced and has never come.
func TakesNew(engine string, registered []string) bool {
	return engine != Simulator || !slices.ContainsFunc(registered, func(e string) bool { return e != "" && e != Simulator })
}

// Worker is what is known of a worker when a decision is made.
type Worker struct {
	ID          string
	Online      bool    // ready for new sessions: neither offline nor in maintenance
	Resting     bool    // flapped lately: taken only if nobody else has room
	Sessions    int     // assigned to it or reserved, running or not
	MaxSessions int     // that it can hold
	CPU, Memory float64 // percent, 0 to 100
	Troubled    int     // of its sessions, those that cannot reach the network
	Outdated    bool    // the network refuses its version: no session connects there. It rests, too
}

// Room reports whether the worker can take one session more.
func (w Worker) Room() bool { return w.Online && w.Sessions < w.MaxSessions }

// Pick returns the worker that the next session goes to: among those with room, the one with the lowest share of its
// sessions used, then of CPU, then of memory; the lowest ID decides the rest, so that the same figures always give the
// same answer. A resting one is taken only if all with room rest. false: nobody has room.
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
	if a.Resting != b.Resting {
		if b.Resting {
			return -1
		}
		return 1
	}
	return cmp.Or(
		compareShares(a.Sessions, a.MaxSessions, b.Sessions, b.MaxSessions),
		cmp.Compare(a.CPU, b.CPU),
		cmp.Compare(a.Memory, b.Memory),
		strings.Compare(a.ID, b.ID),
	)
}

// compareShares compares a/ofA with b/ofB, without the division: shares that are equal compare as equal.
func compareShares(a, ofA, b, ofB int) int {
	return cmp.Compare(int64(a)*int64(ofB), int64(b)*int64(ofA))
}
