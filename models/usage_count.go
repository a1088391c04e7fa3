package models

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Hits are requests that one API process had from one caller, about one session, on one day of UTC.
type Hits struct {
	User    uuid.UUID
	Session uuid.UUID // zero: about no session
	Key     uuid.UUID // zero: with a token
	Day     time.Time
	Count   int64
}

// Everything that counts does it in one order, so that nobody waits for anybody in a circle: the state, records, days,
// months, and the rows of each sorted. A day that is not open any more is counted as the first one that is, and one that has
// not come by PostgreSQL's clock as today: a month is closed by that clock.
const (
	holdUsage = `SELECT open_from FROM usage_state FOR SHARE`

	countDays = `, days AS (
	INSERT INTO usage_days AS o (user_id, day, session_uid, messages, api_hits)
	SELECT user_id, day, session_uid, sum(messages)::bigint, sum(api_hits)::bigint FROM counted GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
	ON CONFLICT ON CONSTRAINT usage_days_key DO UPDATE SET messages = o.messages + excluded.messages, api_hits = o.api_hits + excluded.api_hits
	RETURNING 1
), months AS (
	INSERT INTO usage_months AS o (month, user_id, messages, api_hits)
	SELECT date_trunc('month', day::timestamp)::date, user_id, sum(messages)::bigint, sum(api_hits)::bigint FROM counted
	WHERE (SELECT count(*) FROM days) > 0 GROUP BY 1, 2 ORDER BY 1, 2
	ON CONFLICT (month, user_id) DO UPDATE SET messages = o.messages + excluded.messages, api_hits = o.api_hits + excluded.api_hits
	RETURNING 1
)`

	countHits = `
WITH input AS (
	SELECT t.user_id, nullif(t.session_uid, $6) AS session_uid, nullif(t.api_key_id, $6) AS api_key_id, t.n,
		greatest(least(t.day, (now() AT TIME ZONE 'UTC')::date), s.open_from) AS day
	FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::date[], $5::bigint[]) AS t (user_id, session_uid, api_key_id, day, n), usage_state s
), records AS (
	INSERT INTO usage_records AS o (user_id, session_id, api_key_id, billing_date, usage_count)
	SELECT user_id, session_uid, api_key_id, date_trunc('month', day::timestamp)::date, sum(n)::bigint FROM input GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
	ON CONFLICT ON CONSTRAINT usage_records_key DO UPDATE SET usage_count = o.usage_count + excluded.usage_count
	RETURNING 1
), counted AS (
	SELECT user_id, session_uid, day, 0 AS messages, n AS api_hits FROM input WHERE (SELECT count(*) FROM records) > 0
)` + countDays + ` SELECT count(*) FROM months`

	// Each row is taken once. Those to take are looked for once, whatever the plan: it is mostly made of an empty queue, for which looking anew
	// for each row seems as cheap.
	countMessages = `
WITH taken AS (
	DELETE FROM message_tallies WHERE id = ANY (ARRAY (SELECT id FROM message_tallies ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
	RETURNING user_id, session_uid, direction, message_type, status, at
), counted AS (
	SELECT t.user_id, t.session_uid, greatest((t.at AT TIME ZONE 'UTC')::date, s.open_from) AS day, count(*) AS messages, 0 AS api_hits
	FROM taken t, usage_state s
	WHERE t.direction = 'OUTBOUND' AND t.status = 'SENT' AND t.message_type NOT IN ('REACTION', 'EDIT', 'DELETE', 'VOTE') GROUP BY 1, 2, 3
)` + countDays + ` SELECT (SELECT count(*) FROM taken), (SELECT coalesce(sum(messages), 0)::bigint FROM counted), (SELECT count(*) FROM months)`
)

// TallyBatch is how many changes of messages CountMessages counts at a time.
const TallyBatch = 5000

// CountHits counts a batch of an API process, once: a process numbers its batches upwards, and repeats one with the same
// content until it knows that it was counted.
func CountHits(ctx context.Context, db *DB, process uuid.UUID, batch int64, hits []Hits) error {
	n := len(hits)
	users, sessions, keys, days, counts := make([]uuid.UUID, n), make([]uuid.UUID, n), make([]uuid.UUID, n), make([]time.Time, n), make([]int64, n)
	for i, h := range hits {
		users[i], sessions[i], keys[i], days[i], counts[i] = h.User, h.Session, h.Key, h.Day, h.Count
	}
	err := db.InPgxTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `INSERT INTO usage_writers AS w (process, batch) VALUES ($1, $2)
			ON CONFLICT (process) DO UPDATE SET batch = excluded.batch, seen_at = now() WHERE w.batch < excluded.batch`, process, batch)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		if _, err := tx.Exec(ctx, holdUsage); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, countHits, users, sessions, keys, days, counts, uuid.Nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("count batch %d of %s: %w", batch, process, err)
	}
	return nil
}

// CountMessages counts the oldest changes of messages that wait for it. It says how many it took, up to TallyBatch, and how
// many of them are billed.
func CountMessages(ctx context.Context, db *DB) (taken, billed int64, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, holdUsage); err != nil {
			return err
		}
		taken, billed, err = countTallies(ctx, tx)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count messages: %w", err)
	}
	return taken, billed, nil
}

// countTallies is for those who hold the state.
func countTallies(ctx context.Context, tx pgx.Tx) (taken, billed int64, err error) {
	var months int64
	err = tx.QueryRow(ctx, countMessages, TallyBatch).Scan(&taken, &billed, &months)
	return taken, billed, err
}

// usageWriterKept is how long after its last batch a process may repeat it and be known. It repeats each second.
const usageWriterKept = 90 * 24 * time.Hour

// ForgetUsageWriters drops processes that ended long ago.
func ForgetUsageWriters(ctx context.Context, q Querier) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM usage_writers WHERE seen_at < now() - make_interval(secs => $1)`, usageWriterKept.Seconds())
	return tag.RowsAffected(), err
}
