package whatsapp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Old rows are deleted by each worker in its turn, those of all sessions: one that is held by nobody has some too, and what is
// read for it grows with the installation, so it must not be read for each session.
const (
	sweepEvery = 6 * time.Hour
	sweepFirst = 10 * time.Minute // after the start, at the latest
	sweepRows  = 1000             // at a time
	sweepLock  = upgradeLock + 1
	// WhatsApp delivers again what is less than 14 days old.
	keepBuffered = 14 * 24 * time.Hour
	// An epoch is kept for longer than any worker of the past could sleep.
	keepUnlinked = 90 * 24 * time.Hour
)

// upkeep sweeps until the engine closes.
func (e *Engine) upkeep() {
	wait := rand.N(sweepFirst) //nolint:gosec // spreads workers that start at once
	for {
		select {
		case <-time.After(wait):
		case <-e.ctx.Done():
			return
		}
		if _, err := e.sweep(e.ctx, time.Now()); err != nil && e.ctx.Err() == nil {
			e.log.Warn("old rows are not deleted", "error", redact(err.Error()))
		}
		wait = sweepEvery
	}
}

// sweep deletes what nobody will ask for any more. It answers false if another worker is at it.
func (e *Engine) sweep(ctx context.Context, now time.Time) (mine bool, err error) {
	db := fenced(e.pool, fenceUpgrade, everyDevice)
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }() // it only goes back
	if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(sweepLock)).Scan(&mine); err != nil || !mine {
		return false, err
	}
	defer func() {
		_, unlocked := conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", int64(sweepLock))
		err = errors.Join(err, unlocked)
	}()
	for _, old := range []struct {
		table, condition string
		before           any
	}{
		{"kurir_sent", "begun_at < $1", now.Add(-keepSent)},
		{"kurir_polls", "seen_at < $1", now.Add(-keepPolls)},
		{"kurir_groups", "made_at < $1", now.Add(-keepMade)},
		{"whatsmeow_event_buffer", "insert_timestamp < $1", now.Add(-keepBuffered).UnixMilli()},
		{"kurir_sessions", "changed_at < $1 AND jid IS NULL", now.Add(-keepUnlinked)},
	} {
		if err := deleteAll(ctx, conn, old.table, old.condition, old.before); err != nil {
			return true, fmt.Errorf("delete old rows of %s: %w", old.table, err)
		}
	}
	return true, nil
}

// deleteAll deletes some rows at a time, so that nobody waits for long.
func deleteAll(ctx context.Context, conn *sql.Conn, table, condition string, before any) error {
	statement := fmt.Sprintf("DELETE FROM %[1]s WHERE ctid = ANY (ARRAY(SELECT ctid FROM %[1]s WHERE %[2]s LIMIT %[3]d)) AND %[2]s", table, condition, sweepRows) //nolint:gosec // they are sweep's own words
	for {
		r, err := conn.ExecContext(ctx, statement, before)
		if err != nil {
			return err
		}
		if deleted, err := r.RowsAffected(); err != nil || deleted < sweepRows {
			return err
		}
	}
}
