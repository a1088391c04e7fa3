package models

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
)

// Delivery is one event on its way to one webhook.
type Delivery struct {
	bun.BaseModel `bun:"table:webhook_deliveries,alias:d"`

	ID           uuid.UUID `bun:",pk,type:uuid"`
	WebhookID    uuid.UUID `bun:"type:uuid"`
	EventID      uuid.UUID `bun:"type:uuid"`
	Event        string
	Sequence     int64
	Status       string
	ResponseCode *int
	ResponseBody *string
	Error        *string
	Attempts     int
	// AttemptsBefore were made before it was replayed: the schedule begins anew.
	AttemptsBefore int
	NextRetry      *time.Time
	CreatedAt      time.Time
	DeliveredAt    *time.Time
}

// States of deliveries.
const (
	DeliveryPending   = "PENDING"
	DeliveryRetrying  = "RETRYING"
	DeliveryDelivered = "DELIVERED"
	DeliveryFailed    = "FAILED"
)

// Attempt is one try of a delivery.
type Attempt struct {
	bun.BaseModel `bun:"table:webhook_attempts,alias:a"`

	DeliveryID   uuid.UUID `bun:",pk,type:uuid"`
	Attempt      int       `bun:",pk"`
	ResponseCode *int
	ResponseBody *string
	Error        *string
	DurationMs   int `bun:"duration_ms"`
	CreatedAt    time.Time
}

// DeliveryFilter chooses deliveries of a webhook's log. Empty fields don't restrict.
type DeliveryFilter struct {
	Status, Event string
	Since, Until  time.Time
	Below         int64 // cursor: sequences below it
	Limit         int
}

// deliveryWindow is how many deliveries a page looks through at most: a rare type of event among millions must not cost a
// reading of all.
const deliveryWindow = 10_000

// Deliveries lists a webhook's deliveries, newest first. next is where the next page begins, 0 if this was the last; a page
// that looked through enough may be short, or empty, and have a next one all the same.
func Deliveries(ctx context.Context, db bun.IDB, webhook uuid.UUID, f DeliveryFilter) (list []Delivery, next int64, err error) {
	lowest, above, err := sequenceRange(ctx, db, webhook, f.Since, f.Until)
	if err != nil {
		return nil, 0, err
	}
	if f.Below > 0 {
		above = min(above, f.Below)
	}
	window := func() *bun.SelectQuery {
		q := db.NewSelect().Model((*Delivery)(nil)).Where("webhook_id = ?", webhook).Where("sequence >= ?", lowest).Where("sequence < ?", above).OrderExpr("sequence DESC")
		if f.Status != "" {
			q = q.Where("status = ?", f.Status)
		}
		return q
	}
	q := db.NewSelect().Model(&list).ModelTableExpr("(?) AS d", window().Limit(deliveryWindow)).OrderExpr("sequence DESC").Limit(int64(f.Limit + 1))
	if f.Event != "" {
		q = q.Where("event = ?", f.Event)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, 0, err
	}
	if len(list) > f.Limit {
		return list[:f.Limit], list[f.Limit-1].Sequence, nil
	}
	err = window().Column("sequence").Offset(deliveryWindow-1).Limit(1).Scan(ctx, &next)
	_, err = Found(err)
	return list, next, err
}

// sequenceRange turns a range of time into one of sequences: created_at rises with them. Zero times are open ends.
func sequenceRange(ctx context.Context, db bun.IDB, webhook uuid.UUID, since, until time.Time) (lowest, above int64, err error) {
	at := func(where string, t time.Time, order string) (sequence int64, err error) {
		q := db.NewSelect().Model((*Delivery)(nil)).Column("sequence").Where("webhook_id = ?", webhook)
		if where != "" {
			q = q.Where(where, t)
		}
		err = q.OrderExpr("created_at "+order+", sequence "+order).Limit(1).Scan(ctx, &sequence)
		_, err = Found(err)
		return sequence, err
	}
	above = math.MaxInt64
	if !since.IsZero() {
		if lowest, err = at("created_at >= ?", since, "ASC"); err != nil || lowest == 0 {
			return 0, 0, err // nothing is that young
		}
	}
	if !until.IsZero() {
		above, err = at("created_at < ?", until, "DESC")
		above++
	}
	return lowest, above, err
}

// shownAttempts are the newest of a delivery: an ordered webhook that waits for each makes ever more.
const shownAttempts = 200

// DeliveryOf finds a delivery of a user's webhook with its newest attempts, in their order.
func DeliveryOf(ctx context.Context, db bun.IDB, user, id uuid.UUID) (*Delivery, []Attempt, error) {
	d := new(Delivery)
	err := db.NewSelect().Model(d).Where("d.id = ?", id).
		Where("EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook_id AND w.user_id = ?)", user).Scan(ctx)
	if err != nil {
		return nil, nil, err
	}
	var attempts []Attempt
	err = db.NewSelect().Model(&attempts).Where("delivery_id = ?", id).OrderExpr("attempt DESC").Limit(shownAttempts).Scan(ctx)
	slices.Reverse(attempts)
	return d, attempts, err
}

// DueDelivery is a delivery that is due, with the event that it carries.
type DueDelivery struct {
	ID        uuid.UUID
	Event     string
	EventID   uuid.UUID
	Sequence  int64
	Attempts  int
	Before    int // attempts before it was replayed
	SessionID string
	Metadata  json.RawMessage // the session's, as it is now
	At        time.Time       // of the event
	CreatedAt time.Time
	Data      json.RawMessage // nil: the event is no longer kept
	Trace     *string         // the span that caused the event, where it is traced
}

// firstUnfinished is the sequence of a webhook's first delivery that has not ended; $1 is the webhook.
const firstUnfinished = `least(
	(SELECT sequence FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'PENDING' ORDER BY sequence LIMIT 1),
	(SELECT sequence FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'RETRYING' ORDER BY sequence LIMIT 1))`

// What is due: retries and replays whose time has come, a quarter of a round at most so that they don't hold up what is new,
// and what was never tried, in its order. Each branch reads its own index and stops at its limit, however many wait for
// later. Where the subscriber asked for order, only the first one that has not ended counts, and only if it is due.
const (
	dueSideBySide = `WITH due AS (
		(SELECT d.id, 0 AS class, d.sequence FROM webhook_deliveries d WHERE d.webhook_id = $1 AND d.status = 'RETRYING' AND d.next_retry <= now()
		 ORDER BY d.next_retry, d.sequence LIMIT greatest($3 / 4, 1))
		UNION ALL
		(SELECT d.id, 1, d.sequence FROM webhook_deliveries d WHERE d.webhook_id = $1 AND d.status = 'PENDING' ORDER BY d.sequence LIMIT $3))`
	dueInOrder = `WITH due AS (
		SELECT d.id, 0 AS class, d.sequence FROM webhook_deliveries d WHERE d.webhook_id = $1 AND d.sequence = ` + firstUnfinished + `
		AND (d.next_retry IS NULL OR d.next_retry <= now()))`
	dueRows = `
		SELECT d.id, d.event, d.event_id, d.sequence, d.attempts, d.attempts_before, s.id, s.metadata, coalesce(e.created_at, d.created_at), d.created_at, e.data, e.trace
		FROM due JOIN webhook_deliveries d ON d.id = due.id JOIN webhooks w ON w.id = d.webhook_id
		LEFT JOIN events e ON e.id = d.event_id
		LEFT JOIN sessions s ON s.uid = coalesce(e.session_uid, w.session_uid)
		WHERE w.is_active AND EXISTS (SELECT 1 FROM lanes l WHERE l.id = $1 AND l.generation = $2)
		ORDER BY due.class, due.sequence LIMIT $3`
)

// DueDeliveries is what a holder finds in a webhook's lane, with what he needs of the webhook, which is not active if it is gone. Nothing is
// marked: the lane belongs to the holder, and what a killed one had under way is delivered again. Without a webhook, another runner has the lane.
// Whether deliveries go in order is as the hold has it: if the webhook says otherwise, they are to be read anew.
func DueDeliveries(ctx context.Context, db *DB, h *Hold, limit int) (w *Webhook, list []DueDelivery, err error) {
	query := dueSideBySide + dueRows
	if h.OneByOne {
		query = dueInOrder + dueRows
	}
	var b pgx.Batch
	b.Queue(`SELECT l.next_seq, coalesce(w.url, ''), w.secret, w.previous_secret, w.previous_until, w.headers, coalesce(w.ordered, false), coalesce(w.on_failure, ''),
			coalesce(w.skip_after, 0), coalesce(w.is_active, false), coalesce(w.updated_at, now())
		FROM lanes l LEFT JOIN webhooks w ON w.id = l.id WHERE l.id = $1 AND l.generation = $2`, h.Lane, h.Generation).QueryRow(func(row pgx.Row) error {
		found := &Webhook{ID: h.Lane}
		ok, err := Found(row.Scan(&h.NextSeq, &found.URL, &found.Secret, &found.PreviousSecret, &found.PreviousUntil, &found.Headers, &found.Ordered,
			&found.OnFailure, &found.SkipAfter, &found.IsActive, &found.UpdatedAt))
		if ok {
			w = found
		}
		return err
	})
	b.Queue(query, h.Lane, h.Generation, limit).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var d DueDelivery
			var session *string
			if err := rows.Scan(&d.ID, &d.Event, &d.EventID, &d.Sequence, &d.Attempts, &d.Before, &session, &d.Metadata, &d.At, &d.CreatedAt, &d.Data, &d.Trace); err != nil {
				return err
			}
			if session != nil {
				d.SessionID = *session
			}
			list = append(list, d)
		}
		return rows.Err()
	})
	if err := db.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, nil, fmt.Errorf("read due deliveries of %s: %w", h.Lane, err)
	}
	return w, list, nil
}

// EndUnkept ends deliveries whose events are no longer kept, on the condition that the lane is still the holder's. That is no
// attempt: nothing was sent, and it is not the endpoint's fault.
func EndUnkept(ctx context.Context, q Querier, h Hold, ids []uuid.UUID) error {
	_, err := q.Exec(ctx, `UPDATE webhook_deliveries d SET status = 'FAILED', next_retry = NULL, error = $4
		WHERE d.id = ANY($3) AND d.status IN ('PENDING', 'RETRYING') AND EXISTS (SELECT 1 FROM lanes l WHERE l.id = $1 AND l.generation = $2)`,
		h.Lane, h.Generation, ids, unkeptText)
	if err != nil {
		return fmt.Errorf("end deliveries of %s: %w", h.Lane, err)
	}
	return nil
}

const unkeptText = "event_not_kept: the event is no longer kept, so there is nothing to send"

// Tried is the outcome of one attempt of a delivery.
type Tried struct {
	Delivery  uuid.UUID
	Attempt   int // its number, from 1
	Status    string
	Code      int    // of the answer, 0 if there was none
	Body      string // of the answer, up to 4 KB
	Error     string
	Duration  time.Duration
	NextRetry *time.Time
}

// SettleDeliveries writes attempts back, on the condition that the lane is still the holder's, and says since when the
// webhook has had nothing but failures, none of them longer than gap after the one before; nil: it has not. The webhook is locked before its deliveries, as its deletion does.
func SettleDeliveries(ctx context.Context, db *DB, h Hold, tried []Tried, gap time.Duration) (failingSince *time.Time, err error) {
	n := len(tried)
	if n == 0 {
		return nil, nil
	}
	ids, status, bodies, errs := make([]uuid.UUID, n), make([]string, n), make([]string, n), make([]string, n)
	numbers, codes, millis, next := make([]int32, n), make([]int32, n), make([]int32, n), make([]*time.Time, n)
	succeeded, failed := false, 0
	for i, t := range tried {
		ids[i], status[i], bodies[i], errs[i], numbers[i], codes[i] = t.Delivery, t.Status, t.Body, t.Error, int32(t.Attempt), int32(t.Code)
		millis[i], next[i] = int32(t.Duration.Milliseconds()), t.NextRetry
		if t.Status == DeliveryDelivered {
			succeeded, failed = true, 0
		} else {
			failed++
		}
	}
	var b pgx.Batch
	b.Queue(`UPDATE webhooks SET last_delivery = CASE WHEN $2 THEN now() ELSE last_delivery END,
			failure_count = CASE WHEN $2 THEN 0 ELSE failure_count END + $3,
			failing_since = CASE WHEN $2 AND $3 = 0 THEN NULL WHEN NOT $2 AND last_failure > now() - make_interval(secs => $5) THEN coalesce(failing_since, now()) ELSE now() END,
			last_failure = CASE WHEN $3 > 0 THEN now() ELSE last_failure END
		WHERE id = $1 AND EXISTS (SELECT 1 FROM lanes l WHERE l.id = $1 AND l.generation = $4)
		RETURNING failing_since`, h.Lane, succeeded, failed, h.Generation, gap.Seconds()).QueryRow(func(row pgx.Row) error {
		_, err := Found(row.Scan(&failingSince))
		return err
	})
	b.Queue(`WITH t AS (
			SELECT * FROM unnest($3::uuid[], $4::int[], $5::text[], $6::int[], $7::text[], $8::text[], $9::int[], $10::timestamptz[])
			AS t (id, attempt, status, code, body, error, millis, next_retry)
		), done AS (
			UPDATE webhook_deliveries d SET status = t.status, attempts = t.attempt, response_code = nullif(t.code, 0),
				response_body = nullif(t.body, ''), error = nullif(t.error, ''), next_retry = t.next_retry,
				delivered_at = CASE WHEN t.status = 'DELIVERED' THEN now() END
			FROM t WHERE d.id = t.id AND d.status IN ('PENDING', 'RETRYING')
			  AND EXISTS (SELECT 1 FROM lanes l WHERE l.id = $1 AND l.generation = $2)
			RETURNING d.id
		)
		INSERT INTO webhook_attempts (delivery_id, attempt, response_code, response_body, error, duration_ms)
		SELECT t.id, t.attempt, nullif(t.code, 0), nullif(t.body, ''), nullif(t.error, ''), t.millis FROM t JOIN done USING (id)
		ON CONFLICT DO NOTHING`, h.Lane, h.Generation, ids, numbers, status, codes, bodies, errs, millis, next)
	if err := db.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("settle deliveries of %s: %w", h.Lane, err)
	}
	return failingSince, nil
}
