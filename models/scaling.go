package models

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"kurir/placement"
)

// UpdateScaling works out how many workers there should be from how things are and what was recommended before, of the engines
// that take new sessions: room at simulated phones is none for a tenant who waits for a real one. It says whether the recommendation has changed; announce then runs in the same transaction.
func UpdateScaling(ctx context.Context, db *DB, now time.Time, announce func(tx pgx.Tx, s placement.Scaling) error) (s placement.Scaling, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO scaling (recommended, since, workers, utilization, reason) VALUES (0, 'epoch', 0, 0, '') ON CONFLICT DO NOTHING`); err != nil {
			return err
		}
		was, err := readScaling(ctx, tx, " FOR UPDATE")
		if err != nil {
			return err
		}
		workers, err := readFleet(ctx, tx)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, registeredEngines)
		if err != nil {
			return err
		}
		registered, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		f := placement.Fleet{Workers: workers.forNew(registered)}
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM sessions WHERE worker_id IS NULL AND desired = 'RUNNING' AND ($1 OR engine <> $2)`,
			placement.TakesNew(placement.Simulator, registered), placement.Simulator).Scan(&f.Homeless); err != nil {
			return err
		}
		if s = was; was.Recommended == 0 && len(f.Workers) == 0 {
			return nil // nobody has registered yet
		}
		s = placement.Recommend(was, f, now)
		var pending *time.Time
		if !s.Pending.IsZero() {
			pending = &s.Pending
		}
		if _, err := tx.Exec(ctx, `UPDATE scaling SET recommended = $1, since = $2, candidate = $3, pending = $4, workers = $5, utilization = $6,
			reason = $7, updated_at = now()`, s.Recommended, s.Since, s.Candidate, pending, s.Workers, s.Utilization, s.Reason); err != nil {
			return err
		}
		if s.Recommended == was.Recommended || was.Recommended == 0 { // the first one is no change
			return nil
		}
		if err := WriteAudit(ctx, tx, Audit{Service: "runner", Message: "scaling.recommended",
			Details: map[string]any{"from": was.Recommended, "to": s.Recommended, "workers": s.Workers, "utilization": s.Utilization}}); err != nil {
			return err
		}
		return announce(tx, s)
	})
	return s, err
}

// ScalingOf reads the recommendation; it is zero before there was one.
func ScalingOf(ctx context.Context, q Querier) (placement.Scaling, error) {
	s, err := readScaling(ctx, q, "")
	_, err = Found(err)
	return s, err
}

func readScaling(ctx context.Context, q Querier, lock string) (s placement.Scaling, err error) {
	var pending *time.Time
	err = q.QueryRow(ctx, `SELECT recommended, since, candidate, pending, workers, utilization, reason FROM scaling`+lock).
		Scan(&s.Recommended, &s.Since, &s.Candidate, &pending, &s.Workers, &s.Utilization, &s.Reason)
	if pending != nil {
		s.Pending = *pending
	}
	if s.Recommended == 0 {
		s.Since = time.Time{}
	}
	return s, err
}
