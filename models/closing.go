package models

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/tracing"
)

// What a closed account leaves is removed in bounded steps, each of which can be repeated. Being closed is final, so who does this
// asks for it once.

// IsClosed says whether an account is closed and its row still there.
func IsClosed(ctx context.Context, q Querier, user uuid.UUID) (closed bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE id = $1 AND closed_at IS NOT NULL)`, user).Scan(&closed)
	return closed, err
}

// ClosedDeliveries removes up to limit deliveries of a closed account's webhooks, those that it has and had, with their attempts, and says how many.
func ClosedDeliveries(ctx context.Context, q Querier, user uuid.UUID, limit int) (int, error) {
	tag, err := q.Exec(ctx, `WITH old AS (
			SELECT d.id FROM users u JOIN sessions s ON s.user_id = u.id JOIN webhooks w ON w.session_uid = s.uid
				CROSS JOIN LATERAL (SELECT o.id FROM webhook_deliveries o WHERE o.webhook_id = w.id LIMIT $2) d WHERE u.id = $1 AND u.closed_at IS NOT NULL
			UNION ALL
			SELECT d.id FROM users u JOIN webhooks w ON w.user_id = u.id AND w.session_uid IS NULL
				CROSS JOIN LATERAL (SELECT o.id FROM webhook_deliveries o WHERE o.webhook_id = w.id LIMIT $2) d WHERE u.id = $1 AND u.closed_at IS NOT NULL
			UNION ALL
			SELECT d.id FROM users u JOIN deleted_webhooks w ON w.user_id = u.id
				CROSS JOIN LATERAL (SELECT o.id FROM webhook_deliveries o WHERE o.webhook_id = w.id LIMIT $2) d WHERE u.id = $1 AND u.closed_at IS NOT NULL
			LIMIT $2)
		DELETE FROM webhook_deliveries d USING old WHERE d.id = old.id`, user, limit)
	return int(tag.RowsAffected()), err
}

// CloseSessions deletes the sessions of a closed account, each with the job that unlinks it, and the account's webhook. Deleted
// ones that nobody works on get their job again. It returns the jobs.
func CloseSessions(ctx context.Context, db *DB, user uuid.UUID, kind string) (jobs []uuid.UUID, err error) {
	if err := db.InTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := DeleteWebhook(ctx, tx, HookOwner{User: user})
		return err
	}); err != nil {
		return nil, err
	}
	var live []Session
	err = db.NewSelect().Model(&live).Column("uid", "worker_id").Where("user_id = ?", user).Where("deleted_at IS NULL").Scan(ctx)
	if err != nil {
		return nil, err
	}
	for i := range live {
		if err := db.InTx(ctx, func(ctx context.Context, tx bun.Tx) error {
			_, err := DeleteSession(ctx, tx, live[i].UID)
			return err
		}); err != nil {
			return nil, err
		}
	}
	rows, err := db.Pool.Query(ctx, `INSERT INTO jobs (id, kind, user_id, session_uid, worker_id, trace)
		SELECT kurir_uuid_v7(), $2, user_id, uid, worker_id, $3 FROM sessions s WHERE user_id = $1 AND deleted_at IS NOT NULL AND released_at IS NULL
			AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.session_uid = s.uid AND j.kind = $2 AND j.status IN ('QUEUED', 'RUNNING'))
		RETURNING id`, user, kind, tracing.Carried(ctx))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// SessionsHeld says whether a worker may still hold one of a user's deleted sessions.
func SessionsHeld(ctx context.Context, q Querier, user uuid.UUID) (held bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM sessions WHERE user_id = $1 AND released_at IS NULL)`, user).Scan(&held)
	return held, err
}

// ClosedHistory removes up to limit rows of what sessions of a closed account leave behind, and says how many: messages, then
// conversations.
func ClosedHistory(ctx context.Context, q Querier, session uuid.UUID, limit int) (int, error) {
	n, err := DropMessages(ctx, q, session, afterAll(), limit)
	if err != nil || n > 0 {
		return n, err
	}
	tag, err := q.Exec(ctx, `WITH old AS (SELECT chat FROM chats WHERE session_uid = $1 LIMIT $2)
		DELETE FROM chats c USING old WHERE c.session_uid = $1 AND c.chat = old.chat`, session, limit)
	return int(tag.RowsAffected()), err
}

// ClosedEvents removes up to limit events of a closed account, and says how many.
func ClosedEvents(ctx context.Context, q Querier, user uuid.UUID, limit int) (int, error) {
	return DropEvents(ctx, q, user, afterAll(), limit)
}

// afterAll is a time that no row is from: those that come in may be dated a day ahead.
func afterAll() time.Time { return time.Now().AddDate(1, 0, 0) }

// OfferMedia has upkeep drop what is stored for a closed account, and says whether there is anything. Its messages are gone by then.
func OfferMedia(ctx context.Context, q Querier, user uuid.UUID) (left bool, err error) {
	if _, err := q.Exec(ctx, `UPDATE media SET look_at = now() WHERE user_id = $1 AND look_at > now()`, user); err != nil {
		return false, err
	}
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM media WHERE user_id = $1)`, user).Scan(&left)
	return left, err
}

// RemoveAccount removes the row of a closed account and what hangs on it, unless a session was made in the last moment: then it
// says false. What was counted for it and the audit trail stay: they know its ID only.
func RemoveAccount(ctx context.Context, tx pgx.Tx, user uuid.UUID) (removed bool, err error) {
	if _, err := tx.Exec(ctx, `SELECT 1 FROM users WHERE id = $1 FOR UPDATE`, user); err != nil {
		return false, err
	}
	if held, err := SessionsHeld(ctx, tx, user); err != nil || held {
		return false, err
	}
	for _, statement := range []string{
		`DELETE FROM lanes l USING sessions s WHERE s.user_id = $1 AND l.id = s.uid`,
		`WITH owners AS (SELECT $1::uuid AS id UNION ALL SELECT uid FROM sessions WHERE user_id = $1)
			DELETE FROM idempotency_keys k USING owners o WHERE k.owner = o.id`,
		`DELETE FROM users WHERE id = $1 AND closed_at IS NOT NULL`,
	} {
		if _, err := tx.Exec(ctx, statement, user); err != nil {
			return false, err
		}
	}
	return true, WriteAudit(ctx, tx, Audit{Service: "runner", Message: "account.removed", User: user})
}
