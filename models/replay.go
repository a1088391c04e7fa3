package models

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/fault"
	"kurir/tracing"
	"kurir/webhook"
)

// Faults of what is sent on request.
var (
	ErrWebhookInactive = fault.New(fault.Conflict, "webhook_inactive", "The webhook is switched off. Set isActive first: what waits goes out by itself then.")
	ErrEventNotKept    = fault.New(fault.Conflict, "event_not_kept", "The event is no longer kept: there is nothing to send again.")
	ErrReplaying       = fault.New(fault.Conflict, "replay_in_progress", "A replay of this webhook is under way. Wait for its job.")
)

// TestWebhook writes an event and its delivery to one webhook, whatever that subscribed to. The event's ID is given, so that a
// repeated request makes it once.
func TestWebhook(ctx context.Context, tx pgx.Tx, w *Webhook, event uuid.UUID, data webhook.Test) (delivery uuid.UUID, err error) {
	body, err := json.Marshal(data)
	if err != nil {
		return uuid.Nil, err
	}
	at := time.Now()
	tag, err := tx.Exec(ctx, `INSERT INTO events (id, user_id, session_uid, type, data, created_at, trace) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		event, w.UserID, w.SessionUID, webhook.EventTest, string(body), at, tracing.Carried(ctx))
	if err != nil {
		return uuid.Nil, err
	}
	if tag.RowsAffected() == 1 {
		tag, err := tx.Exec(ctx, `WITH hits AS (SELECT $1::uuid AS id, $2::text AS type, 1 AS ord, $3::uuid AS webhook_id), `+deliver, event, webhook.EventTest, w.ID)
		if err != nil {
			return uuid.Nil, err
		}
		if tag.RowsAffected() == 0 {
			return uuid.Nil, ErrWebhookInactive
		}
	}
	err = tx.QueryRow(ctx, `SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND event_id = $2 ORDER BY sequence DESC LIMIT 1`, w.ID, event).Scan(&delivery)
	return delivery, err
}

// again puts a delivery back among those that are due. One that has ended begins its schedule anew; one that is retried is
// due at once, and one that was never tried is.
const again = `status = 'RETRYING', next_retry = now(), delivered_at = NULL,
	attempts_before = CASE WHEN d.status IN ('DELIVERED', 'FAILED') THEN d.attempts ELSE d.attempts_before END`

// dueNow makes the lane due, last, as everyone does who makes deliveries.
const dueNow = `UPDATE lanes SET next_due_at = least(coalesce(next_due_at, now()), now()) WHERE id = $1 AND open`

// ReplayDelivery sends a delivery again, under the same event ID and sequence. One that is under way anyway is no error.
func ReplayDelivery(ctx context.Context, tx pgx.Tx, d *Delivery) error {
	var kept bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM events WHERE id = $1)`, d.EventID).Scan(&kept); err != nil {
		return err
	} else if !kept {
		return ErrEventNotKept
	}
	if _, err := tx.Exec(ctx, `UPDATE webhook_deliveries d SET `+again+` WHERE d.id = $1 AND d.status <> 'PENDING'`, d.ID); err != nil {
		return fmt.Errorf("replay delivery %s: %w", d.ID, err)
	}
	_, err := tx.Exec(ctx, dueNow, d.WebhookID)
	return err
}

// KindReplay is the kind of the jobs that replay a range of a webhook's deliveries.
const KindReplay = "webhook:replay"

// Replay are the parameters of such a job.
type Replay struct {
	WebhookID uuid.UUID `json:"webhookId"`
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
	Status    string    `json:"status,omitempty"` // DELIVERED or FAILED; empty: both
}

// ReplayProgress is where such a job stands. The range is fixed when it begins: what is replayed comes behind it never.
type ReplayProgress struct {
	Next     int64 `json:"nextSequence"`
	End      int64 `json:"endSequence"` // exclusive
	Replayed int64 `json:"replayed"`
}

// AddReplay adds a job that replays a range, unless one is under way for this webhook. A job that is there under its ID
// already is no error: it is the same request.
func AddReplay(ctx context.Context, tx bun.Tx, job uuid.UUID, w *Webhook, r Replay) error {
	params, err := json.Marshal(r)
	if err != nil {
		return err
	}
	exists, err := tx.NewSelect().Model((*Job)(nil)).Where("id = ?", job).Where("user_id = ?", w.UserID).Exists(ctx)
	if err != nil || exists {
		TrailOf(ctx).Tell() // as the first request did
		return err
	}
	err = InsertJob(ctx, tx, &Job{ID: job, Kind: KindReplay, UserID: &w.UserID, SessionUID: w.SessionUID, Params: params})
	if IsUnique(err, "jobs_replay_key") {
		return ErrReplaying
	}
	return err
}

// StartReplay finds the range of sequences.
func StartReplay(ctx context.Context, db bun.IDB, r Replay) (p ReplayProgress, err error) {
	if p.Next, p.End, err = sequenceRange(ctx, db, r.WebhookID, r.Since, r.Until); err != nil {
		return p, fmt.Errorf("range of replay of %s: %w", r.WebhookID, err)
	}
	p.End = max(p.End, p.Next)
	return p, nil
}

// ReplayPage replays the next of a range, up to limit deliveries, and says where that leads. Those that have not ended, or
// whose events are no longer kept, are passed over.
func ReplayPage(ctx context.Context, db *DB, r Replay, p ReplayProgress, limit int) (ReplayProgress, error) {
	var next, hits int64
	err := db.InPgxTx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `WITH page AS (
				SELECT id, event_id, sequence FROM webhook_deliveries WHERE webhook_id = $1 AND sequence >= $2 AND sequence < $3
					AND EXISTS (SELECT 1 FROM webhooks WHERE id = $1) ORDER BY sequence LIMIT $4
			), hit AS (
				UPDATE webhook_deliveries d SET `+again+` FROM page p
				WHERE d.id = p.id AND d.status IN ('DELIVERED', 'FAILED') AND ($5 = '' OR d.status = $5) AND EXISTS (SELECT 1 FROM events e WHERE e.id = p.event_id)
				RETURNING d.id
			)
			SELECT CASE WHEN count(*) < $4 THEN $3 ELSE max(sequence) + 1 END, (SELECT count(*) FROM hit) FROM page`,
			r.WebhookID, p.Next, p.End, limit, r.Status).Scan(&next, &hits)
		if err != nil || hits == 0 {
			return err
		}
		_, err = tx.Exec(ctx, dueNow, r.WebhookID)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("replay deliveries of %s: %w", r.WebhookID, err)
	}
	return ReplayProgress{Next: next, End: p.End, Replayed: p.Replayed + hits}, nil
}

// Waiting is what a webhook still owes its subscriber.
type Waiting struct {
	Count int        // up to maxWaiting
	Since *time.Time // of the oldest
}

const maxWaiting = 10_000

// WaitingOf counts the deliveries of a webhook that have not ended.
func WaitingOf(ctx context.Context, q Querier, webhook uuid.UUID) (w Waiting, err error) {
	err = q.QueryRow(ctx, `SELECT (SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'PENDING'
			UNION ALL SELECT 1 FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'RETRYING' LIMIT $2) x),
		(SELECT created_at FROM webhook_deliveries WHERE webhook_id = $1 AND sequence = `+firstUnfinished+`)`, webhook, maxWaiting).Scan(&w.Count, &w.Since)
	return w, err
}
