package models

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/fault"
	"kurir/placement"
	"kurir/wire"
)

// Faults of registering.
var (
	ErrWorkerLive    = fault.New(fault.Conflict, wire.CodeWorkerLive, "Another process holds a live lease under this workerId. Wait until it has lapsed.")
	ErrWorkerRemoved = fault.New(fault.Forbidden, wire.CodeWorkerRemoved, "An administrator removed this worker. Start it anew to bring it back.")
)

// lapse are the changes of a worker whose lease is over without a goodbye. Its term ends with it, so that a late heartbeat
// renews nothing. $1 is the seconds of rest by number of flaps, $2 the time within which lapses count as flapping.
const lapse = `flaps = CASE WHEN w.lapsed_at > now() - make_interval(secs => $2) THEN w.flaps + 1 ELSE 1 END,
	resting_until = now() + make_interval(secs => ($1::float8[])[CASE WHEN w.lapsed_at > now() - make_interval(secs => $2)
		THEN least(w.flaps + 1, cardinality($1::float8[])) ELSE 1 END]),
	lapsed_at = now(), term = w.term + 1, updated_at = now()`

// rests are the seconds of rest after the first, second, … lapse.
func rests() []float64 {
	list := make([]float64, 8)
	for i := range list {
		list[i] = placement.Rest(i + 1).Seconds()
	}
	return list
}

// RegisterWorker starts a new term of a worker, unless another process holds a live lease under its ID (ErrWorkerLive).
// resumed says that the caller has proven to be the process of r.PreviousTerm, which holds nothing any more: it
// need not wait for its own lease to lapse. But if it was removed, it may not come back (ErrWorkerRemoved); a new process may.
// A worker of another ID at the same endpoint that is no longer alive gives the endpoint up.
func RegisterWorker(ctx context.Context, tx pgx.Tx, r wire.Register, lease time.Duration, resumed bool) (term int64, err error) {
	lapseOne := func(where string, args ...any) error {
		_, err := tx.Exec(ctx, `UPDATE workers w SET status = 'OFFLINE', `+lapse+where, append([]any{rests(), placement.FlapWindow.Seconds()}, args...)...)
		return err
	}
	if err := lapseOne(` WHERE endpoint = $3 AND id <> $4 AND lease_expires_at <= now() AND status <> 'OFFLINE'`, r.Endpoint, r.WorkerID); err != nil {
		return 0, err
	}
	// A row to lock, so that of those who register a new ID at once all but one wait here, and then see the lease. FOR UPDATE
	// also waits for whoever is giving this worker's sessions away.
	if _, err := tx.Exec(ctx, `INSERT INTO workers (id, endpoint, status) VALUES ($1, $2, 'OFFLINE') ON CONFLICT DO NOTHING`, r.WorkerID, r.Endpoint); err != nil {
		return 0, err
	}
	var removed, live, crashed bool
	var was int64
	var engine string
	if err := tx.QueryRow(ctx, `SELECT removed_at IS NOT NULL, lease_expires_at > now(), status <> 'OFFLINE', term, engine
		FROM workers WHERE id = $1 FOR UPDATE`, r.WorkerID).Scan(&removed, &live, &crashed, &was, &engine); err != nil {
		return 0, err
	}
	switch {
	case removed && resumed:
		return 0, ErrWorkerRemoved
	case live && (!resumed || was != r.PreviousTerm):
		return 0, ErrWorkerLive
	case crashed && !resumed: // it is back before the tick has noticed
		if err := lapseOne(` WHERE id = $3`, r.WorkerID); err != nil {
			return 0, err
		}
	}
	if engine != "" && engine != r.Engine {
		if err := disown(ctx, tx, r.WorkerID, r.Engine); err != nil {
			return 0, err
		}
	}
	err = tx.QueryRow(ctx, `INSERT INTO workers AS w (id, endpoint, status, max_sessions, engine, version, description, term, lease_expires_at)
		VALUES ($1, $2, 'ONLINE', $3, $4, $5, nullif($6, ''), 1, now() + make_interval(secs => $7))
		ON CONFLICT (id) DO UPDATE SET endpoint = excluded.endpoint, max_sessions = excluded.max_sessions, engine = excluded.engine,
			version = excluded.version, description = coalesce(excluded.description, w.description), term = w.term + 1,
			status = CASE WHEN w.maintenance THEN 'MAINTENANCE' ELSE 'ONLINE' END, removed_at = NULL,
			problem = NULL, problem_since = NULL, probe_failures = 0,
			lease_expires_at = excluded.lease_expires_at, last_heartbeat = now(), updated_at = now()
		RETURNING term`, r.WorkerID, r.Endpoint, r.MaxSessions, r.Engine, r.Version, r.Description, lease.Seconds()).Scan(&term)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO worker_streams (worker_id, term, next_seq) VALUES ($1, $2, 1)
		ON CONFLICT (worker_id) DO UPDATE SET term = excluded.term, next_seq = 1`, r.WorkerID, term)
	return term, err
}

// disown takes the sessions of other engines from a worker that comes back with this one: what is linked by one cannot be
// held by another. The lease tick finds them a place.
func disown(ctx context.Context, tx pgx.Tx, worker, engine string) error {
	rows, err := tx.Query(ctx, `SELECT uid FROM sessions WHERE worker_id = $1 AND engine <> $2 AND desired = 'RUNNING' ORDER BY uid FOR NO KEY UPDATE`, worker, engine)
	if err != nil {
		return err
	}
	uids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(uids) == 0 {
		return err
	}
	list := make([]assignment, len(uids))
	for i, uid := range uids {
		list[i] = assignment{session: uid}
	}
	_, err = assignAndEmit(ctx, tx, list, MoveOffline) // the sweep wakes the webhooks
	return err
}

// RenewLease takes a heartbeat of a worker in its present term; a heartbeat of another term changes nothing and answers
// false. "offline" ends lease and term at once: the worker says that it holds nothing any more.
func RenewLease(ctx context.Context, db bun.IDB, id string, h wire.Heartbeat, lease time.Duration) (bool, error) {
	if h.Status == "offline" {
		res, err := db.NewUpdate().Model((*Worker)(nil)).Set("status = 'OFFLINE'").Set("lease_expires_at = now()").Set("term = w.term + 1").
			Set("problem = NULL").Set("problem_since = NULL").Set("last_heartbeat = now()").Set("updated_at = now()").
			Where("id = ?", id).Where("term = ?", h.Term).Exec(ctx)
		return changed(res, err)
	}
	res, err := db.NewUpdate().Model((*Worker)(nil)).
		Set("status = CASE WHEN w.maintenance OR ? = 'maintenance' THEN 'MAINTENANCE' ELSE 'ONLINE' END", h.Status).
		Set("cpu_usage = ?", h.Metrics.CPUUsage).Set("memory_usage = ?", h.Metrics.MemoryUsage).
		Set("message_count = ?", h.Metrics.MessageCount).Set("uptime = ?", h.Metrics.Uptime).
		Set("lease_expires_at = now() + make_interval(secs => ?)", lease.Seconds()).
		Set("last_heartbeat = now()").Set("updated_at = now()").
		Where("id = ?", id).Where("term = ?", h.Term).Where("removed_at IS NULL").Exec(ctx)
	return changed(res, err)
}

// WhyNotCurrent is the error for a worker whose term is over: ErrWorkerRemoved or ErrStaleTerm.
func WhyNotCurrent(ctx context.Context, db bun.IDB, id string) error {
	removed, err := db.NewSelect().Model((*Worker)(nil)).Where("id = ?", id).Where("removed_at IS NOT NULL").Exists(ctx)
	switch {
	case err != nil:
		return err
	case removed:
		return ErrWorkerRemoved
	}
	return ErrStaleTerm
}

// LeaseLive reports whether a worker's lease of the given term lives.
func LeaseLive(ctx context.Context, db bun.IDB, id string, term int64) (bool, error) {
	return db.NewSelect().Model((*Worker)(nil)).Where("id = ?", id).Where("term = ?", term).Where("lease_expires_at > now()").Exists(ctx)
}

// Beat notes that heartbeats can be taken now. After a break of a quarter of a lease the time counts anew: workers may have
// failed to renew through no fault of theirs.
func Beat(ctx context.Context, q Querier, lease time.Duration) error {
	_, err := q.Exec(ctx, `INSERT INTO intake AS i (since, seen, lease) VALUES (now(), now(), make_interval(secs => $1))
		ON CONFLICT (one) DO UPDATE SET since = CASE WHEN i.seen < now() - excluded.lease / 4 THEN now() ELSE i.since END,
			seen = now(), lease = excluded.lease`, lease.Seconds())
	return err
}

// leasesMayLapse reports whether heartbeats could be taken for one full lease without a break.
func leasesMayLapse(ctx context.Context, tx pgx.Tx) (may bool, err error) {
	err = tx.QueryRow(ctx, `SELECT coalesce((SELECT since <= now() - lease AND seen >= now() - lease / 4 FROM intake), false)`).Scan(&may)
	return may, err
}

// Lapsed is a worker whose lease is over.
type Lapsed struct {
	ID     string
	Silent time.Duration // since its last heartbeat
	Flaps  int
}

// lapseLeases ends the leases, and the terms, of workers that did not renew.
func lapseLeases(ctx context.Context, tx pgx.Tx) ([]Lapsed, error) {
	rows, err := tx.Query(ctx, `UPDATE workers w SET status = 'OFFLINE', `+lapse+`
		WHERE lease_expires_at <= now() AND status <> 'OFFLINE'
		RETURNING id, extract(epoch FROM now() - last_heartbeat)::float8, flaps`, rests(), placement.FlapWindow.Seconds())
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Lapsed, error) {
		var l Lapsed
		var silent float64
		err := row.Scan(&l.ID, &silent, &l.Flaps)
		l.Silent = time.Duration(silent * float64(time.Second))
		return l, err
	})
}

// Holding is what a heartbeat's list of sessions comes to.
type Holding struct {
	Drop []string // not its own, or not at that epoch
	Lost int      // confirmed once and no longer held: to be created again
}

// lostAfter is how long a session must have been confirmed before its absence from a heartbeat means something: the list
// may have been written before.
const lostAfter = 15 * time.Second

// CompareHeld compares what a worker says it holds with what is assigned to it; sessions that were deleted or logged out are until that has
// been carried out. Sessions that it has lost are marked, so
// that reconcile has them created again.
func CompareHeld(ctx context.Context, db *DB, worker string, term int64, held []wire.HeldSession) (h Holding, err error) {
	rows, err := db.Pool.Query(ctx, `SELECT uid::text, epoch, desired = 'RUNNING' AND held_term = $2 AND held_at < now() - make_interval(secs => $3)
		FROM sessions WHERE worker_id = $1 AND desired IN ('RUNNING', 'LOGGED_OUT', 'DELETED')`, worker, term, lostAfter.Seconds())
	if err != nil {
		return h, err
	}
	epochs := map[string]int64{}
	var settled []string
	var uid string
	var epoch int64
	var settledHere bool
	if _, err := pgx.ForEachRow(rows, []any{&uid, &epoch, &settledHere}, func() error {
		epochs[uid] = epoch
		if settledHere {
			settled = append(settled, uid)
		}
		return nil
	}); err != nil {
		return h, err
	}
	said := make(map[string]bool, len(held))
	for _, s := range held {
		said[s.SessionID] = true
		if epoch, own := epochs[s.SessionID]; !own || epoch != s.Epoch {
			h.Drop = append(h.Drop, s.SessionID)
		}
	}
	var lost []string
	for _, uid := range settled {
		if !said[uid] {
			lost = append(lost, uid)
		}
	}
	if len(lost) == 0 {
		return h, nil
	}
	tag, err := db.Pool.Exec(ctx, `UPDATE sessions SET held_term = 0, held_at = NULL, updated_at = now()
		WHERE uid = ANY($1::text[]::uuid[]) AND worker_id = $2 AND held_term = $3`, lost, worker, term)
	h.Lost = int(tag.RowsAffected())
	return h, err
}
