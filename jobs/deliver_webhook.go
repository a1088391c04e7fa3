package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2"
	"github.com/hibiken/asynq"

	"kurir/models"
	"kurir/monitoring"
	"kurir/tracing"
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
	SealSecret  = models.SealWebhookSecret
	SealHeaders = models.SealWebhookHeaders
)

const (
	deliverClaim = 4   // deliveries read at once, in multiples of the width
	deliverMost  = 128 // and at most
	deliverRound = 2 * time.Second
)

// sink takes deliveries to one kind of destination, chosen by the scheme of the webhook's URL, and answers in HTTP's terms: a
// status from 200 to 299 is success. Another kind is a file with such a type, and its line in newSinks.
type sink interface {
	deliver(ctx context.Context, t *target, due *models.DueDelivery) webhook.Result
}

func newSinks(client *webhook.Client) map[string]sink {
	over := httpSink{client}
	return map[string]sink{"http": over, "https": over}
}

// deliverer drains the lanes of webhooks.
type deliverer struct {
	db       *models.DB
	lanes    *Lanes
	vault    *models.Vault
	sinks    map[string]sink // by scheme
	schedule webhook.Schedule
	// disableAfter so long of nothing but failures a webhook is switched off; 0: never.
	disableAfter time.Duration
	crowd        crowd
	queue        *Queue
	waker        *Waker
	metrics      *monitoring.Metrics
	log          *slog.Logger
	widths       *lru.Cache[uuid.UUID, webhook.Width] // what this runner has learned of the endpoints
	traces       *tracing.Tracer
}

// run drains one webhook's lane. A failed delivery is no failure of the job: it is written down and comes again on the
// schedule. A killed runner's deliveries under way are delivered again; the subscriber knows them by webhook-id.
func (d *deliverer) run(ctx context.Context, p DeliverWebhook) error {
	wake, err := d.lanes.drain(ctx, p.WebhookID, models.LaneWebhook, d.round)
	d.waker.Webhooks(wake...)
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
	if width.Slow() {
		if !d.crowd.enter() {
			return step{pause: crowdPause + rand.N(crowdPause)}, nil
		}
		defer d.crowd.leave()
	}
	limit := min(slots*deliverClaim, deliverMost)
	if h.OneByOne || width.Broken() {
		slots, limit = 1, 1
	}
	w, due, err := models.DueDeliveries(ctx, d.db, h, limit)
	switch {
	case err != nil:
		return step{}, err
	case w == nil:
		return step{lost: true}, nil
	case w.Ordered != h.OneByOne: // now that this is known, look as is right
		h.OneByOne = w.Ordered
		return step{}, nil
	case len(due) == 0:
		return step{idle: true}, nil
	}
	target, err := d.target(w)
	if err != nil {
		return step{}, err
	}
	short := len(due) < limit
	if due, err = d.kept(ctx, h, due); err != nil || len(due) == 0 {
		return step{}, err
	}
	cut := false
	var results []webhook.Result
	if width.Slow() {
		results = d.attempt(ctx, target, due, slots)
	} else {
		cut = d.crowd.watch(ctx, crowdAfter, func(ctx context.Context) { results = d.attempt(ctx, target, due, slots) })
	}
	done, err := d.settle(ctx, h, target, due, results, width, cut)
	// A round that found little has seen nearly all that was due: the release looks for the rest.
	done.ended = done.pause == 0 && short
	done.idle, done.keep = done.ended, done.keep && done.ended
	return done, err
}

// kept ends those of a round whose events are gone, by retention or since a person is to be forgotten, and returns the others.
func (d *deliverer) kept(ctx context.Context, h *models.Hold, due []models.DueDelivery) (list []models.DueDelivery, err error) {
	var ended []uuid.UUID
	for i := range due {
		if due[i].Data == nil {
			ended = append(ended, due[i].ID)
		} else {
			list = append(list, due[i])
		}
	}
	if len(ended) > 0 {
		d.metrics.Deliveries("failed", len(ended))
		err = models.EndUnkept(ctx, d.db.Pool, *h, ended)
	}
	return list, err
}

// settle writes back what became of a round, and learns from it.
func (d *deliverer) settle(ctx context.Context, h *models.Hold, t *target, due []models.DueDelivery, results []webhook.Result, width webhook.Width, cut bool) (step, error) {
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
			if due[i].Before == 0 { // a replay is as late as its owner wanted
				d.metrics.EventToDelivered(time.Since(due[i].At))
			}
		} else {
			batch.Failed++
		}
		tried = append(tried, d.outcome(t, &due[i], result, time.Now()))
	}
	// Failures are measured against what went out at once, not against the whole round.
	width = width.After(batch, time.Now())
	// All went out, and none of it after a failure: a round reads a part of what is to be tried again.
	done := step{keep: batch.Succeeded == len(due) && !slices.ContainsFunc(due, func(d models.DueDelivery) bool { return d.Attempts > d.Before })}
	if cut {
		width, done.pause = width.CutOff(), crowdPause+rand.N(crowdPause)
	}
	d.widths.Add(h.Lane, width)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	failing, err := models.SettleDeliveries(ctx, d.db, *h, tried, d.failureGap())
	if err != nil {
		return step{}, err
	}
	switch {
	case gone:
		err = d.disable(ctx, h, t, models.DisabledGone)
	case batch.Failed > 0 && d.disableAfter > 0 && failing != nil && time.Since(*failing) >= d.disableAfter:
		err = d.disable(ctx, h, t, models.DisabledFailing)
	}
	return done, err
}

// failureGap is how far two failures may lie apart that count as one time of nothing but failures: one of weeks ago and one of
// today are none, but an ordered webhook may have a single delivery, which comes again at the pace of the schedule.
func (d *deliverer) failureGap() time.Duration {
	gap := 48 * time.Hour
	for _, wait := range d.schedule {
		gap = max(gap, 2*wait)
	}
	return gap
}

// disable switches a webhook off and has its owner told. What it is owed stays, and waits.
func (d *deliverer) disable(ctx context.Context, h *models.Hold, t *target, reason string) error {
	ok, err := models.DisableWebhook(ctx, d.db, *h, t.asOf, reason)
	if err != nil {
		return fmt.Errorf("disable webhook %s: %w", h.Lane, err)
	}
	if ok {
		d.metrics.WebhookDisabled(reason)
		d.log.Warn("webhook switched off", "webhook", h.Lane, "reason", reason)
	}
	return nil
}

// target is where a webhook's deliveries go and how.
type target struct {
	url       string
	sink      sink
	headers   map[string]string
	secrets   []string
	ordered   bool
	skipAfter int       // attempts after which an ordered webhook goes on without a delivery; 0: it never does
	asOf      time.Time // of the webhook's last change
}

// target opens a webhook's secrets.
func (d *deliverer) target(w *models.Webhook) (*target, error) {
	scheme, _, _ := strings.Cut(w.URL, ":")
	t := &target{url: w.URL, sink: d.sinks[strings.ToLower(scheme)], ordered: w.Ordered, asOf: w.UpdatedAt}
	if t.sink == nil {
		return nil, fmt.Errorf("webhook %s: there is no sink for %q", w.ID, scheme)
	}
	if w.OnFailure == models.OnFailureSkip {
		t.skipAfter = w.SkipAfter
	}
	secret, err := d.vault.Open(SealSecret, w.Secret)
	if err != nil {
		return nil, fmt.Errorf("secret of webhook %s: %w", w.ID, err)
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
			return nil, fmt.Errorf("headers of webhook %s: %w", w.ID, err)
		}
		if err := json.Unmarshal(plain, &t.headers); err != nil {
			return nil, fmt.Errorf("headers of webhook %s: %w", w.ID, err)
		}
	}
	return t, nil
}

// attempt delivers side by side. Those that are not begun when the round is over keep an empty result.
func (d *deliverer) attempt(ctx context.Context, t *target, due []models.DueDelivery, slots int) []webhook.Result {
	batch := d.batchOf(ctx, due)
	defer batch.End()
	results := make([]webhook.Result, len(due))
	end := time.Now().Add(deliverRound)
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(slots, len(due)) {
		workers.Go(func() {
			for i := range next {
				results[i] = d.one(ctx, t, &due[i], batch)
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

// envelope is what is sent of a delivery, whatever the sink.
func envelope(due *models.DueDelivery) webhook.Envelope {
	return webhook.Envelope{ID: due.EventID.String(), Type: due.Event, Timestamp: due.At, SessionID: due.SessionID, Metadata: due.Metadata, Sequence: due.Sequence, Data: due.Data}
}

// httpSink posts what is signed.
type httpSink struct{ client *webhook.Client }

func (s httpSink) deliver(ctx context.Context, t *target, due *models.DueDelivery) webhook.Result {
	body := envelope(due).Body()
	signed, err := webhook.Sign(t.secrets, due.EventID.String(), time.Now(), body)
	if err != nil {
		return webhook.Result{Err: err}
	}
	return s.client.Deliver(ctx, webhook.Request{URL: t.url, Headers: t.headers, Signed: signed, Body: body, Trace: tracing.Of(ctx).Traceparent()})
}

// outcome turns the endpoint's answer into what is written down.
func (d *deliverer) outcome(to *target, due *models.DueDelivery, r webhook.Result, now time.Time) models.Tried {
	d.metrics.WebhookRequest(r.Duration)
	t := models.Tried{Delivery: due.ID, Attempt: due.Attempts + 1, Status: models.DeliveryDelivered, Code: r.Status, Body: r.Body, Duration: r.Duration}
	if r.OK() {
		d.metrics.Deliveries("delivered", 1)
		return t
	}
	if r.Err != nil {
		t.Error = r.Err.Error()
	}
	next, again := d.next(to, t.Attempt-due.Before, now, r.RetryAfter)
	if r.Gone { // it waits with the others, until the webhook is switched on again
		next, again = now, true
	}
	if !again {
		t.Status = models.DeliveryFailed
		d.metrics.Deliveries("failed", 1)
		return t
	}
	t.Status, t.NextRetry = models.DeliveryRetrying, &next
	d.metrics.Deliveries("retrying", 1)
	return t
}

// next says when a delivery with so many failed attempts is tried again, false if it is given up. An ordered webhook that
// waits for each goes on at the pace of the schedule's end: only the owner, or switching it off, ends that.
func (d *deliverer) next(t *target, attempts int, now time.Time, retryAfter time.Duration) (time.Time, bool) {
	if t.ordered && t.skipAfter == 0 {
		attempts = min(attempts, len(d.schedule)-1)
	} else if t.ordered && attempts >= t.skipAfter {
		return time.Time{}, false
	}
	return d.schedule.Next(attempts, now, rand.Float64(), retryAfter)
}
