package api

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/jobs"
	"kurir/models"
	"kurir/webhook"
)

// WebhookFields is a webhook as its owner sets it.
type WebhookFields struct {
	URL      string            `json:"url" minLength:"1" maxLength:"2048" example:"https://shop.example.com/kurir"`
	Events   []string          `json:"events,omitempty" maxItems:"50" doc:"Names of events, or * for all. Left out: all" example:"[\"message.received\",\"message.read\"]"`
	Secret   *string           `json:"secret,omitempty" maxLength:"200" doc:"whsec_ and base64, or 24 to 64 characters of your own. Left out: we make one, or keep the one that is there"`
	Headers  map[string]string `json:"headers,omitempty" doc:"Headers to add to each delivery"`
	Ordered  bool              `json:"ordered,omitempty" doc:"Deliver one by one, in the order of sequence"`
	IsActive *bool             `json:"isActive,omitempty" doc:"Default: true"`
}

// WebhookResource is a webhook as its owner sees it.
type WebhookResource struct {
	ID             string     `json:"id" format:"uuid"`
	SessionID      string     `json:"sessionId"`
	URL            string     `json:"url"`
	Events         []string   `json:"events"`
	Secret         string     `json:"secret,omitempty" doc:"Shown this once, when it is new. Verify signatures with it, see Standard Webhooks" example:"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"`
	HeaderNames    []string   `json:"headerNames" doc:"Names of the added headers; their values are not shown again"`
	Ordered        bool       `json:"ordered"`
	IsActive       bool       `json:"isActive"`
	DisabledReason *string    `json:"disabledReason" doc:"Why we switched it off" example:"gone"`
	LastDelivery   *time.Time `json:"lastDelivery"`
	FailureCount   int        `json:"failureCount" doc:"Failed attempts since the last success"`
	CreatedAt      time.Time  `json:"createdAt"`
	UpdatedAt      time.Time  `json:"updatedAt"`
}

func webhookResource(w *models.Webhook, session, secret string) WebhookResource {
	return WebhookResource{ID: w.ID.String(), SessionID: session, URL: w.URL, Events: w.Events, Secret: secret, HeaderNames: w.HeaderNames,
		Ordered: w.Ordered, IsActive: w.IsActive, DisabledReason: w.DisabledReason, LastDelivery: utc(w.LastDelivery),
		FailureCount: w.FailureCount, CreatedAt: w.CreatedAt.UTC(), UpdatedAt: w.UpdatedAt.UTC()}
}

// PutWebhookInput sets a session's webhook.
type PutWebhookInput struct {
	SessionPath
	Body WebhookFields
}

func (a *API) putWebhook(ctx context.Context, in *PutWebhookInput) (*Reply[WebhookResource], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	var w *models.Webhook
	var secret string
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) (err error) {
		w, secret, err = a.saveWebhook(ctx, tx, s.UID, &in.Body)
		return err
	})
	if ok, other := models.Found(err); !ok && other == nil {
		return nil, models.ErrGone // deleted since we looked
	}
	if err != nil {
		return nil, stored(err)
	}
	a.waker.Webhooks(w.ID)
	return reply(webhookResource(w, s.ID, secret)), nil
}

// saveWebhook checks and stores a webhook. The secret is returned only when it is new.
func (a *API) saveWebhook(ctx context.Context, tx models.Tx, session uuid.UUID, f *WebhookFields) (*models.Webhook, string, error) {
	if err := a.checkWebhook(f); err != nil {
		return nil, "", err
	}
	secret := ""
	if f.Secret != nil {
		secret = *f.Secret
	}
	w, err := models.PutWebhook(ctx, tx, session, func(former *models.Webhook) (*models.Webhook, error) {
		now := time.Now().Truncate(time.Microsecond) // as PostgreSQL keeps it
		w := &models.Webhook{CreatedAt: now}
		if former != nil {
			w = former
		} else if secret == "" {
			secret = webhook.NewSecret()
		}
		w.URL, w.Events, w.Ordered, w.UpdatedAt = f.URL, f.Events, f.Ordered, now
		w.IsActive = f.IsActive == nil || *f.IsActive
		w.DisabledReason, w.FailingSince = nil, nil
		if secret != "" {
			w.Secret, w.PreviousSecret, w.PreviousUntil = a.vault.Seal(jobs.SealSecret, []byte(secret)), nil, nil
		}
		return w, a.sealHeaders(w, f.Headers)
	})
	return w, secret, err
}

func (a *API) sealHeaders(w *models.Webhook, headers map[string]string) error {
	w.Headers, w.HeaderNames = nil, []string{}
	if len(headers) == 0 {
		return nil
	}
	plain, err := json.Marshal(headers)
	if err != nil {
		return err
	}
	w.Headers = a.vault.Seal(jobs.SealHeaders, plain)
	w.HeaderNames = slices.Sorted(maps.Keys(headers))
	return nil
}

// checkWebhook checks what an owner set, fills in what he left out, and wraps a secret that he chose.
func (a *API) checkWebhook(f *WebhookFields) error {
	if err := a.guard.CheckURL(f.URL); err != nil {
		return fault.Field("url", err.Error())
	}
	if f.Events == nil {
		f.Events = []string{webhook.All}
	}
	if err := webhook.ValidEvents(f.Events); err != nil {
		return fault.Field("events", short(err.Error()))
	}
	if err := webhook.CheckHeaders(f.Headers); err != nil {
		return fault.Field("headers", short(strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	if f.Secret != nil {
		secret, err := webhook.ParseSecret(*f.Secret)
		if err != nil {
			return fault.Field("secret", err.Error())
		}
		f.Secret = &secret
	}
	return nil
}

var errNoWebhook = fault.New(fault.NotFound, "webhook_not_found", "The session has no webhook.")

// ownWebhook finds the webhook of a session of the caller.
func (a *API) ownWebhook(ctx context.Context, id string) (*models.Webhook, *models.Session, error) {
	s, err := a.ownSession(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	w, err := models.WebhookOf(ctx, a.db, s.UID)
	return w, s, found(err, errNoWebhook)
}

func (a *API) getWebhook(ctx context.Context, in *SessionPath) (*Reply[WebhookResource], error) {
	w, s, err := a.ownWebhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return reply(webhookResource(w, s.ID, "")), nil
}

func (a *API) deleteWebhook(ctx context.Context, in *SessionPath) (*Reply[Done], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	removed := false
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) (err error) {
		removed, err = models.DeleteWebhook(ctx, tx, s.UID)
		return err
	})
	switch {
	case err != nil:
		return nil, stored(err)
	case !removed:
		return nil, errNoWebhook
	}
	return reply(Done{Message: "The webhook is removed, with its deliveries."}), nil
}

// DeliveryResource is one event on its way to the webhook.
type DeliveryResource struct {
	ID           string            `json:"id" format:"uuid"`
	EventID      string            `json:"eventId" format:"uuid" doc:"The webhook-id header"`
	Event        string            `json:"event" example:"message.read"`
	Sequence     int64             `json:"sequence"`
	Status       string            `json:"status" enum:"pending,retrying,delivered,failed"`
	Attempts     int               `json:"attempts"`
	ResponseCode *int              `json:"responseCode"`
	Error        *string           `json:"error"`
	NextRetry    *time.Time        `json:"nextRetry"`
	CreatedAt    time.Time         `json:"createdAt"`
	DeliveredAt  *time.Time        `json:"deliveredAt"`
	ResponseBody *string           `json:"responseBody,omitempty" doc:"The first 4 KB of the last answer"`
	AttemptLog   []AttemptResource `json:"attemptLog,omitempty"`
}

// AttemptResource is one try.
type AttemptResource struct {
	Attempt      int       `json:"attempt"`
	ResponseCode *int      `json:"responseCode"`
	ResponseBody *string   `json:"responseBody"`
	Error        *string   `json:"error"`
	DurationMs   int       `json:"durationMs"`
	CreatedAt    time.Time `json:"createdAt"`
}

func deliveryResource(d *models.Delivery) DeliveryResource {
	return DeliveryResource{ID: d.ID.String(), EventID: d.EventID.String(), Event: d.Event, Sequence: d.Sequence, Status: strings.ToLower(d.Status),
		Attempts: d.Attempts, ResponseCode: d.ResponseCode, Error: d.Error, NextRetry: utc(d.NextRetry), CreatedAt: d.CreatedAt.UTC(), DeliveredAt: utc(d.DeliveredAt)}
}

// DeliveriesInput asks for a webhook's deliveries.
type DeliveriesInput struct {
	SessionPath
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	Cursor int64  `query:"cursor" minimum:"0" doc:"nextCursor of the page before"`
	Status string `query:"status" enum:"pending,retrying,delivered,failed"`
}

// DeliveryList is a page of deliveries, newest first.
type DeliveryList struct {
	Deliveries []DeliveryResource `json:"deliveries"`
	NextCursor *int64             `json:"nextCursor"`
}

func (a *API) listDeliveries(ctx context.Context, in *DeliveriesInput) (*Reply[DeliveryList], error) {
	w, _, err := a.ownWebhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	rows, err := models.Deliveries(ctx, a.db, w.ID, strings.ToUpper(in.Status), in.Cursor, in.Limit+1)
	if err != nil {
		return nil, databaseFault(err)
	}
	page := first(rows, in.Limit)
	list := DeliveryList{Deliveries: make([]DeliveryResource, 0, len(page))}
	for i := range page {
		list.Deliveries = append(list.Deliveries, deliveryResource(&page[i]))
	}
	if len(rows) > len(page) {
		list.NextCursor = &page[len(page)-1].Sequence
	}
	return reply(list), nil
}

// DeliveryPath names a delivery.
type DeliveryPath struct {
	DeliveryID string `path:"deliveryId" maxLength:"64" format:"uuid"`
}

var errNoDelivery = fault.New(fault.NotFound, "delivery_not_found", "There is no such delivery.")

func (a *API) getDelivery(ctx context.Context, in *DeliveryPath) (*Reply[DeliveryResource], error) {
	id, err := idOf(in.DeliveryID, errNoDelivery)
	if err != nil {
		return nil, err
	}
	d, attempts, err := models.DeliveryOf(ctx, a.db, callerOf(ctx).user.ID, id)
	if err := found(err, errNoDelivery); err != nil {
		return nil, err
	}
	r := deliveryResource(d)
	r.ResponseBody, r.AttemptLog = d.ResponseBody, []AttemptResource{}
	for _, t := range attempts {
		r.AttemptLog = append(r.AttemptLog, AttemptResource{Attempt: t.Attempt, ResponseCode: t.ResponseCode, ResponseBody: t.ResponseBody,
			Error: t.Error, DurationMs: t.DurationMs, CreatedAt: t.CreatedAt.UTC()})
	}
	return reply(r), nil
}
