package api

import (
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const (
	exampleTime   = "2026-03-01T09:30:00Z"
	exampleDigest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
)

// leftOut is a field that the example does without.
var leftOut any = struct{}{}

// exampleValues are examples of fields by name, or by schema and name, for those that have none themselves. Nil is for what is
// mostly null. Secrets end in … so that nobody takes them for real.
var exampleValues = map[string]any{
	"apiKey": "kur_…", "CreatedSession.apiKey": "kus_…", "token": "eyJ…", "secret": "whsec_…", "Registered.secret": "…",
	"id": "shop", "sessionId": "shop", "workerId": "worker-1", "messageId": exampleID, "requestId": exampleRequestID,
	"keyId": exampleID, "apiKeyId": exampleID, "userId": exampleID, "targetUserId": exampleID, "whatsappId": "3EB0A1B2C3D4E5F60718",
	"metadata": map[string]any{"order": 7}, "details": map[string]any{"tier": "pro"}, "result": map[string]any{"messageId": exampleID, "status": "sent"},
	"progress": nil, "answer": map[string]any{}, "reason": nil, "error": nil, "errorCode": nil, "problem": nil, "nextCursor": "MDE5OWMwZGU", "pendingEmail": nil, "waitingFor": nil,
	"version": "1.0.0", "description": "In the cellar", "endpoint": "http://10.0.0.7:8001", "responseBody": "ok", "vcard": "BEGIN:VCARD\nVERSION:3.0\nFN:Sari\nEND:VCARD",
	"lid": "123456789012345@lid", "phone": "+6281234567890", "phoneNumber": "+6281111111111", "chat": "6281234567890@s.whatsapp.net", "owner": "6281234567890@s.whatsapp.net",
	"url": "https://example.com/hooks", "ContactPicture.url": "https://pps.whatsapp.net/picture.jpg", "ContactPicture.id": "1700000000", "about": "At work",
	"Done.message": "Done.", "message": "Hello from Kurir!", "code": "AbCdEfGhIjKlMnOpQrStUv", "ParticipantResult.code": "not_on_whatsapp", "SentData.errorCode": leftOut, "Sending.pausedBy": nil, "Sending.reason": nil, "Sending.until": nil, "WebhookResource.disabledReason": nil, "WebhookResource.failingSince": nil, "SessionResource.status": "connected", "AdminSession.status": "connected", "Event.eventId": "3EB0A1B2C3D4E5F60718", "Event.type": "message.delivered", "Event.data": map[string]any{}, "HeldSession.status": "connected", "qr": "2@…", "ok": true, "isActive": true, "emailVerified": true, "enabled": true, "Registered.status": "online", "state": "available",
	"sha256": exampleDigest, "caption": nil, "filename": nil, "mediaUrl": nil, "mentions": []any{"6281234567890@s.whatsapp.net"}, "events": []any{"message.received", "message.failed"},
	"headerNames": []any{"X-Shop"}, "drop": []any{}, "headers": map[string]any{"X-Shop": "7"}, "method": nil,
}

// describeExamples gives an example to each body of an operation, made from the examples of its fields.
func (a *API) describeExamples() {
	api := a.huma.OpenAPI()
	all := api.Components.Schemas
	for _, item := range api.Paths {
		for _, o := range operationsOf(item) {
			if o.RequestBody != nil {
				addExample(all, o.RequestBody.Content["application/json"])
			}
			for status, response := range o.Responses {
				if status < strconv.Itoa(http.StatusMultipleChoices) {
					addExample(all, response.Content["application/json"])
				}
			}
		}
	}
	for _, hook := range api.Webhooks {
		addExample(all, hook.Post.RequestBody.Content["application/json"])
	}
}

func addExample(all huma.Registry, m *huma.MediaType) {
	if m == nil || m.Example != nil || len(m.Examples) > 0 {
		return
	}
	m.Example, _ = exampleFor(all, m.Schema, "", "")
}

// exampleFor makes an example of a schema, which is the field name of the schema of. ok is false where nothing says what it could be.
func exampleFor(all huma.Registry, s *huma.Schema, of, name string) (example any, ok bool) {
	if s.Ref != "" {
		of = s.Ref[strings.LastIndex(s.Ref, "/")+1:]
		s = all.SchemaFromRef(s.Ref)
	}
	if value, known := exampleValues[of+"."+name]; known {
		return value, value != leftOut
	}
	if len(s.Examples) > 0 {
		return s.Examples[0], true
	}
	if len(s.Enum) > 0 {
		return s.Enum[0], true
	}
	switch s.Format {
	case "date-time":
		return exampleTime, true
	case "uuid":
		return exampleID, true
	}
	if value, known := exampleValues[name]; known && couldBe(value, s) {
		return value, true
	}
	switch s.Type {
	case huma.TypeObject:
		return exampleObject(all, s, of), true
	case huma.TypeArray:
		item, ok := exampleFor(all, s.Items, of, name)
		return []any{item}, ok
	case huma.TypeBoolean:
		return false, true
	case huma.TypeInteger, huma.TypeNumber:
		if s.Minimum != nil {
			return *s.Minimum, true
		}
		return 1, true
	}
	for _, one := range s.OneOf {
		if one.Type != "null" {
			return exampleFor(all, one, of, name)
		}
	}
	return nil, s.Nullable
}

// couldBe reports whether a schema lets a value of the table pass.
func couldBe(value any, s *huma.Schema) bool {
	switch value.(type) {
	case nil:
		return s.Nullable || s.Type == ""
	case string:
		return s.Type == huma.TypeString
	case []any:
		return s.Type == huma.TypeArray && s.Items.Type == huma.TypeString
	case bool:
		return s.Type == huma.TypeBoolean
	}
	return s.Type == huma.TypeObject || s.Type == ""
}

func exampleObject(all huma.Registry, s *huma.Schema, of string) map[string]any {
	object := map[string]any{}
	for name := range maps.Keys(s.Properties) {
		if value, ok := exampleFor(all, s.Properties[name], of, name); ok {
			object[name] = value
		}
	}
	return object
}
