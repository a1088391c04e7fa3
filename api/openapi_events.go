package api

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"kurir/jobs"
	"kurir/webhook"
)

// describeWebhooks adds what we send to subscribers to the OpenAPI document.
func (a *API) describeWebhooks() {
	api := a.huma.OpenAPI()
	api.Webhooks = map[string]*huma.PathItem{}
	for _, event := range webhook.Events() {
		data := dataOf(event)
		if data == nil {
			continue
		}
		body := &huma.Schema{Type: "object", Required: []string{"id", "type", "timestamp", "sessionId", "sequence", "data"}, Properties: map[string]*huma.Schema{
			"id":        {Type: "string", Format: "uuid", Description: "Of the event: the same at every attempt"},
			"type":      {Type: "string", Enum: []any{event}},
			"timestamp": {Type: "string", Format: "date-time"},
			"sessionId": {OneOf: []*huma.Schema{{Type: "string"}, {Type: "null"}}, Description: "Null for the test of an account's webhook"},
			"metadata":  {Type: "object", AdditionalProperties: true, Description: "The session's; left out where it has none"},
			"sequence":  {Type: "integer", Description: "Counts per webhook without gaps"},
			"data":      huma.SchemaFromType(api.Components.Schemas, reflect.TypeOf(data)),
		}}
		api.Webhooks[event] = &huma.PathItem{Post: &huma.Operation{Summary: event, Tags: []string{"Webhooks"},
			Description: "Signed with webhook-id, webhook-timestamp and webhook-signature, as Standard Webhooks say. Answer 2xx within 15 seconds.",
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: body}}},
			Responses:   map[string]*huma.Response{"2XX": {Description: "Taken"}}}}
	}
}

// describeNotices adds what operators are told at addresses of the configuration.
func (a *API) describeNotices() {
	api := a.huma.OpenAPI()
	for _, notice := range []struct {
		event, where, when string
		data               any
	}{
		{"billing.period_closed", "BILLING_WEBHOOK_URL", "A month is closed: its figures never change from then on.", jobs.PeriodNotice{}.Data},
		{"scaling.recommended", "SCALING_WEBHOOK_URL", "The recommended number of workers has changed.", jobs.ScalingNotice{}.Data},
	} {
		body := &huma.Schema{Type: "object", Required: []string{"id", "type", "timestamp", "data"}, Properties: map[string]*huma.Schema{
			"id":        {Type: "string", Format: "uuid", Description: "The same at every attempt"},
			"type":      {Type: "string", Enum: []any{notice.event}},
			"timestamp": {Type: "string", Format: "date-time"},
			"data":      huma.SchemaFromType(api.Components.Schemas, reflect.TypeOf(notice.data)),
		}}
		api.Webhooks[notice.event] = &huma.PathItem{Post: &huma.Operation{Summary: notice.event, Tags: []string{"Administration"},
			Description: notice.when + " For the operator, at " + notice.where + ", signed with WEBHOOK_SECRET as Standard Webhooks say.",
			RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: body}}},
			Responses:   map[string]*huma.Response{"2XX": {Description: "Taken"}}}}
	}
}

// dataOf is the data of an event that this version sends.
func dataOf(event string) any {
	switch event {
	case webhook.EventSessionStatus:
		return webhook.SessionStatus{}
	case webhook.EventSessionQR:
		return webhook.SessionQR{}
	case webhook.EventSessionMigrated:
		return webhook.SessionMigrated{}
	case webhook.EventSessionThrottled:
		return webhook.SessionThrottled{}
	case webhook.EventMessageReceived, webhook.EventMessageSent, webhook.EventMessageDelivered, webhook.EventMessageRead,
		webhook.EventMessageFailed, webhook.EventMessageCancelled, webhook.EventMessageExpired, webhook.EventMessageUnknown,
		webhook.EventMessageEdited, webhook.EventMessageDeleted:
		return webhook.Message{}
	case webhook.EventMessageReaction:
		return webhook.Reacted{}
	case webhook.EventTest:
		return webhook.Test{}
	case webhook.EventCallReceived:
		return webhook.Call{}
	case webhook.EventGroupUpdated:
		return webhook.Group{}
	case webhook.EventPresenceUpdated:
		return webhook.Presence{}
	}
	return nil
}
