package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/models"
	"kurir/webhook"
)

// KindCountUsage counts what happened to messages, see docs/usage.md. Each change waits in a row of its own, written with it,
// so a run that fails, or never comes, loses nothing.
const KindCountUsage = "usage:count"

// KindClosePeriods closes months that have been over for BILLING_CLOSE_AFTER.
const KindClosePeriods = "billing:close"

// KindPeriodClosed tells BILLING_WEBHOOK_URL that a month is closed, until it has taken that.
const KindPeriodClosed = "billing:notify"

// usageTime bounds a run; the next one goes on.
const usageTime = 20 * time.Second

func (r *Runner) countUsage(ctx context.Context, _ tick) error {
	for deadline := time.Now().Add(usageTime); time.Now().Before(deadline); {
		taken, billed, err := models.CountMessages(ctx, r.db)
		if err != nil {
			return err
		}
		r.metrics.MessagesBilled(billed)
		if taken < models.TallyBatch {
			return nil
		}
	}
	return nil
}

// closePeriods closes every month that is to be closed, oldest first.
func (r *Runner) closePeriods(ctx context.Context, t tick) error {
	if err := r.countUsage(ctx, t); err != nil {
		return err
	}
	for {
		announced := false
		closed, err := models.ClosePeriod(ctx, r.db, r.cfg.CloseAfter, func(tx pgx.Tx, p models.Period) error {
			err := models.WriteAudit(ctx, tx, models.Audit{Service: "runner", Message: "billing.period_closed",
				Details: map[string]any{"period": p.Month.Format("2006-01"), "users": p.Users, "messages": p.Messages, "apiHits": p.APIHits}})
			if announced = r.cfg.BillingURL != ""; err != nil || !announced {
				return err
			}
			return models.AddNotice(ctx, tx, p.ID, KindPeriodClosed, periodNotice(p))
		})
		if err != nil || closed == nil {
			return err
		}
		r.log.Info("billing period closed", "period", closed.Month.Format("2006-01"), "messages", closed.Messages, "hits", closed.APIHits)
		if announced {
			r.start(ctx, KindPeriodClosed, closed.ID)
		}
	}
}

// PeriodNotice is what is posted. Its bytes are fixed when the month is closed: each attempt sends the same.
type PeriodNotice struct {
	ID        uuid.UUID `json:"id"`
	Type      string    `json:"type"` // billing.period_closed
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Period   string    `json:"period" doc:"A month of UTC" example:"2026-01"`
		From     time.Time `json:"from"`
		Until    time.Time `json:"until" doc:"Exclusive"`
		Users    int64     `json:"users" doc:"That used anything" example:"12"`
		Messages int64     `json:"messages" example:"3210"`
		APIHits  int64     `json:"apiHits" example:"45678"`
		ClosedAt time.Time `json:"closedAt"`
	} `json:"data"`
}

func periodNotice(p models.Period) PeriodNotice {
	n := PeriodNotice{ID: p.ID, Type: "billing.period_closed", Timestamp: p.ClosedAt.UTC()}
	n.Data.Period, n.Data.From, n.Data.Until = p.Month.Format("2006-01"), p.Month.UTC(), p.Month.UTC().AddDate(0, 1, 0)
	n.Data.Users, n.Data.Messages, n.Data.APIHits, n.Data.ClosedAt = p.Users, p.Messages, p.APIHits, p.ClosedAt.UTC()
	return n
}

var (
	errBillingURL   = fault.New(fault.Unavailable, "billing_url_missing", "BILLING_WEBHOOK_URL is not set any more.")
	errPeriodNotice = fault.New(fault.Unavailable, "period_not_taken", "BILLING_WEBHOOK_URL did not take the event.")
)

// notifyPeriod posts the event, through the client of webhooks: a private address has to be allowed by WEBHOOK_ALLOW_CIDRS.
func (r *Runner) notifyPeriod(ctx context.Context, j *models.Job) (any, error) {
	var n PeriodNotice
	if err := json.Unmarshal(j.Params, &n); err != nil {
		return nil, errNoSubject.WithCause(err)
	}
	if r.cfg.BillingURL == "" {
		return nil, errBillingURL
	}
	signed, err := webhook.Sign([]string{r.cfg.OperatorSecret}, j.ID.String(), time.Now(), j.Params)
	if err != nil {
		return nil, fmt.Errorf("sign event %s: %w", j.ID, err)
	}
	result := r.hooks.Deliver(ctx, webhook.Request{URL: r.cfg.BillingURL, Signed: signed, Body: j.Params})
	if !result.OK() {
		return nil, errPeriodNotice.WithCause(result.Err)
	}
	if err := models.PeriodAnnounced(ctx, r.db.Pool, n.Data.From); err != nil {
		return nil, fmt.Errorf("note that %s was announced: %w", n.Data.Period, err)
	}
	return map[string]int{"status": result.Status}, nil
}
