package models

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Usage is what a user used in a month.
type Usage struct {
	Closed   bool
	Messages int64
	APIHits  int64
	Sessions []SessionUsage // most used first, UsageRows at most
	Keys     []KeyUsage     // likewise
	Days     []DayUsage     // those on which there was anything
}

// UsageRows bounds the lists: who makes and deletes sessions all the time has many in a month.
const UsageRows = 1000

// SessionUsage is what was used of a session. ID and Name are empty if nothing but its figures is left.
type SessionUsage struct {
	UID      uuid.UUID
	ID, Name string
	Deleted  bool
	Messages int64
	APIHits  int64
}

// KeyUsage is what was used with an API key, or, with a nil ID, with tokens.
type KeyUsage struct {
	ID           *uuid.UUID
	Name, Prefix *string
	APIHits      int64
}

// DayUsage is what was used on a day.
type DayUsage struct {
	Day      time.Time
	Messages int64
	APIHits  int64
}

// UsageOf reads what a user used in the month that begins with the given day. All figures are of one moment, so that they
// add up.
func UsageOf(ctx context.Context, db *DB, user uuid.UUID, month time.Time) (*Usage, error) {
	u := &Usage{}
	err := pgx.BeginTxFunc(ctx, db.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		*u = Usage{}
		if u.Closed, err = MonthClosed(ctx, tx, month); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `SELECT messages, api_hits FROM usage_months WHERE month = $1 AND user_id = $2`, month, user).Scan(&u.Messages, &u.APIHits)
		if ok, err := Found(err); err != nil || !ok {
			return err
		}
		return u.parts(ctx, tx, user, month)
	})
	return u, err
}

// MonthClosed reports whether a month was closed: its figures are final. A month before the first that was counted never was.
func MonthClosed(ctx context.Context, q Querier, month time.Time) (closed bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM billing_periods WHERE month = $1::date)`, month).Scan(&closed)
	return closed, err
}

func (u *Usage) parts(ctx context.Context, tx pgx.Tx, user uuid.UUID, month time.Time) error {
	next := month.AddDate(0, 1, 0)
	rows, err := tx.Query(ctx, `SELECT d.session_uid, coalesce(s.id, ''), coalesce(s.name, ''), s.uid IS NULL OR s.deleted_at IS NOT NULL, d.messages, d.hits
		FROM (SELECT session_uid, sum(messages)::bigint AS messages, sum(api_hits)::bigint AS hits FROM usage_days
			WHERE user_id = $1 AND day >= $2 AND day < $3 AND session_uid IS NOT NULL
			GROUP BY session_uid ORDER BY 2 DESC, 3 DESC, 1 DESC LIMIT $4) d
		LEFT JOIN sessions s ON s.uid = d.session_uid ORDER BY d.messages DESC, d.hits DESC, d.session_uid DESC`, user, month, next, UsageRows)
	if err != nil {
		return err
	}
	if u.Sessions, err = pgx.CollectRows(rows, pgx.RowToStructByPos[SessionUsage]); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `SELECT r.api_key_id, k.name, k.prefix, r.hits
		FROM (SELECT api_key_id, sum(usage_count)::bigint AS hits FROM usage_records WHERE user_id = $1 AND billing_date = $2
			GROUP BY api_key_id ORDER BY 2 DESC, 1 DESC LIMIT $3) r
		LEFT JOIN api_keys k ON k.id = r.api_key_id ORDER BY r.hits DESC, r.api_key_id DESC`, user, month, UsageRows)
	if err != nil {
		return err
	}
	if u.Keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[KeyUsage]); err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `SELECT day, sum(messages)::bigint, sum(api_hits)::bigint FROM usage_days
		WHERE user_id = $1 AND day >= $2 AND day < $3 GROUP BY day ORDER BY day`, user, month, next)
	if err != nil {
		return err
	}
	u.Days, err = pgx.CollectRows(rows, pgx.RowToStructByPos[DayUsage])
	return err
}

// UserUsage is what a user used in a month, for the operator's bill. Name and Email are empty when the account is gone; Tier
// is that of the closing, or the present one while the month is open.
type UserUsage struct {
	User     uuid.UUID
	Name     string
	Email    string
	Tier     string
	Messages int64
	APIHits  int64
}

// UsageByUser lists what users used in a month, newest user first, those before the given ID.
func UsageByUser(ctx context.Context, q Querier, month time.Time, before uuid.UUID, limit int) ([]UserUsage, error) {
	if before == uuid.Nil {
		before = uuid.Max
	}
	rows, err := q.Query(ctx, `SELECT m.user_id, coalesce(u.name, ''), coalesce(u.email, ''), coalesce(m.tier, u.tier, ''), m.messages, m.api_hits
		FROM (SELECT * FROM usage_months WHERE month = $1 AND user_id < $2 ORDER BY user_id DESC LIMIT $3) m
		LEFT JOIN users u ON u.id = m.user_id ORDER BY m.user_id DESC`, month, before, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[UserUsage])
}
