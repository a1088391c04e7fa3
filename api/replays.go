package api

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/models"
	"kurir/webhook"
)

// TestWebhookInput asks for a test event to a session's webhook.
type TestWebhookInput struct {
	SessionPath
	OnceHeader
	Prefer string `header:"Prefer" doc:"wait=N, up to 30: answer when it was tried" example:"wait=20"`
}

// testWebhook sends an event to one webhook, whatever that subscribed to. It goes the way of all deliveries.
func (a *API) testWebhook(ctx context.Context, in *TestWebhookInput) (*Started[DeliveryResource], error) {
	w, err := a.ownWebhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if !w.IsActive {
		return nil, models.ErrWebhookInactive
	}
	event := newResourceID(ctx)
	var delivery uuid.UUID
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		delivery, err = models.TestWebhook(ctx, tx, w, event, webhook.Test{WebhookID: w.ID.String(), Message: "This is a test."})
		return err
	})
	if err != nil {
		return nil, stored(err)
	}
	a.waker.Webhooks(models.Woken{Lane: w.ID})
	return a.tried(ctx, delivery, 0, waitOf(in.Prefer))
}

// tried answers a delivery when it has had more than so many attempts, or the time is up.
func (a *API) tried(ctx context.Context, id uuid.UUID, attempts int, wait time.Duration) (*Started[DeliveryResource], error) {
	answer := &Started[DeliveryResource]{Status: http.StatusAccepted, PreferenceApplied: applied(wait),
		Location: basePath + "/webhook-deliveries/" + id.String(), Body: Body[DeliveryResource]{Success: true}}
	look := func() (bool, error) {
		d, log, err := models.DeliveryOf(ctx, a.db, callerOf(ctx).user.ID, id)
		if err := found(err, errNoDelivery); err != nil {
			return false, err
		}
		answer.Body.Data = deliveryWithAttempts(d, log)
		return d.Attempts > attempts, nil
	}
	done, err := look()
	if err == nil && !done && wait > 0 {
		done, err = a.waiter.until(ctx, callerOf(ctx).user.ID, wait, look)
	}
	if err != nil {
		return nil, err
	}
	if done {
		answer.Status = http.StatusOK
	}
	return answer, nil
}

// ReplayInput asks for a range of the deliveries of a session's webhook once more.
type ReplayInput struct {
	SessionPath
	OnceHeader
	Body ReplayFields
}

// ReplayFields choose deliveries.
type ReplayFields struct {
	Since  time.Time  `json:"since" doc:"Of what was written down at that time or later" example:"2026-01-02T15:04:05Z"`
	Until  *time.Time `json:"until,omitempty" doc:"Of what was written down before. Left out: now" example:"2026-01-03T15:04:05Z"`
	Status string     `json:"status,omitempty" enum:"delivered,failed" doc:"Left out: both" example:"failed"`
}

var replayable = map[string]string{"": "", "delivered": models.DeliveryDelivered, "failed": models.DeliveryFailed}

func (a *API) replayWebhook(ctx context.Context, in *ReplayInput) (*Started[StartedJob], error) {
	r := models.Replay{Since: notBefore1970(in.Body.Since), Until: time.Now(), Status: replayable[in.Body.Status]}
	if in.Body.Until != nil && in.Body.Until.Before(r.Until) {
		r.Until = notBefore1970(*in.Body.Until)
	}
	w, err := a.ownWebhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if !r.Since.Before(r.Until) {
		return nil, fault.Field("since", "expected a time before until, and before now")
	}
	if !w.IsActive {
		return nil, models.ErrWebhookInactive
	}
	r.WebhookID = w.ID
	job := newResourceID(ctx)
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) error { return models.AddReplay(ctx, tx, job, w, r) })
	if err != nil {
		return nil, stored(err)
	}
	a.queue.StartJob(ctx, models.KindReplay, job)
	return started(http.StatusAccepted, job, "", StartedJob{JobID: job.String()}), nil
}

// ReplayDeliveryInput asks for a delivery once more.
type ReplayDeliveryInput struct {
	DeliveryPath
	Prefer string `header:"Prefer" doc:"wait=N, up to 30: answer when it was tried" example:"wait=20"`
}

func (a *API) replayDelivery(ctx context.Context, in *ReplayDeliveryInput) (*Started[DeliveryResource], error) {
	id, err := idOf(in.DeliveryID, errNoDelivery)
	if err != nil {
		return nil, err
	}
	d, _, err := models.DeliveryOf(ctx, a.db, callerOf(ctx).user.ID, id)
	if err := found(err, errNoDelivery); err != nil {
		return nil, err
	}
	w, err := models.WebhookByID(ctx, a.db, d.WebhookID)
	if err := found(err, errNoDelivery); err != nil {
		return nil, err
	}
	if !w.IsActive {
		return nil, models.ErrWebhookInactive
	}
	if err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error { return models.ReplayDelivery(ctx, tx, d) }); err != nil {
		return nil, stored(err)
	}
	a.waker.Webhooks(models.Woken{Lane: w.ID})
	return a.tried(ctx, d.ID, d.Attempts, waitOf(in.Prefer))
}
