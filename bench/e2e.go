package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"kurir/models"
)

const (
	senders      = 256 // connections
	drainedAfter = 5 * time.Minute
)

// endToEnd measures messages from their accept to SENT, over few sessions and over many, at full speed and at a gentle rate. The
// simulated network bears witness that none was repeated or overtaken.
func endToEnd(ctx context.Context, b *bench) error {
	for _, sessions := range slices.Compact([]int{b.few, b.many}) {
		err := b.with(ctx, fmt.Sprintf("e2e-%d", sessions), sessions, func(r *rig) error {
			if b.warmup > 0 {
				if _, err := r.flow(ctx, b.warmup, 0); err != nil {
					return err
				}
			}
			return r.flows(ctx, "e2e", fmt.Sprintf("%d sessions", sessions))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// flows measures at each rate, as often as it is asked to.
func (r *rig) flows(ctx context.Context, scenario, name string) error {
	return r.repeat(ctx, func() error {
		for _, rate := range r.rates {
			f, err := r.flow(ctx, r.duration, rate)
			if err != nil {
				return err
			}
			r.add(scenario, name+", "+speed(rate), "messages", f)
		}
		return nil
	})
}

func speed(rate int) string {
	if rate == 0 {
		return "full speed"
	}
	return fmt.Sprintf("%d/s", rate)
}

// flow sends for a while, at a rate, or at full speed for 0, and measures what became SENT meanwhile.
func (r *rig) flow(ctx context.Context, duration time.Duration, rate int) (figures, error) {
	before, err := r.witness(ctx)
	if err != nil {
		return figures{}, err
	}
	pacer := atRate(rate)
	if rate == 0 {
		g, stop := r.newGate(ctx, duration)
		defer stop()
		pacer = g
	}
	m := r.meter()
	t := attack{connections: senders, pacer: pacer, duration: duration, target: r.sends(r.phones)}.run(ctx)
	until, costs := time.Now(), m.end()
	f, err := r.sentBetween(ctx, t.began, until)
	if err != nil {
		return f, err
	}
	f.Errors = t.errors
	f.charge(costs)
	f.More["accepted a second"] = float64(t.done) / t.seconds()
	return f, r.allShown(ctx, before, t.done)
}

// sentBetween counts by when messages were sent. Latencies are of those that were accepted in this time.
func (r *rig) sentBetween(ctx context.Context, from, until time.Time) (figures, error) {
	f := figures{Seconds: until.Sub(from).Seconds(), More: map[string]float64{}}
	first := models.LowestID(from.Add(-time.Minute))
	err := r.db.Pool.QueryRow(ctx, `SELECT count(*) FROM messages WHERE id >= $1 AND sent_at >= $2 AND sent_at < $3`, first, from, until).Scan(&f.Count)
	if err != nil {
		return f, err
	}
	f.PerSecond = f.Count / f.Seconds
	if f.More["waiting at the end"], err = r.settled(ctx); err != nil {
		return f, err
	}
	err = r.db.Pool.QueryRow(ctx, `SELECT coalesce(percentile_cont(0.5) WITHIN GROUP (ORDER BY took), 0), coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY took), 0),
			coalesce(percentile_cont(0.99) WITHIN GROUP (ORDER BY took), 0), coalesce(max(took), 0)
		FROM (SELECT 1000 * extract(epoch FROM sent_at - created_at)::float8 AS took FROM messages WHERE id >= $1 AND created_at >= $2 AND created_at < $3 AND sent_at IS NOT NULL) m`,
		first, from, until).Scan(&f.Latency.P50, &f.Latency.P95, &f.Latency.P99, &f.Latency.Max)
	if err != nil {
		return f, err
	}
	f.Done, err = r.eachSecond(ctx, `SELECT count(m.id)::float8 FROM generate_series(0, $3::int - 1) s LEFT JOIN messages m
		ON m.id >= $1 AND m.sent_at >= $2::timestamptz + make_interval(secs => s) AND m.sent_at < $2::timestamptz + make_interval(secs => s + 1) GROUP BY s ORDER BY s`, first, from, int(f.Seconds))
	return f, err
}

func (r *rig) eachSecond(ctx context.Context, query string, args ...any) (list []float64, err error) {
	rows, err := r.db.Pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n float64
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}

// settled waits until nothing waits to be sent, and says how much did at first.
func (r *rig) settled(ctx context.Context) (waiting float64, err error) {
	waiting = -1
	err = eventually(ctx, drainedAfter, "everything is sent", func() (bool, string) {
		b, err := models.BacklogOf(ctx, r.db.Pool, models.LaneMessages)
		if err == nil && waiting < 0 {
			waiting = float64(b.Rows)
		}
		return err == nil && b.Rows == 0, fmt.Sprint(b, err)
	})
	return waiting, err
}
