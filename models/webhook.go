package models

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
)

// Webhook is a subscriber to a session's events. Secrets and headers are encrypted, see Vault.
type Webhook struct {
	bun.BaseModel `bun:"table:webhooks,alias:wh"`

	ID             uuid.UUID `bun:",pk,type:uuid"`
	UserID         uuid.UUID `bun:"type:uuid"`
	SessionUID     *uuid.UUID
	URL            string   `bun:"url"`
	Events         []string `bun:",array"`
	Secret         []byte
	PreviousSecret []byte
	PreviousUntil  *time.Time
	Headers        []byte
	HeaderNames    []string `bun:",array"`
	Ordered        bool
	IsActive       bool
	DisabledReason *string
	LastDelivery   *time.Time
	FailureCount   int
	FailingSince   *time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// WebhookOf finds a session's webhook.
func WebhookOf(ctx context.Context, db bun.IDB, session uuid.UUID) (*Webhook, error) {
	w := new(Webhook)
	err := db.NewSelect().Model(w).Where("session_uid = ?", session).Scan(ctx)
	return w, err
}

// WebhookByID finds a webhook.
func WebhookByID(ctx context.Context, db bun.IDB, id uuid.UUID) (*Webhook, error) {
	w := new(Webhook)
	err := db.NewSelect().Model(w).Where("id = ?", id).Scan(ctx)
	return w, err
}

// PutWebhook makes or changes a session's webhook, with its lane. The session's row is locked, so that two calls at
// once follow one another, and one with the deletion of the session comes too late or goes with it.
func PutWebhook(ctx context.Context, tx bun.Tx, session uuid.UUID, change func(former *Webhook) (*Webhook, error)) (*Webhook, error) {
	s := new(Session)
	if err := tx.NewSelect().Model(s).Where("uid = ?", session).Where("deleted_at IS NULL").For("NO KEY UPDATE").Scan(ctx); err != nil {
		return nil, err
	}
	former, err := WebhookOf(ctx, tx, session)
	found, err := Found(err)
	if err != nil {
		return nil, err
	}
	if !found {
		former = nil
	}
	w, err := change(former)
	if err != nil {
		return nil, err
	}
	if w.HeaderNames == nil {
		w.HeaderNames = []string{} // nil would be NULL
	}
	if !found {
		w.ID, w.UserID, w.SessionUID = NewID(), s.UserID, &session
		if _, err := tx.NewInsert().Model(w).Exec(ctx); err != nil {
			return nil, err
		}
		return w, insertLane(ctx, tx, w.ID, LaneWebhook, true)
	}
	_, err = tx.NewUpdate().Model(w).WherePK().
		Column("url", "events", "secret", "previous_secret", "previous_until", "headers", "header_names", "ordered", "is_active", "disabled_reason", "failing_since", "updated_at").Exec(ctx)
	if err != nil || !w.IsActive {
		return w, err
	}
	// What waited while it was switched off goes out now.
	_, err = tx.ExecContext(ctx, `UPDATE lanes SET next_due_at = now() WHERE id = ?`, w.ID)
	return w, err
}

// DeleteWebhook removes a session's webhook with its deliveries and its lane. It says whether there was one.
func DeleteWebhook(ctx context.Context, tx bun.Tx, session uuid.UUID) (bool, error) {
	if _, err := tx.ExecContext(ctx, `DELETE FROM lanes WHERE id = (SELECT id FROM webhooks WHERE session_uid = ?)`, session); err != nil {
		return false, err
	}
	res, err := tx.NewDelete().Model((*Webhook)(nil)).Where("session_uid = ?", session).Exec(ctx)
	return changed(res, err)
}

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
	NextRetry    *time.Time
	CreatedAt    time.Time
	DeliveredAt  *time.Time
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

// Deliveries lists a webhook's deliveries, newest first, those below the given sequence (0: from the newest).
func Deliveries(ctx context.Context, db bun.IDB, webhook uuid.UUID, status string, below int64, limit int) ([]Delivery, error) {
	var list []Delivery
	q := db.NewSelect().Model(&list).Where("webhook_id = ?", webhook).OrderExpr("sequence DESC").Limit(int64(limit))
	if status != "" {
		q = q.Where("status = ?", status)
	}
	if below > 0 {
		q = q.Where("sequence < ?", below)
	}
	return list, q.Scan(ctx)
}

// DeliveryOf finds a delivery of a user's webhook with its attempts and the session's public name.
func DeliveryOf(ctx context.Context, db bun.IDB, user, id uuid.UUID) (*Delivery, []Attempt, error) {
	d := new(Delivery)
	err := db.NewSelect().Model(d).Where("d.id = ?", id).
		Where("EXISTS (SELECT 1 FROM webhooks w WHERE w.id = d.webhook_id AND w.user_id = ?)", user).Scan(ctx)
	if err != nil {
		return nil, nil, err
	}
	var attempts []Attempt
	err = db.NewSelect().Model(&attempts).Where("delivery_id = ?", id).OrderExpr("attempt").Limit(200).Scan(ctx)
	return d, attempts, err
}

// DueDelivery is a delivery that is due, with the event that it carries.
type DueDelivery struct {
	ID        uuid.UUID
	Event     string
	EventID   uuid.UUID
	Sequence  int64
	Attempts  int
	SessionID string
	At        time.Time // of the event
	CreatedAt time.Time
	Data      json.RawMessage // nil: the event is no longer kept
}

// DueDeliveries is what a holder finds in a webhook's lane. Nothing is marked: the lane belongs to the
// holder, and what a killed one had under way is delivered again. Held is false if another runner has the lane. With
// ordered set, only the first one counts, and only if it is due.
func DueDeliveries(ctx context.Context, db *DB, h *Hold, ordered bool, limit int) (list []DueDelivery, held bool, err error) {
	query := `SELECT d.id, d.event, d.event_id, d.sequence, d.attempts, s.id, coalesce(e.created_at, d.created_at), d.created_at, e.data
		FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
		LEFT JOIN sessions s ON s.uid = w.session_uid
		LEFT JOIN events e ON e.id = d.event_id
		WHERE d.webhook_id = $1 AND d.status IN ('PENDING', 'RETRYING') AND w.is_active
		  AND EXISTS (SELECT 1 FROM lanes l WHERE l.id = $1 AND l.generation = $2)`
	if ordered {
		query += ` AND d.sequence = (SELECT min(sequence) FROM webhook_deliveries WHERE webhook_id = $1 AND status IN ('PENDING', 'RETRYING'))`
	}
	query += ` AND (d.next_retry IS NULL OR d.next_retry <= now()) ORDER BY d.sequence LIMIT $3`

	var b pgx.Batch
	b.Queue(`SELECT next_seq FROM lanes WHERE id = $1 AND generation = $2`, h.Lane, h.Generation).QueryRow(func(row pgx.Row) error {
		var err error
		held, err = Found(row.Scan(&h.NextSeq))
		return err
	})
	b.Queue(query, h.Lane, h.Generation, limit).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var d DueDelivery
			var session *string
			if err := rows.Scan(&d.ID, &d.Event, &d.EventID, &d.Sequence, &d.Attempts, &session, &d.At, &d.CreatedAt, &d.Data); err != nil {
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
		return nil, false, fmt.Errorf("read due deliveries of %s: %w", h.Lane, err)
	}
	return list, held, nil
}

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

// SettleDeliveries writes attempts back, on the condition that the lane is still the holder's. Gone disables the
// webhook: its endpoint said that it will never come back.
func SettleDeliveries(ctx context.Context, db *DB, h Hold, tried []Tried, gone bool) error {
	n := len(tried)
	if n == 0 {
		return nil
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
	b.Queue(`UPDATE webhooks SET last_delivery = CASE WHEN $2 THEN now() ELSE last_delivery END,
			failure_count = CASE WHEN $2 THEN 0 ELSE failure_count END + $3,
			failing_since = CASE WHEN $2 AND $3 = 0 THEN NULL WHEN $2 THEN now() ELSE coalesce(failing_since, now()) END,
			is_active = is_active AND NOT $4, disabled_reason = CASE WHEN $4 THEN 'gone' ELSE disabled_reason END
		WHERE id = $1 AND EXISTS (SELECT 1 FROM lanes l WHERE l.id = $1 AND l.generation = $5)`, h.Lane, succeeded, failed, gone, h.Generation)
	if err := db.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("settle deliveries of %s: %w", h.Lane, err)
	}
	return nil
}
