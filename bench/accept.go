package main

import (
	"context"
	"fmt"
	"time"
)

// accept measures durable accepts on 64 and on 256 connections, and beside them, run by run, pgbench's inserts and bare Fiber.
// The runner is stopped: what it, the workers and the phones do with messages has a scenario of its own. To pause sending would not
// do: each accept would still wake its lane, and the runner would take it and give it back.
func accept(ctx context.Context, b *bench) error {
	return b.with(ctx, "accept", b.few, func(r *rig) error {
		if err := r.halt("runner"); err != nil {
			return err
		}
		if err := r.preparePlain(ctx); err != nil {
			return err
		}
		for _, connections := range []int{64, 256} {
			if b.warmup > 0 {
				attack{connections: connections, duration: b.warmup, target: r.sends(r.phones)}.run(ctx)
			}
		}
		return b.repeat(ctx, func() error { return r.acceptOnce(ctx) })
	})
}

func (r *rig) acceptOnce(ctx context.Context) error {
	plain, err := r.pgbench(ctx, r.duration)
	if err != nil {
		return err
	}
	r.add("accept", pgbenchCase, "inserts", plain)
	for _, connections := range []int{64, 256} {
		fiber, err := r.bareFiber(ctx, connections, max(r.duration/3, time.Second))
		if err != nil {
			return err
		}
		r.add("accept", fmt.Sprintf("bare Fiber, %d connections", connections), "answers", fiber)
		if err := r.acceptOn(ctx, connections, plain.PerSecond); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) acceptOn(ctx context.Context, connections int, plain float64) error {
	if err := r.forgetMessages(ctx); err != nil {
		return err
	}
	m := r.meter()
	t := attack{connections: connections, duration: r.duration, target: r.sends(r.phones)}.run(ctx)
	f := t.figures()
	f.charge(m.end())
	f.More = map[string]float64{"ratio to pgbench": f.PerSecond / plain}
	stored, err := r.scalar(ctx, `SELECT count(*) FROM messages`)
	if err != nil {
		return err
	}
	if stored < int64(t.done) {
		return fmt.Errorf("%d messages were accepted, %d are stored", t.done, stored)
	}
	r.add("accept", fmt.Sprintf("%d connections", connections), "messages", f)
	return nil
}

// forgetMessages has each run begin with empty lanes.
func (r *rig) forgetMessages(ctx context.Context) error {
	return execute(ctx, r.servers.DatabaseURL, `TRUNCATE messages, message_index`, `UPDATE lanes SET next_due_at = NULL WHERE kind = 'MESSAGES'`, `CHECKPOINT`)
}
