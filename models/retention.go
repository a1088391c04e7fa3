package models

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
)

// RetentionOf is after how many days a user wants messages dropped, nil: when the installation does.
func RetentionOf(ctx context.Context, db bun.IDB, user uuid.UUID) (days *int, err error) {
	err = db.NewSelect().Table("users").Column("retention_days").Where("id = ?", user).Scan(ctx, &days)
	return days, err
}

// SetRetention changes that.
func SetRetention(ctx context.Context, q Querier, user uuid.UUID, days *int) error {
	_, err := q.Exec(ctx, `UPDATE users SET retention_days = $2, updated_at = now() WHERE id = $1`, user, days)
	return err
}

// Keeper is a user with a retention of his own.
type Keeper struct {
	User uuid.UUID
	Days int
}

// Keepers lists users with a retention of their own, those after the given ID.
func Keepers(ctx context.Context, q Querier, after uuid.UUID, limit int) ([]Keeper, error) {
	rows, err := q.Query(ctx, `SELECT id, retention_days FROM users WHERE retention_days IS NOT NULL AND id > $1 ORDER BY id LIMIT $2`, after, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Keeper])
}

// AllSessions lists a user's sessions, deleted ones too.
func AllSessions(ctx context.Context, q Querier, user uuid.UUID) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `SELECT uid FROM sessions WHERE user_id = $1 ORDER BY uid`, user)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// overBefore is what was settled before $4, by the network's time or, where that is nonsense, by ours.
const overBefore = `m.status NOT IN ('PENDING', 'SENDING') AND (coalesce(greatest(m.sent_at, m.finished_at) < $4, true) OR m.updated_at < $4)`

// DropMessages drops up to limit of a session's oldest messages from before a time, and says how many. What is not settled stays,
// and what was scheduled counts from when it went out, or ended: its receipts are yet to come, and its owner has yet to see it.
func DropMessages(ctx context.Context, q Querier, session uuid.UUID, before time.Time, limit int) (int, error) {
	tag, err := q.Exec(ctx, `WITH old AS (
			SELECT m.id FROM messages m WHERE m.session_uid = $1 AND m.id < $2 AND `+overBefore+` ORDER BY m.id LIMIT $3)
		DELETE FROM messages m USING old WHERE m.session_uid = $1 AND m.id = old.id AND `+overBefore, session, lowestID(before), limit, before)
	return int(tag.RowsAffected()), err
}

// DropEvents drops those of a user's oldest events, limit of them, that are from before a time, and says how many. Deliveries of them stay, without
// their payload.
func DropEvents(ctx context.Context, q Querier, user uuid.UUID, before time.Time, limit int) (int, error) {
	tag, err := q.Exec(ctx, `WITH old AS (SELECT id FROM events WHERE user_id = $1 ORDER BY xid, id LIMIT $3)
		DELETE FROM events e USING old WHERE e.user_id = $1 AND e.id = old.id AND e.id < $2`, user, lowestID(before), limit)
	return int(tag.RowsAffected()), err
}

// DropDeliveries drops up to limit deliveries from before a time, with their attempts, and says how many. One that is still to
// be tried stays as long as its webhook is active.
func DropDeliveries(ctx context.Context, q Querier, before time.Time, limit int) (int, error) {
	tag, err := q.Exec(ctx, `WITH old AS (
			SELECT d.id FROM webhooks w CROSS JOIN LATERAL (SELECT o.id FROM webhook_deliveries o
				WHERE o.webhook_id = w.id AND o.created_at < $1 AND (o.status IN ('DELIVERED', 'FAILED') OR NOT w.is_active)
				ORDER BY o.created_at LIMIT $2) d LIMIT $2)
		DELETE FROM webhook_deliveries d USING old WHERE d.id = old.id`, before, limit)
	return int(tag.RowsAffected()), err
}

// SweepDeliveries removes up to limit deliveries of webhooks that were deleted, with their attempts, and says how many.
func SweepDeliveries(ctx context.Context, q Querier, limit int) (int, error) {
	tag, err := q.Exec(ctx, `WITH old AS (
			SELECT d.id FROM deleted_webhooks w CROSS JOIN LATERAL (SELECT o.id FROM webhook_deliveries o
				WHERE o.webhook_id = w.id ORDER BY o.sequence LIMIT $1) d LIMIT $1)
		DELETE FROM webhook_deliveries d USING old WHERE d.id = old.id`, limit)
	return int(tag.RowsAffected()), err
}

// ForgetWebhooks forgets which webhooks were deleted, when nothing is left of them and no transaction is under way any more that
// knew them.
func ForgetWebhooks(ctx context.Context, q Querier) error {
	_, err := q.Exec(ctx, `DELETE FROM deleted_webhooks w WHERE deleted_at < now() - interval '1 hour'
		AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = w.id)`)
	return err
}

// Families of partitions that are dropped together, in the order in which statements lock them.
var (
	MessagePartitions = []string{"messages", "message_index"}
	EventPartitions   = []string{"events"}
)

// dropLock is how long the dropping of a month, or the making of one, may hold up everybody else.
const dropLock = "1s"

// DropMonth drops the oldest month of a family, if all of it lies before a time and nothing in it or older is unfinished, and
// says whether it did. All statements on these tables wait meanwhile: some milliseconds, and dropLock until then at most;
// if the tables are too busy for that, the next call tries again.
func DropMonth(ctx context.Context, db *DB, family []string, before time.Time) (dropped bool, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		dropped = false
		month, err := oldestMonth(ctx, tx, family[0])
		if err != nil || month.IsZero() || month.AddDate(0, 1, 0).After(before) {
			return err
		}
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+dropLock+"'"); err != nil {
			return err
		}
		for _, parent := range family {
			if _, err := tx.Exec(ctx, "LOCK TABLE "+pgx.Identifier{parent}.Sanitize()+" IN ACCESS EXCLUSIVE MODE"); err != nil {
				return err
			}
		}
		if family[0] == "messages" {
			var busy bool
			err := tx.QueryRow(ctx, `SELECT EXISTS (`+unsettledOf("1", "m.id < $1", " LIMIT 1")+`)`, lowestID(month.AddDate(0, 1, 0))).Scan(&busy)
			if err != nil || busy {
				return err
			}
		}
		for _, parent := range family {
			if _, err := tx.Exec(ctx, "SELECT kurir_drop_month($1, $2::date)", parent, month); err != nil {
				return fmt.Errorf("drop %s of %s: %w", month.Format("2006-01"), parent, err)
			}
		}
		dropped = true
		return nil
	})
	if IsLockTimeout(err) {
		return false, nil
	}
	return dropped && err == nil, err
}

// oldestMonth is the first month that has a partition of its own, zero if none has.
func oldestMonth(ctx context.Context, q Querier, parent string) (time.Time, error) {
	rows, err := q.Query(ctx, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)`, parent)
	if err != nil {
		return time.Time{}, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return time.Time{}, err
	}
	slices.Sort(names)
	for _, name := range names { // the digits of months sort before "old"
		if month, err := time.Parse("200601", strings.TrimPrefix(name, parent+"_")); err == nil {
			return month, nil
		}
	}
	return time.Time{}, nil
}
