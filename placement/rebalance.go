package placement

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

const (
	// CPUHigh is the CPU, in percent, above which a worker gives sessions away.
	CPUHigh = 80.0
	// MemoryHigh is the same of memory.
	MemoryHigh = 90.0
	// SessionsHigh is the share of its room above which a worker gives sessions away.
	SessionsHigh = 0.9
	// TargetBelow is the share of its room up to which a worker is filled with sessions that others give away.
	TargetBelow = 0.7
	// MovesPerRound bounds how many sessions leave one worker, and how many come to one, per round: a move interrupts its
	// session, and the figures must follow before more is done.
	MovesPerRound = 5
	// CoolDown is how long a session that was moved stays where it is, whatever the figures say.
	CoolDown = 10 * time.Minute

	// targetCPU and targetMemory, in percent, are how full a worker may become by moves. The 10 points below CPUHigh and
	// MemoryHigh are for what the estimate of a session's cost misses.
	targetCPU    = 70.0
	targetMemory = 80.0
)

// Move says that one session, which the caller chooses among those that MayMove, goes from one worker to another.
type Move struct{ From, To string }

// MayMove reports whether a session that was moved last at lastMoved (zero: never) may be moved again.
func MayMove(lastMoved, now time.Time) bool {
	return lastMoved.IsZero() || now.Sub(lastMoved) >= CoolDown
}

// Rebalance returns the moves of one round: from workers that are overloaded to others that stay well below, the most
// overloaded first, and no more than are needed. Callers pass only workers whose lease lives. One in maintenance neither
// gives, since somebody else is draining it, nor takes; a resting one only gives. The same figures always give the same
// answer, in whatever order they come.
//
// What a session costs is estimated as its source's CPU and memory, divided by its sessions. That is too much rather
// than too little, because it counts what the worker needs without any session.
//
// Nothing ping-pongs while the load stays what it is: a worker that took a session ends at or below 70 % of its room, 70 %
// CPU and 80 % memory, and it gives only above 90 %, 80 % and 90 %. So it never gives what it took, each session moves at
// most once, and the rounds come to an end. The points between absorb sessions that are dearer than the estimate, as long
// as five cost no more than 10 points above it; beyond that, and while loads change, CoolDown bounds how often one moves.
// Rounds must be far enough apart for the figures to show the moves of the last one.
func Rebalance(workers []Worker) []Move {
	var sources, targets []party
	for _, w := range workers {
		switch {
		case !w.Online:
		case strain(w) > 1:
			sources = append(sources, party{Worker: w})
		case !w.Resting:
			targets = append(targets, party{Worker: w})
		}
	}
	slices.SortFunc(sources, func(a, b party) int {
		return cmp.Or(cmp.Compare(strain(b.Worker), strain(a.Worker)), strings.Compare(a.ID, b.ID))
	})
	var moves []Move
	for i := range sources {
		from := &sources[i]
		one := costOf(from.Worker)
		for from.moves < MovesPerRound && strain(from.Worker) > 1 {
			to := best(targets, &from.Worker, one)
			if to == nil {
				break
			}
			from.shift(-1, one)
			to.shift(+1, one)
			moves = append(moves, Move{From: from.ID, To: to.ID})
		}
	}
	return moves
}

// strain is how overloaded a worker is by the worst of its figures: above 1 it gives sessions away. Without sessions
// it has nothing to give. Sessions where there is room for none strain it without bound.
func strain(w Worker) float64 {
	if w.Sessions <= 0 {
		return 0
	}
	return max(w.CPU/CPUHigh, w.Memory/MemoryHigh, float64(w.Sessions)/(SessionsHigh*float64(w.MaxSessions)))
}

// cost is what one session is believed to take of a worker, in percent.
type cost struct{ cpu, memory float64 }

func costOf(w Worker) cost {
	return cost{cpu: w.CPU / float64(w.Sessions), memory: w.Memory / float64(w.Sessions)}
}

// party is a worker that takes part in a round. Its figures are those that the moves decided so far will leave.
type party struct {
	Worker
	moves int // decided so far, from it or to it
}

// shift records that a session comes (+1) or goes (-1).
func (p *party) shift(sessions int, one cost) {
	p.Sessions += sessions
	p.CPU += float64(sessions) * one.cpu
	p.Memory += float64(sessions) * one.memory
	p.moves++
}

// best returns where one session of from goes: of the workers that may take it, the one that Pick would take. nil: nobody.
func best(targets []party, from *Worker, one cost) *party {
	var found *party
	for i := range targets {
		if t := &targets[i]; t.takes(from, one) && (found == nil || compare(&t.Worker, &found.Worker) < 0) {
			found = t
		}
	}
	return found
}

// takes reports whether the worker may take one session of from.
func (p *party) takes(from *Worker, one cost) bool {
	const percent = int(TargetBelow * 100) // in whole numbers 63 of 90 is 70 %, with floats a little more
	return p.moves < MovesPerRound &&
		compareShares(p.Sessions+1, p.MaxSessions, percent, 100) <= 0 &&
		p.CPU+one.cpu <= targetCPU &&
		p.Memory+one.memory <= targetMemory &&
		(!crowdedOnly(from) || compareShares(p.Sessions+1, p.MaxSessions, from.Sessions-1, from.MaxSessions) <= 0)
}

// crowdedOnly reports whether the number of sessions is all that strains the worker. Its sessions then go only where it
// is no fuller than the place that they leave. That matters among tiny workers: one with a single place is full with one
// session, and moving that to a worker that will be half full would help nobody. A worker that should have none gives its
// last one too.
func crowdedOnly(w *Worker) bool {
	return w.CPU <= CPUHigh && w.Memory <= MemoryHigh && w.MaxSessions > 0
}
