package models

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
)

// Webhook is a subscriber to the events of a session or of a whole account. Secrets and headers are encrypted, see Vault.
type Webhook struct {
	bun.BaseModel `bun:"table:webhooks,alias:wh"`

	ID             uuid.UUID  `bun:",pk,type:uuid"`
	UserID         uuid.UUID  `bun:"type:uuid"`
	SessionUID     *uuid.UUID // nil: of the account
	URL            string     `bun:"url"`
	Events         []string   `bun:",array"`
	Secret         []byte
	PreviousSecret []byte // signs too until PreviousUntil
	PreviousUntil  *time.Time
	Headers        []byte
	HeaderNames    []string `bun:",array"`
	Ordered        bool
	OnFailure      string `bun:",nullzero,default:'BLOCK'"` // with Ordered
	SkipAfter      int    `bun:",nullzero,default:5"`       // with OnFailure SKIP
	IsActive       bool
	DisabledReason *string
	LastDelivery   *time.Time
	FailureCount   int
	FailingSince   *time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// What an ordered webhook does with a delivery that does not get through: it waits for it, or gives it up after some
// attempts.
const (
	OnFailureBlock = "BLOCK"
	OnFailureSkip  = "SKIP"
)

// Reasons why we switch a webhook off.
const (
	DisabledGone    = "gone"    // its endpoint answered 410
	DisabledFailing = "failing" // nothing but failures for too long
)

// HookOwner is whose events a webhook gets: a session's or, with a zero Session, an account's.
type HookOwner struct{ User, Session uuid.UUID }

func (o HookOwner) where(q bun.QueryBuilder) bun.QueryBuilder {
	if o.Session == uuid.Nil {
		return q.Where("user_id = ?", o.User).Where("session_uid IS NULL")
	}
	return q.Where("session_uid = ?", o.Session)
}

// lock holds the owner's row until the end of the transaction: changes of its webhook follow one another, and one at once
// with the deletion of the session comes too late or goes with it.
func (o HookOwner) lock(ctx context.Context, tx bun.Tx) error {
	if o.Session == uuid.Nil {
		_, err := LockUser(ctx, tx, o.User)
		return err
	}
	return tx.NewSelect().Model(new(Session)).Where("uid = ?", o.Session).Where("deleted_at IS NULL").For("NO KEY UPDATE").Scan(ctx)
}

// WebhookOf finds an owner's webhook.
func WebhookOf(ctx context.Context, db bun.IDB, o HookOwner) (*Webhook, error) {
	w := new(Webhook)
	err := db.NewSelect().Model(w).ApplyQueryBuilder(o.where).Scan(ctx)
	return w, err
}

// WebhookByID finds a webhook.
func WebhookByID(ctx context.Context, db bun.IDB, id uuid.UUID) (*Webhook, error) {
	w := new(Webhook)
	err := db.NewSelect().Model(w).Where("id = ?", id).Scan(ctx)
	return w, err
}

// PutWebhook makes or changes an owner's webhook, with its lane. Locks are taken in the order owner, lane, webhook.
func PutWebhook(ctx context.Context, tx bun.Tx, o HookOwner, change func(former *Webhook) (*Webhook, error)) (*Webhook, error) {
	if err := o.lock(ctx, tx); err != nil {
		return nil, err
	}
	former, err := lockWebhook(ctx, tx, o)
	found, err := Found(err)
	if err != nil {
		return nil, err
	}
	if !found {
		former = nil
	}
	off, url := found && !former.IsActive, former.url() // change may write into it
	w, err := change(former)
	if err != nil {
		return nil, err
	}
	if w.HeaderNames == nil {
		w.HeaderNames = []string{} // nil would be NULL
	}
	if !found {
		w.ID, w.UserID = NewID(), o.User
		if o.Session != uuid.Nil {
			w.SessionUID = &o.Session
		}
		if _, err := tx.NewInsert().Model(w).Exec(ctx); err != nil {
			return nil, err
		}
		return w, insertLane(ctx, tx, w.ID, LaneWebhook, w.IsActive)
	}
	// What waited while it was switched off goes out now.
	if _, err := tx.ExecContext(ctx, `UPDATE lanes SET open = ?0, next_due_at = CASE WHEN ?0 THEN now() END WHERE id = ?1`, w.IsActive, w.ID); err != nil {
		return nil, err
	}
	_, err = tx.NewUpdate().Model(w).WherePK().Column("url", "events", "secret", "previous_secret", "previous_until", "headers", "header_names",
		"ordered", "on_failure", "skip_after", "is_active", "disabled_reason", "failing_since", "updated_at").Exec(ctx)
	if err == nil && w.IsActive && (off || w.Ordered || w.URL != url) {
		_, err = tx.NewRaw(retryNow, w.ID, retriedNow).Exec(ctx)
	}
	return w, err
}

func (w *Webhook) url() string {
	if w == nil {
		return ""
	}
	return w.URL
}

// retryNow makes the first of a webhook's deliveries that are to be tried again due at once, since what made them fail may be
// over: behind the first one of an ordered webhook all others wait. There may be very many, so the rest keep to their schedule.
const retryNow = `UPDATE webhook_deliveries SET next_retry = now() WHERE status = 'RETRYING' AND id IN (
	SELECT id FROM webhook_deliveries WHERE webhook_id = ? AND status = 'RETRYING' ORDER BY sequence LIMIT ?)`

const retriedNow = 1000

// lockWebhook finds an owner's webhook and holds its lane and its row: it may be switched off at this moment.
func lockWebhook(ctx context.Context, tx bun.Tx, o HookOwner) (*Webhook, error) {
	w, err := WebhookOf(ctx, tx, o)
	if err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, `SELECT 1 FROM lanes WHERE id = ? FOR UPDATE`, w.ID); err != nil {
		return nil, err
	}
	return w, tx.NewSelect().Model(w).WherePK().For("NO KEY UPDATE").Scan(ctx)
}

// DeleteWebhook removes an owner's webhook with its lane, and says whether there was one. Its deliveries may be very many: nobody
// finds them any more, and SweepDeliveries removes them.
func DeleteWebhook(ctx context.Context, tx bun.Tx, o HookOwner) (bool, error) {
	if _, err := tx.NewDelete().Model((*Lane)(nil)).Where("id = (?)", tx.NewSelect().Model((*Webhook)(nil)).Column("id").ApplyQueryBuilder(o.where)).Exec(ctx); err != nil {
		return false, err
	}
	res, err := tx.NewDelete().Model((*Webhook)(nil)).ApplyQueryBuilder(o.where).Exec(ctx)
	return changed(res, err)
}

// WebhookMail is what LetterWebhookDisabled is about.
type WebhookMail struct {
	WebhookID uuid.UUID `json:"webhookId"`
	Reason    string    `json:"reason"`
}

// DisableWebhook switches a webhook off that is still as its reader saw it (asOf is its updated_at), while its lane is the
// holder's, and has its owner mailed. It says whether it did.
func DisableWebhook(ctx context.Context, db *DB, h Hold, asOf time.Time, reason string) (ok bool, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		ok = false
		tag, err := tx.Exec(ctx, `UPDATE lanes SET open = false WHERE id = $1 AND generation = $2`, h.Lane, h.Generation)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		var user uuid.UUID
		var session *string
		err = tx.QueryRow(ctx, `UPDATE webhooks w SET is_active = false, disabled_reason = $3
			WHERE w.id = $1 AND w.is_active AND w.updated_at = $2
			RETURNING w.user_id, (SELECT s.id FROM sessions s WHERE s.uid = w.session_uid)`, h.Lane, asOf, reason).Scan(&user, &session)
		if ok, err = Found(err); err != nil {
			return err
		}
		if !ok { // its owner has changed it meanwhile
			_, err := tx.Exec(ctx, `UPDATE lanes l SET open = w.is_active FROM webhooks w WHERE l.id = $1 AND w.id = l.id`, h.Lane)
			return err
		}
		line := Audit{Level: "WARN", Service: "runner", Message: "webhook.disabled", User: user, Target: user, Details: map[string]string{"webhookId": h.Lane.String(), "reason": reason}}
		if session != nil {
			line.Session = *session
		}
		if err := WriteAudit(ctx, tx, line); err != nil {
			return err
		}
		return QueueLetter(ctx, tx, user, LetterWebhookDisabled, WebhookMail{WebhookID: h.Lane, Reason: reason})
	})
	return ok, err
}
