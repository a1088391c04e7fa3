package models

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// suspend has the running sessions stop that a condition on sessions chooses, and remembers which of them were of use. The jobs
// that see to it are those of every stop: reconciling adds them.
func suspend(ctx context.Context, tx pgx.Tx, which string, args ...any) (int, error) {
	rows, err := tx.Query(ctx, `UPDATE sessions SET desired = 'STOPPED', moving_to = NULL, trouble_at = NULL, qr_code = NULL, qr_expires_at = NULL, updated_at = now(),
			suspended_at = CASE WHEN status IN ('DISCONNECTED', 'ERROR') THEN NULL ELSE now() END
		WHERE desired = 'RUNNING' AND deleted_at IS NULL AND `+which+` RETURNING uid`, args...)
	if err != nil {
		return 0, fmt.Errorf("suspend sessions: %w", err)
	}
	uids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(uids) == 0 {
		return 0, err
	}
	return len(uids), setOpen(ctx, tx, uids, false)
}

// setOpen says whether the lanes of sessions take new messages; it locks them, last and sorted.
func setOpen(ctx context.Context, tx pgx.Tx, lanes []uuid.UUID, open bool) error {
	_, err := tx.Exec(ctx, `UPDATE lanes l SET open = $2 FROM (SELECT id FROM lanes WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE) locked
		WHERE l.id = locked.id`, lanes, open)
	return err
}

// SuspendLate is suspend for what began to run while its owner was being deactivated. No request lasts longer than it looks back.
func SuspendLate(ctx context.Context, db *DB) (n int, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		n, err = suspend(ctx, tx, `uid = ANY (ARRAY (SELECT s.uid FROM users u CROSS JOIN LATERAL (SELECT uid FROM sessions WHERE user_id = u.id AND desired = 'RUNNING' OFFSET 0) s
			WHERE NOT u.is_active AND u.updated_at > now() - interval '10 minutes'))`)
		return err
	})
	return n, err
}

// unsuspend has the sessions of a user run again that were suspended: on the worker that still has them, else where there is room,
// as soon as there is. Reconciling and failover see to both.
func unsuspend(ctx context.Context, tx pgx.Tx, user uuid.UUID) error {
	rows, err := tx.Query(ctx, `WITH back AS (
			SELECT uid FROM sessions WHERE user_id = $1 AND suspended_at IS NOT NULL AND deleted_at IS NULL ORDER BY uid FOR NO KEY UPDATE
		) UPDATE sessions s SET suspended_at = NULL, updated_at = now(),
			desired = CASE s.desired WHEN 'STOPPED' THEN 'RUNNING' ELSE s.desired END,
			reason = CASE s.desired WHEN 'STOPPED' THEN NULL ELSE s.reason END,
			status = CASE WHEN s.desired <> 'STOPPED' THEN s.status WHEN s.linked_at IS NULL THEN 'INIT' ELSE 'RECONNECTING' END
		FROM back WHERE s.uid = back.uid RETURNING s.uid, coalesce(s.worker_id, ''), s.linked_at IS NOT NULL, s.desired`, user)
	if err != nil {
		return fmt.Errorf("resume sessions of %s: %w", user, err)
	}
	var back []assignment
	var linked []uuid.UUID
	var at assignment
	var isLinked bool
	var desired string
	if _, err := pgx.ForEachRow(rows, []any{&at.session, &at.worker, &isLinked, &desired}, func() error {
		if desired != DesiredRunning {
			return nil
		}
		back = append(back, at)
		if isLinked {
			linked = append(linked, at.session)
		}
		return nil
	}); err != nil || len(back) == 0 {
		return err
	}
	if err := setOpen(ctx, tx, linked, true); err != nil {
		return err
	}
	_, err = assignAndEmit(ctx, tx, back, assignStart) // a new epoch: a late call of the stop reaches nothing; its events' webhooks are left to the sweep
	return err
}
