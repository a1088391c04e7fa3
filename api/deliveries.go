package api

import (
	"context"
	"strings"
	"time"

	"kurir/fault"
	"kurir/models"
	"kurir/webhook"
)

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
	DurationMs   int       `json:"durationMs" doc:"From the call until the answer was read"`
	CreatedAt    time.Time `json:"createdAt"`
}

func deliveryResource(d *models.Delivery) DeliveryResource {
	return DeliveryResource{ID: d.ID.String(), EventID: d.EventID.String(), Event: d.Event, Sequence: d.Sequence, Status: strings.ToLower(d.Status),
		Attempts: d.Attempts, ResponseCode: d.ResponseCode, Error: d.Error, NextRetry: utc(d.NextRetry), CreatedAt: d.CreatedAt.UTC(), DeliveredAt: utc(d.DeliveredAt)}
}

// DeliveryFilter chooses deliveries.
type DeliveryFilter struct {
	Limit  int       `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
	Cursor string    `query:"cursor" maxLength:"200" doc:"nextCursor of the page before"`
	Status string    `query:"status" enum:"pending,retrying,delivered,failed" doc:"Those with this status"`
	Event  string    `query:"event" maxLength:"64" doc:"Name of an event" example:"message.read"`
	Since  time.Time `query:"since" doc:"Of what was written down at that time or later"`
	Until  time.Time `query:"until" doc:"Of what was written down before"`
}

// DeliveriesInput asks for the deliveries of a session's webhook.
type DeliveriesInput struct {
	SessionPath
	DeliveryFilter
}

// DeliveryList is a page of deliveries, newest first.
type DeliveryList struct {
	Deliveries []DeliveryResource `json:"deliveries"`
	NextCursor *string            `json:"nextCursor" doc:"A page that looked through 10,000 deliveries for few may be short, or empty, and have one all the same"`
}

func (a *API) listDeliveries(ctx context.Context, in *DeliveriesInput) (*Reply[DeliveryList], error) {
	if in.Event != "" && (in.Event == webhook.All || webhook.ValidEvents([]string{in.Event}) != nil) {
		return nil, fault.Field("event", "expected the name of an event")
	}
	var below int64
	if in.Cursor != "" {
		var err error
		if below, err = decodeSequence(in.Cursor); err != nil {
			return nil, err
		}
	}
	w, err := a.ownWebhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	rows, next, err := models.Deliveries(ctx, a.db, w.ID, models.DeliveryFilter{Status: strings.ToUpper(in.Status), Event: in.Event,
		Since: notBefore1970(in.Since), Until: notBefore1970(in.Until), Below: below, Limit: in.Limit})
	if err != nil {
		return nil, databaseFault(err)
	}
	list := DeliveryList{Deliveries: make([]DeliveryResource, 0, len(rows))}
	for i := range rows {
		list.Deliveries = append(list.Deliveries, deliveryResource(&rows[i]))
	}
	if next > 0 {
		cursor := encodeSequence(next)
		list.NextCursor = &cursor
	}
	return reply(list), nil
}

// DeliveryPath names a delivery.
type DeliveryPath struct {
	DeliveryID string `path:"deliveryId" maxLength:"64" format:"uuid" doc:"The delivery's ID"`
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
	return reply(deliveryWithAttempts(d, attempts)), nil
}

func deliveryWithAttempts(d *models.Delivery, attempts []models.Attempt) DeliveryResource {
	r := deliveryResource(d)
	r.ResponseBody, r.AttemptLog = d.ResponseBody, []AttemptResource{}
	for _, t := range attempts {
		r.AttemptLog = append(r.AttemptLog, AttemptResource{Attempt: t.Attempt, ResponseCode: t.ResponseCode, ResponseBody: t.ResponseBody,
			Error: t.Error, DurationMs: t.DurationMs, CreatedAt: t.CreatedAt.UTC()})
	}
	return r
}
