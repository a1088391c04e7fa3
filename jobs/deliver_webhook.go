package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2"
	"github.com/hibiken/asynq"

	"kurir/models"
	"kurir/monitoring"
	"kurir/webhook"
)

// KindDeliverWebhook wakes a webhook's lane, which delivers the events that it is owed. It is woken after each
// transaction that wrote events, and by the sweep when a retry is due.
const KindDeliverWebhook = "webhook:deliver"

// DeliverWebhook is its payload.
type DeliverWebhook struct {
	WebhookID uuid.UUID `json:"webhookId"`
}

func (DeliverWebhook) kind() string            { return KindDeliverWebhook }
func (DeliverWebhook) options() []asynq.Option { return laneOptions(QueueWebhooks) }

// Purposes under which the parts of a webhook are sealed in the vault.
const (
	SealSecret  = "webhook secret"
	SealHeaders = "webhook headers"
)

const (
	deliverClaim = 4   // deliveries read at once, in multiples of the width
	deliverMost  = 128 // and at most
	deliverRound = 2 * time.Second
)

// deliverer drains the lanes of webhooks.
type deliverer struct {
	db       *models.DB
	lanes    *Lanes
	vault    *models.Vault
	client   *webhook.Client
	schedule webhook.Schedule
	queue    *Queue
	waker    *Waker
	metrics  *monitoring.Metrics
	log      *slog.Logger
	widths   *lru.Cache[uuid.UUID, webhook.Width] // what this runner has learned of the endpoints
}

// run drains one webhook's lane. A failed delivery is no failure of the job: it is written down and comes again on the
// schedule. A killed runner's deliveries under way are delivered again; the subscriber knows them by webhook-id.
func (d *deliverer) run(ctx context.Context, p DeliverWebhook) error {
	d.queue.taken(ctx, p.WebhookID)
	more, err := d.lanes.drain(ctx, p.WebhookID, models.LaneWebhook, d.round)
	if more {
		d.waker.Webhooks(p.WebhookID)
	}
	return err
}

// round reads a few deliveries and makes one attempt at each, as many side by side as the endpoint bears.
func (d *deliverer) round(ctx context.Context, h *models.Hold) (step, error) {
	now := time.Now()
	width, _ := d.widths.Get(h.Lane)
	slots, resume := width.Slots(now)
	if slots == 0 {
		return step{pause: resume.Sub(now)}, nil // waiting spends no attempt
	}
	target, err := d.target(ctx, h.Lane)
	if err != nil {
		return step{}, err
	}
	if target == nil { // what came meanwhile must not keep the lane from being released
		_, held, err := models.DueDeliveries(ctx, d.db, h, false, 1)
		return step{idle: true, lost: !held}, err
	}
	limit := min(slots*deliverClaim, deliverMost)
	if target.ordered || width.Broken() {
		slots, limit = 1, 1
	}
	due, held, err := models.DueDeliveries(ctx, d.db, h, target.ordered, limit)
	switch {
	case err != nil:
		return step{}, err
	case !held:
		return step{lost: true}, nil
	case len(due) == 0:
		return step{idle: true}, nil
	}
	results := d.attempt(ctx, target, due, slots)
	var batch webhook.Batch
	var tried []models.Tried
	gone := false
	for i, result := range results {
		if result.Aborted || result.Status == 0 && result.Err == nil {
			continue // not begun, or ended from our side
		}
		gone = gone || result.Gone
		batch.Slowest = max(batch.Slowest, result.Duration)
		if result.OK() {
			batch.Succeeded++
			d.metrics.EventToDelivered(time.Since(due[i].At))
		} else {
			batch.Failed++
		}
		tried = append(tried, d.outcome(&due[i], result, time.Now()))
	}
	// Failures are measured against what went out at once, not against the whole round.
	d.widths.Add(h.Lane, width.After(batch, time.Now()))
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	return step{}, models.SettleDeliveries(settle, d.db, *h, tried, gone)
}

// target is where a webhook's deliveries go and how.
type target struct {
	url     string
	headers map[string]string
	secrets []string
	ordered bool
}

// target reads the webhook and opens its secrets; nil if it is gone or switched off.
func (d *deliverer) target(ctx context.Context, id uuid.UUID) (*target, error) {
	w, err := models.WebhookByID(ctx, d.db, id)
	if ok, err := models.Found(err); err != nil || !ok || !w.IsActive {
		return nil, err
	}
	t := &target{url: w.URL, ordered: w.Ordered}
	secret, err := d.vault.Open(SealSecret, w.Secret)
	if err != nil {
		return nil, fmt.Errorf("secret of webhook %s: %w", id, err)
	}
	t.secrets = []string{string(secret)}
	if w.PreviousUntil != nil && w.PreviousUntil.After(time.Now()) {
		if previous, err := d.vault.Open(SealSecret, w.PreviousSecret); err == nil {
			t.secrets = append(t.secrets, string(previous))
		}
	}
	if w.Headers != nil {
		plain, err := d.vault.Open(SealHeaders, w.Headers)
		if err != nil {
			return nil, fmt.Errorf("headers of webhook %s: %w", id, err)
		}
		if err := json.Unmarshal(plain, &t.headers); err != nil {
			return nil, fmt.Errorf("headers of webhook %s: %w", id, err)
		}
	}
	return t, nil
}

// attempt delivers side by side. Those that are not begun when the round is over keep an empty result.
func (d *deliverer) attempt(ctx context.Context, t *target, due []models.DueDelivery, slots int) []webhook.Result {
	results := make([]webhook.Result, len(due))
	end := time.Now().Add(deliverRound)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(slots, len(due)) {
		workers.Go(func() {
			for i := range next {
				results[i] = d.deliver(ctx, t, &due[i])
			}
		})
	}
	for i := range due {
		if time.Now().After(end) || ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

func (d *deliverer) deliver(ctx context.Context, t *target, due *models.DueDelivery) webhook.Result {
	body := webhook.Envelope{ID: due.EventID.String(), Type: due.Event, Timestamp: due.At, SessionID: due.SessionID,
		Sequence: due.Sequence, Data: due.Data}.Body()
	signed, err := webhook.Sign(t.secrets, due.EventID.String(), time.Now(), body)
	if err != nil {
		return webhook.Result{Err: err}
	}
	return d.client.Deliver(ctx, webhook.Request{URL: t.url, Headers: t.headers, Signed: signed, Body: body})
}

// outcome turns the endpoint's answer into what is written down.
func (d *deliverer) outcome(due *models.DueDelivery, r webhook.Result, now time.Time) models.Tried {
	t := models.Tried{Delivery: due.ID, Attempt: due.Attempts + 1, Status: models.DeliveryDelivered, Code: r.Status, Body: r.Body, Duration: r.Duration}
	if r.OK() {
		d.metrics.Deliveries("delivered", 1)
		return t
	}
	if r.Err != nil {
		t.Error = r.Err.Error()
	}
	next, again := d.schedule.Next(t.Attempt, now, rand.Float64(), r.RetryAfter)
	if !again || r.Gone {
		t.Status = models.DeliveryFailed
		d.metrics.Deliveries("failed", 1)
		return t
	}
	t.Status, t.NextRetry = models.DeliveryRetrying, &next
	d.metrics.Deliveries("retrying", 1)
	return t
}
