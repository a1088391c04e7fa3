package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"kurir/models"
)

// gate lets full speed go on as long as what waits is below a bound: what is measured then is what the whole bears, and not how
// fast a heap grows.
type gate struct {
	open  atomic.Bool
	until time.Time
	ended <-chan struct{}
}

const (
	gateLooks = 100 * time.Millisecond
	gateWaits = time.Millisecond
)

func (r *rig) newGate(ctx context.Context, duration time.Duration) (g *gate, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	g = &gate{until: time.Now().Add(duration), ended: ctx.Done()}
	g.open.Store(true)
	var group sync.WaitGroup
	group.Go(func() { g.watch(ctx, r) })
	return g, func() { cancel(); group.Wait() }
}

// watch asks how much waits.
func (g *gate) watch(ctx context.Context, r *rig) {
	tick := time.NewTicker(gateLooks)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b, err := models.BacklogOf(ctx, r.db.Pool, models.LaneMessages)
		g.open.Store(err == nil && b.Rows < int64(r.backlog))
	}
}

// Pace is what vegeta asks before each call.
func (g *gate) Pace(time.Duration, uint64) (wait time.Duration, stop bool) {
	for !g.open.Load() {
		if time.Now().After(g.until) {
			return 0, true
		}
		select {
		case <-g.ended:
			return 0, true
		case <-time.After(gateWaits):
		}
	}
	return 0, false
}

// Rate is none.
func (g *gate) Rate(time.Duration) float64 { return 0 }
