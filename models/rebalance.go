package models

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/placement"
)

// planMoves reserves room for moves that placement has decided and adds their jobs. Of each worker, those
// sessions move that have not moved for the longest time, and none that moved within cool. Moves for which there is no such
// session are left out.
func planMoves(ctx context.Context, tx pgx.Tx, moves []placement.Move, cool time.Duration, reason string) ([]uuid.UUID, error) {
	to := map[string][]string{}
	for _, m := range moves {
		to[m.From] = append(to[m.From], m.To)
	}
	var planned []Moving
	for from, targets := range to {
		rows, err := tx.Query(ctx, `SELECT s.uid, s.epoch FROM sessions s
			WHERE s.worker_id = $1 AND s.desired = 'RUNNING' AND s.moving_to IS NULL AND s.moved_from IS NULL
			  AND (s.moved_at IS NULL OR s.moved_at < now() - make_interval(secs => $2))
			  AND ($2 = 0 OR s.status <> 'QR_REQUIRED') -- somebody may be scanning it
			  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.session_uid = s.uid AND j.kind = $4 AND j.status IN ('QUEUED', 'RUNNING'))
			ORDER BY s.moved_at NULLS FIRST, s.uid LIMIT $3 FOR NO KEY UPDATE OF s SKIP LOCKED`, from, cool.Seconds(), len(targets), KindMigrateSession)
		if err != nil {
			return nil, err
		}
		chosen, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Moving, err error) {
			m.From, m.Reason = from, reason
			return m, row.Scan(&m.Session, &m.Epoch)
		})
		if err != nil {
			return nil, err
		}
		if err := reserve(ctx, tx, chosen, targets); err != nil {
			return nil, err
		}
		planned = append(planned, chosen...)
	}
	if len(planned) == 0 {
		return nil, nil
	}
	return insertMoves(ctx, tx, planned, nil)
}

// reserve keeps room for sessions, which are locked, at the workers of the same places in the list.
func reserve(ctx context.Context, tx pgx.Tx, list []Moving, targets []string) error {
	uids := make([]uuid.UUID, len(list))
	for i, m := range list {
		uids[i] = m.Session
	}
	_, err := tx.Exec(ctx, `UPDATE sessions s SET moving_to = t.worker, updated_at = now()
		FROM unnest($1::uuid[], $2::text[]) AS t (uid, worker) WHERE s.uid = t.uid`, uids, targets[:len(list)])
	return err
}

// Rebalance has sessions move away from workers that have too much to do, as placement decides.
func Rebalance(ctx context.Context, db *DB) (moves []placement.Move, jobs []uuid.UUID, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		moves = nil
		workers, err := lockFleet(ctx, tx)
		if err != nil {
			return err
		}
		for _, same := range workers {
			moves = append(moves, placement.Rebalance(same)...)
		}
		jobs, err = planMoves(ctx, tx, moves, placement.CoolDown, MoveRebalance)
		return err
	})
	return moves, jobs, err
}

// Drained is how far the emptying of a worker is.
type Drained struct {
	Remaining int `json:"remaining"` // sessions on it
	Moving    int `json:"moving"`    // of those, on their way
	Waiting   int `json:"waiting"`   // of those, without room elsewhere
}

// Drain has up to most sessions at a time move away from a worker.
func Drain(ctx context.Context, db *DB, worker, reason string, most int) (d Drained, jobs []uuid.UUID, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		workers, err := lockFleet(ctx, tx)
		if err != nil {
			return err
		}
		var engine string
		if err := tx.QueryRow(ctx, `SELECT w.engine, (SELECT count(*) FROM sessions s WHERE s.worker_id = w.id),
				(SELECT count(*) FROM sessions s WHERE s.worker_id = w.id AND s.moving_to IS NOT NULL)
			FROM workers w WHERE w.id = $1`, worker).Scan(&engine, &d.Remaining, &d.Moving); err != nil {
			return err
		}
		var moves []placement.Move
		for _, to := range placement.Fill(workers.without(engine, worker), max(min(d.Remaining, most)-d.Moving, 0), 0) {
			if to != "" {
				moves = append(moves, placement.Move{From: worker, To: to})
			}
		}
		jobs, err = planMoves(ctx, tx, moves, 0, reason)
		d.Moving += len(jobs)
		d.Waiting = max(min(d.Remaining, most)-d.Moving, 0)
		return err
	})
	return d, jobs, err
}

// RoomElsewhere reports whether somebody else could take a session of a worker.
func RoomElsewhere(ctx context.Context, q Querier, worker string) (bool, error) {
	var engine string
	if err := q.QueryRow(ctx, `SELECT engine FROM workers WHERE id = $1`, worker).Scan(&engine); err != nil {
		return false, err
	}
	workers, err := readFleet(ctx, q)
	_, ok := placement.Pick(workers.without(engine, worker))
	return ok, err
}

// EscapeTrouble has sessions move that could not reach the network for the given time, if that is their worker's
// trouble and not the network's. A worker with trouble at large rests, so that they do not come back at once; one whose version the
// network refuses takes none until it is another process.
func EscapeTrouble(ctx context.Context, db *DB, after time.Duration) (jobs []uuid.UUID, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		jobs = nil
		rows, err := tx.Query(ctx, `SELECT DISTINCT s.worker_id FROM sessions s
			WHERE s.trouble_at < now() - make_interval(secs => $1) AND s.worker_id IS NOT NULL AND s.moving_to IS NULL AND s.desired = 'RUNNING'`, after.Seconds())
		if err != nil {
			return err
		}
		troubled, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(troubled) == 0 {
			return err
		}
		workers, err := lockFleet(ctx, tx)
		if err != nil {
			return err
		}
		for engine, same := range workers {
			for _, w := range same {
				moved, err := escape(ctx, tx, workers, engine, w, after)
				if err != nil {
					return err
				}
				jobs = append(jobs, moved...)
			}
		}
		return nil
	})
	return jobs, err
}

// escapeLimit is how many sessions leave a worker in one round.
const escapeLimit = 500

func escape(ctx context.Context, tx pgx.Tx, workers fleet, engine string, w placement.Worker, after time.Duration) ([]uuid.UUID, error) {
	if w.Troubled == 0 || !placement.Escape(workers[engine], w.ID) {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `SELECT s.uid, s.epoch FROM sessions s WHERE s.worker_id = $1 AND s.trouble_at < now() - make_interval(secs => $2)
		AND s.moving_to IS NULL AND s.desired = 'RUNNING' ORDER BY s.uid LIMIT $3 FOR NO KEY UPDATE OF s SKIP LOCKED`, w.ID, after.Seconds(), escapeLimit)
	if err != nil {
		return nil, err
	}
	var list []Moving
	var m Moving
	if _, err := pgx.ForEachRow(rows, []any{&m.Session, &m.Epoch}, func() error {
		list = append(list, Moving{Session: m.Session, From: w.ID, Epoch: m.Epoch, Reason: MoveNetwork})
		return nil
	}); err != nil || len(list) == 0 {
		return nil, err
	}
	if placement.Ailing(w) && !w.Outdated {
		if _, err := tx.Exec(ctx, `UPDATE workers SET resting_until = greatest(resting_until, now() + make_interval(secs => $2)), problem = $3,
			problem_since = coalesce(problem_since, now()), updated_at = now() WHERE id = $1`, w.ID, ailingRest.Seconds(), ProblemNetwork); err != nil {
			return nil, err
		}
	}
	better := slices.DeleteFunc(workers.without(engine, w.ID), func(o placement.Worker) bool {
		return !placement.Escape([]placement.Worker{w, o}, w.ID)
	})
	targets := slices.DeleteFunc(placement.Fill(better, len(list), 0), func(to string) bool { return to == "" })
	for _, to := range targets {
		workers.count(engine, to, +1)
	}
	list = list[:len(targets)] // "" stands at the end only
	if err := reserve(ctx, tx, list, targets); err != nil {
		return nil, err
	}
	return insertMoves(ctx, tx, list, nil)
}

// ailingRest is how long a worker that cannot reach the network gets no new sessions while others have room.
const ailingRest = 5 * time.Minute

// ProblemNetwork is what an operator reads of such a worker.
const ProblemNetwork = "Its sessions cannot reach the network, while those of other workers can."

// ProblemOutdated is what he reads of one whose version the network refuses.
const ProblemOutdated = "WhatsApp refuses its version, and none of its sessions connects: see docs/runbooks/whatsapp-outdated.md."
