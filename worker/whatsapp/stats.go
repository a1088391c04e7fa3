package whatsapp

import (
	"context"
	"time"
)

// Stats are an engine's figures.
type Stats struct {
	Statuses   map[string]int // sessions by status
	Outdated   bool           // WhatsApp refuses this version
	Reconnects int64
	Panics     int64 // of one session each
	Fenced     int64 // sends that the database refused
	Retries    int64 // messages that phones have asked for again
	Unreadable int64 // messages that came in and could not be read, each time that they came
}

// Stats returns the engine's figures, for metrics.
func (e *Engine) Stats() Stats {
	s := Stats{Statuses: map[string]int{}, Outdated: e.outdated.Load(), Reconnects: e.reconnects.Load(), Panics: e.panics.Load(),
		Fenced: e.fenced.Load(), Retries: e.retries.Load(), Unreadable: e.unreadable.Load()}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.open {
		s.Statuses[c.State().Status]++
	}
	return s
}

// PoolStats are those of the connections to the database.
type PoolStats struct {
	Max, InUse, Idle int
	Waits            int64
	Waited           time.Duration
}

// Pool returns them.
func (e *Engine) Pool() PoolStats {
	s := e.pool.Stat()
	return PoolStats{Max: int(s.MaxConns()), InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()), Waits: s.EmptyAcquireCount(), Waited: s.EmptyAcquireWaitTime()}
}

// Ping asks whether the database of credentials answers.
func (e *Engine) Ping(ctx context.Context) error { return e.pool.Ping(ctx) }
