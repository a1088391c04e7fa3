package models

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/placement"
)

// Failover is what a look at the leases led to.
type Failover struct {
	Waiting  bool // heartbeats could not be taken for a full lease yet: nobody lapses
	Lapsed   []Lapsed
	Freed    int // sessions whose worker is gone
	Placed   int // of those and of the ones that waited for room
	Jobs     []uuid.UUID
	Webhooks []Woken
}

const (
	failoverLimit = 5000 // sessions that one transaction gives away
	// homelessShare is the part of its room that a worker is given at once of sessions that wait for any: when all workers
	// come back, the first one should not get everything.
	homelessShare = 10
	homelessLeast = 5
)

// ExpireLeases ends the leases that were not renewed and gives the sessions of workers that are gone to others, in one
// transaction. Sessions for which nobody has room wait without a worker, and are placed here as soon as there is some.
func ExpireLeases(ctx context.Context, db *DB) (f *Failover, err error) {
	var due bool
	if err := db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM workers WHERE lease_expires_at <= now() AND status <> 'OFFLINE')
		OR EXISTS (SELECT 1 FROM workers w JOIN sessions s ON s.worker_id = w.id WHERE w.status = 'OFFLINE' AND s.desired = 'RUNNING' AND w.lease_expires_at <= now())
		OR EXISTS (SELECT 1 FROM sessions WHERE worker_id IS NULL AND desired = 'RUNNING')`).Scan(&due); err != nil || !due {
		return &Failover{}, err
	}
	err = db.InPgxTxLast(ctx, func(tx pgx.Tx, last *pgx.Batch) error {
		f = &Failover{}
		// The lock first: whoever places sessions sees all workers' leases before, or after.
		workers, err := lockFleet(ctx, tx)
		if err != nil {
			return err
		}
		may, err := leasesMayLapse(ctx, tx)
		if err != nil {
			return err
		}
		if f.Waiting = !may; may {
			if f.Lapsed, err = lapseLeases(ctx, tx); err != nil {
				return err
			}
		}
		return f.giveAway(ctx, tx, workers, last)
	})
	return f, err
}

// stray is a session without a living worker.
type stray struct {
	moving   Moving
	engine   string
	reserved string // where room is kept for it: it was about to move
}

func (f *Failover) giveAway(ctx context.Context, tx pgx.Tx, workers fleet, last *pgx.Batch) error {
	for l := range f.Lapsed {
		if err := WriteAudit(ctx, tx, Audit{Level: "WARN", Service: "runner", Message: "worker.offline", Worker: f.Lapsed[l].ID,
			Details: map[string]any{"silentSeconds": f.Lapsed[l].Silent.Seconds(), "flaps": f.Lapsed[l].Flaps}}); err != nil {
			return err
		}
	}
	freed, err := abandoned(ctx, tx)
	if err != nil {
		return err
	}
	homeless, err := strays(ctx, tx, `s.worker_id IS NULL AND s.engine = ANY($2)`, workers.enginesWithRoom())
	if err != nil {
		return err
	}
	f.Freed = len(freed)
	var given []assignment
	var moves []Moving
	place := func(s stray, worker string) {
		given = append(given, assignment{s.moving.Session, worker})
		if worker != "" {
			moves = append(moves, s.moving)
		}
	}
	freed = slices.DeleteFunc(freed, func(s stray) bool {
		w, ok := workers.worker(s.engine, s.reserved)
		if ok = ok && w.Online; ok {
			place(s, s.reserved) // it counts there already
		}
		return ok
	})
	for _, group := range []struct {
		list  []stray
		paced bool
	}{{freed, false}, {homeless, true}} {
		for engine, list := range byEngine(group.list) {
			most := 0
			if group.paced {
				most = pace(workers[engine])
			}
			for i, id := range placement.Fill(workers[engine], len(list), most) {
				if id == "" && group.paced {
					continue // it goes on waiting
				}
				place(list[i], id)
				workers.count(engine, id, +1)
			}
		}
	}
	if f.Placed = len(moves); len(given) == 0 {
		return nil
	}
	if f.Jobs, err = insertMoves(ctx, tx, moves, nil); err != nil {
		return err
	}
	events, err := assign(ctx, tx, given, MoveOffline)
	if err != nil {
		return err
	}
	return queueEmit(last, events, &f.Webhooks)
}

// abandoned locks the sessions of workers that are gone. The workers' rows are locked first, so that none of them registers
// and is asked to hold what is being given away: registering waits, and whoever has registered already is not gone.
func abandoned(ctx context.Context, tx pgx.Tx) ([]stray, error) {
	rows, err := tx.Query(ctx, `SELECT w.id FROM workers w WHERE w.status = 'OFFLINE' AND w.lease_expires_at <= now()
		AND EXISTS (SELECT 1 FROM sessions s WHERE s.worker_id = w.id AND s.desired = 'RUNNING') ORDER BY w.id FOR KEY SHARE OF w`)
	if err != nil {
		return nil, err
	}
	gone, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(gone) == 0 {
		return nil, err
	}
	return strays(ctx, tx, `s.worker_id = ANY($2)`, gone)
}

// strays locks sessions. One that somebody else has locked is left for the next look: nobody waits for it.
func strays(ctx context.Context, tx pgx.Tx, where string, of []string) ([]stray, error) {
	rows, err := tx.Query(ctx, `SELECT s.uid, coalesce(s.worker_id, s.moved_from, ''), s.epoch, s.engine, coalesce(s.moving_to, '') FROM sessions s
		WHERE s.desired = 'RUNNING' AND `+where+` ORDER BY s.uid LIMIT $1 FOR NO KEY UPDATE OF s SKIP LOCKED`, failoverLimit, of)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s stray, err error) {
		s.moving.Reason = MoveOffline
		return s, row.Scan(&s.moving.Session, &s.moving.From, &s.moving.Epoch, &s.engine, &s.reserved)
	})
}

// pace is how many waiting sessions a worker is given at once.
func pace(workers []placement.Worker) int {
	room := 0
	for _, w := range workers {
		room = max(room, w.MaxSessions)
	}
	return max(room/homelessShare, homelessLeast)
}

func byEngine(list []stray) map[string][]stray {
	m := map[string][]stray{}
	for _, s := range list {
		m[s.engine] = append(m[s.engine], s)
	}
	return m
}
