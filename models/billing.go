package models

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Period is a month that is closed: its figures never change again.
type Period struct {
	Month       time.Time // its first day
	ID          uuid.UUID // of the event that tells of it
	Users       int64     // that used anything
	Messages    int64
	APIHits     int64
	ClosedAt    time.Time
	AnnouncedAt *time.Time
}

const periodColumns = `month, id, users, messages, api_hits, closed_at, announced_at`

func scanPeriod(row pgx.CollectableRow) (p Period, err error) {
	err = row.Scan(&p.Month, &p.ID, &p.Users, &p.Messages, &p.APIHits, &p.ClosedAt, &p.AnnouncedAt)
	return p, err
}

// closeRounds bounds what is counted within the closing. The job has counted everything just before.
const closeRounds = 20

// ClosePeriod closes the oldest month that is open, if it has been over for so long, by PostgreSQL's clock; nil if there is
// none. Nobody counts meanwhile, what is known until then is counted first, and what comes later counts for the next month.
// announce runs in the same transaction. However many try at once, one does it.
func ClosePeriod(ctx context.Context, db *DB, after time.Duration, announce func(tx pgx.Tx, p Period) error) (*Period, error) {
	var closed *Period
	err := db.InPgxTx(ctx, func(tx pgx.Tx) error {
		closed = nil
		var month time.Time
		err := tx.QueryRow(ctx, `SELECT open_from FROM usage_state
			WHERE now() >= (open_from + interval '1 month') AT TIME ZONE 'UTC' + make_interval(secs => $1) FOR UPDATE`, after.Seconds()).Scan(&month)
		if ok, err := Found(err); err != nil || !ok {
			return err
		}
		for round := 0; ; round++ {
			taken, _, err := countTallies(ctx, tx)
			if err != nil {
				return err
			}
			if taken < TallyBatch {
				break
			}
			if round == closeRounds {
				return fmt.Errorf("too many messages wait to be counted")
			}
		}
		p, err := freeze(ctx, tx, month)
		if err != nil {
			return err
		}
		closed = &p
		return announce(tx, p)
	})
	if err != nil {
		return nil, fmt.Errorf("close period: %w", err)
	}
	return closed, nil
}

// freeze writes down what a month came to, and opens the next one.
func freeze(ctx context.Context, tx pgx.Tx, month time.Time) (p Period, err error) {
	_, err = tx.Exec(ctx, `UPDATE usage_months m SET tier = u.tier FROM users u WHERE m.month = $1 AND u.id = m.user_id`, month)
	if err != nil {
		return p, err
	}
	rows, err := tx.Query(ctx, `INSERT INTO billing_periods (month, id, users, messages, api_hits)
		SELECT $1, $2, count(*), coalesce(sum(messages), 0)::bigint, coalesce(sum(api_hits), 0)::bigint FROM usage_months WHERE month = $1
		RETURNING `+periodColumns, month, NewID())
	if err != nil {
		return p, err
	}
	if p, err = pgx.CollectExactlyOneRow(rows, scanPeriod); err != nil {
		return p, err
	}
	_, err = tx.Exec(ctx, `UPDATE usage_state SET open_from = ($1::date + interval '1 month')::date`, month)
	return p, err
}

// Periods lists closed months, newest first, those before the given one (zero: from the newest).
func Periods(ctx context.Context, q Querier, before uuid.UUID, limit int) ([]Period, error) {
	rows, err := q.Query(ctx, `SELECT `+periodColumns+` FROM billing_periods
		WHERE month < coalesce((SELECT month FROM billing_periods WHERE id = $1), 'infinity') ORDER BY month DESC LIMIT $2`, before, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanPeriod)
}

// PeriodAnnounced notes that the operator has taken the event.
func PeriodAnnounced(ctx context.Context, q Querier, month time.Time) error {
	_, err := q.Exec(ctx, `UPDATE billing_periods SET announced_at = now() WHERE month = $1 AND announced_at IS NULL`, month)
	return err
}
