package models

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/limits"
)

// ErrQuotaMoved says that a message was let in by a count that has been made anew since: it has to be counted again.
var ErrQuotaMoved = fault.New(fault.Unavailable, "count_in_progress", "Your messages are being counted. Try again.").After(time.Second)

// Recount is how many messages of a user were accepted, by their age in slots.
type Recount struct {
	Epoch  int64
	Counts map[int64]int64
}

// RecountMessages counts the messages that a user's sessions have accepted within a time, deleted sessions included. A message
// that is on its way into the database meanwhile either is counted, or finds the lane at another epoch than the one that it
// was let in by (NewMessage.Quota), and is refused.
//
// A message is what this API accepted to send, whatever became of it: those that came in, or were sent on the phone, have
// no place in a lane.
func RecountMessages(ctx context.Context, db *DB, user uuid.UUID, within, slot time.Duration) (*Recount, error) {
	r := &Recount{Counts: map[int64]int64{}}
	err := db.InPgxTx(ctx, func(tx pgx.Tx) error {
		clear(r.Counts)
		lanes, err := lanesOf(ctx, tx, user, within)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `WITH locked AS (SELECT id, quota_epoch FROM lanes WHERE id = ANY($1) ORDER BY id FOR UPDATE)
			SELECT greatest(coalesce(max(quota_epoch), 0) + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) FROM locked`, lanes).Scan(&r.Epoch)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE lanes SET quota_epoch = $2 WHERE id = ANY($1)`, lanes, r.Epoch); err != nil {
			return err
		}
		return r.count(ctx, tx, lanes, within, slot)
	})
	if err != nil {
		return nil, fmt.Errorf("recount the messages of %s: %w", user, err)
	}
	return r, nil
}

func lanesOf(ctx context.Context, tx pgx.Tx, user uuid.UUID, within time.Duration) ([]uuid.UUID, error) {
	rows, err := tx.Query(ctx, `SELECT uid FROM sessions WHERE user_id = $1 AND deleted_at IS NULL
		UNION ALL SELECT uid FROM sessions WHERE user_id = $1 AND deleted_at > now() - $2::interval AND deleted_at IS NOT NULL`, user, within)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// idSlack is how much older than its row a message's ID may be: it is made before the row, by another clock.
const idSlack = 5 * time.Minute

func (r *Recount) count(ctx context.Context, tx pgx.Tx, lanes []uuid.UUID, within, slot time.Duration) error {
	rows, err := tx.Query(ctx, `SELECT greatest(floor(extract(epoch FROM clock_timestamp() - created_at) / extract(epoch FROM $3::interval)), 0)::bigint AS age, count(*)
		FROM messages WHERE session_uid = ANY($1) AND id >= kurir_uuid_from(now() - $2::interval - $4::interval)
			AND created_at > now() - $2::interval AND seq > 0 GROUP BY age`, lanes, within, slot, idSlack)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var age, n int64
		if err := rows.Scan(&age, &n); err != nil {
			return err
		}
		r.Counts[age] = n
	}
	return rows.Err()
}

// Limits are those of the user's tier, or his own where an administrator has set them.
func (u *User) Limits(tiers limits.Config) limits.Limits {
	return tiers.For(limits.Tier(u.Tier)).With(u.MaxSessions, u.MaxMessagesPerHour)
}

// LimitedBy names, as the subject of a sentence, what a limit comes from: the user's own if there is one, else the tier.
func (u *User) LimitedBy(own *int) string {
	if own != nil {
		return "Your account"
	}
	return u.Tier + " tier"
}
