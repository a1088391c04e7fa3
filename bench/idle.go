package main

import (
	"context"
	"fmt"
	"time"
)

// idle measures what many connected sessions cost while nobody sends.
func idle(ctx context.Context, b *bench) error {
	return b.with(ctx, "idle", b.many, func(r *rig) error {
		if err := pause(ctx, b.warmup); err != nil {
			return err
		}
		return b.repeat(ctx, func() error {
			m, began := r.meter(), time.Now()
			if err := pause(ctx, b.idle); err != nil {
				return err
			}
			f := figures{Seconds: time.Since(began).Seconds(), More: map[string]float64{}, Costs: m.end()}
			for _, c := range f.Costs {
				if c.Process != loadName && c.Process != gatewayName {
					f.More["CPU seconds a minute"] += c.PerMin
					f.More["MB"] += c.PeakMB
				}
			}
			b.add("idle", fmt.Sprintf("%d sessions", b.many), "calls", f)
			return nil
		})
	})
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
