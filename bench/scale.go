package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// scale measures the same way of messages in a new installation and in one that has grown: with so many sessions that are stopped, their
// tenants, and a history of months. What runs is alike in both, so the second's figures against the first's are what growth costs.
func scale(ctx context.Context, b *bench) error {
	return b.with(ctx, "scale", max(b.few, 2), func(r *rig) error {
		if b.warmup > 0 {
			if _, err := r.flow(ctx, b.warmup, 0); err != nil {
				return err
			}
		}
		if err := r.flows(ctx, "scale", "new"); err != nil {
			return err
		}
		crowd, err := r.neighbours(ctx, b.crowd)
		if err != nil {
			return err
		}
		if _, err := r.fill(ctx, b.history, crowd...); err != nil {
			return err
		}
		if err := r.settle(ctx); err != nil {
			return err
		}
		if b.warmup > 0 { // plans are made, and pages read, anew
			if _, err := r.flow(ctx, b.warmup, 0); err != nil {
				return err
			}
		}
		return r.flows(ctx, "scale", fmt.Sprintf("%d sessions more, %d messages", b.crowd, b.history))
	})
}

// settledAfter bounds how long what a fill left to do may take.
const settledAfter = 15 * time.Minute

// settle waits until what a fill left to do is done: rows to be counted, words to be indexed, vacuuming. It is the work of loading, which
// would else be measured with what comes next.
func (r *rig) settle(ctx context.Context) error {
	r.say("waiting until all that was filled in is counted and vacuumed, %s at most", settledAfter)
	began := time.Now()
	err := eventually(ctx, settledAfter, "everything is counted and vacuumed", func() (bool, string) {
		var counting, indexing, vacuuming bool
		err := r.db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM analytics_changes) OR EXISTS (SELECT 1 FROM message_tallies),
			EXISTS (SELECT 1 FROM message_index WHERE todo), EXISTS (SELECT 1 FROM pg_stat_progress_vacuum WHERE datname = current_database())`).
			Scan(&counting, &indexing, &vacuuming)
		return err == nil && !counting && !indexing && !vacuuming, fmt.Sprintf("counting %t, indexing %t, vacuuming %t, %v", counting, indexing, vacuuming, err)
	})
	if err != nil {
		return err
	}
	for _, table := range []string{"analytics_changes", "analytics_counts", "message_tallies", "usage_days", "usage_months"} {
		if _, err := r.db.Pool.Exec(ctx, "VACUUM ANALYZE "+table); err != nil {
			return err
		}
	}
	r.say("settled after %s", time.Since(began).Round(time.Second))
	return nil
}

// neighbours makes so many stopped sessions with their tenants and lanes, and returns their uids.
func (r *rig) neighbours(ctx context.Context, n int) (uids []string, err error) {
	conn, err := pgx.Connect(ctx, r.servers.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	rows, err := conn.Query(ctx, neighboursSQL, n, sessionsOfTenant)
	if err != nil {
		return nil, err
	}
	if uids, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return nil, fmt.Errorf("sessions: %w", err)
	}
	for _, table := range []string{"users", "sessions", "lanes"} {
		if _, err := conn.Exec(ctx, "VACUUM ANALYZE "+table); err != nil {
			return nil, err
		}
	}
	return uids, nil
}

const neighboursSQL = `WITH owners AS (
		INSERT INTO users (id, name, email, password_hash) SELECT gen_random_uuid(), 'Crowd', 'crowd' || g || '@example.com', ''
		FROM generate_series(0, ($1::int - 1) / $2::int) g RETURNING id
	), numbered AS (SELECT id, row_number() OVER () - 1 AS at FROM owners
	), made AS (
		INSERT INTO sessions (uid, id, user_id, name, desired, status)
		SELECT gen_random_uuid(), 'crowd-' || g, o.id, 'Crowd', 'STOPPED', 'DISCONNECTED' FROM generate_series(0, $1::int - 1) g JOIN numbered o ON o.at = g / $2::int
		RETURNING uid
	), lanes AS (INSERT INTO lanes (id, kind, open) SELECT uid, 'MESSAGES', true FROM made)
	SELECT uid::text FROM made`
