package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The types of event that a webhook can subscribe to.
const (
	EventSessionStatus   = "session.status"
	EventSessionQR       = "session.qr"
	EventSessionMigrated = "session.migrated"

	EventSessionThrottled = "session.throttled"

	EventMessageReceived  = "message.received"
	EventMessageSent      = "message.sent"
	EventMessageDelivered = "message.delivered"
	EventMessageRead      = "message.read"
	EventMessageFailed    = "message.failed"
	EventMessageCancelled = "message.cancelled"
	EventMessageExpired   = "message.expired"
	EventMessageUnknown   = "message.unknown"
	EventMessageEdited    = "message.edited"
	EventMessageDeleted   = "message.deleted"
	EventMessageReaction  = "message.reaction"

	EventCallReceived = "call.received"
	EventGroupUpdated = "group.updated"

	EventPresenceUpdated = "presence.updated"

	// EventTest is sent on request only, to the webhook that asked, whatever it subscribed to.
	EventTest = "webhook.test"

	// All, as a subscription, stands for every type, those of later versions included.
	All = "*"
)

// Events returns every type of event, in the order of the documentation.
func Events() []string {
	return []string{
		EventSessionStatus, EventSessionQR, EventSessionMigrated, EventSessionThrottled,
		EventMessageReceived, EventMessageSent, EventMessageDelivered, EventMessageRead, EventMessageFailed, EventMessageCancelled,
		EventMessageExpired, EventMessageUnknown, EventMessageEdited, EventMessageDeleted, EventMessageReaction,
		EventCallReceived, EventGroupUpdated, EventPresenceUpdated, EventTest,
	}
}

// UnknownEventsError names the subscriptions that no event will ever match.
type UnknownEventsError struct{ Names []string }

func (e *UnknownEventsError) Error() string {
	return "unknown event types: " + strings.Join(e.Names, ", ")
}

// ValidEvents checks a subscription: at least one name, and each is All or one of Events. The error is an
// *UnknownEventsError where names are unknown.
func ValidEvents(names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("name at least one event type, or %q for all", All)
	}
	known := Events()
	var unknown []string
	for _, name := range names {
		if name != All && !slices.Contains(known, name) {
			unknown = append(unknown, fmt.Sprintf("%q", name))
		}
	}
	if unknown != nil {
		return &UnknownEventsError{Names: unknown}
	}
	return nil
}

// Matches reports whether a webhook that subscribed to these names wants an event of this type.
func Matches(subscribed []string, event string) bool {
	return slices.Contains(subscribed, event) || slices.Contains(subscribed, All)
}

// Envelope is what a subscriber receives.
type Envelope struct {
	ID        string          // of the event: the same at every attempt and replay
	Type      string          // one of Events
	Timestamp time.Time       // of what happened; sent in UTC with milliseconds
	SessionID string          // the session's public name; empty, sent as null, for what belongs to no session
	Metadata  json.RawMessage // the session's; left out where it has none
	Sequence  int64           // counts per webhook without gaps, so that the subscriber can see a loss
	Data      json.RawMessage // the resource, by type; empty is sent as null
}

// Body returns the bytes that are signed and sent: compact JSON with a fixed order of fields, so that the same envelope
// always gives the same bytes. Data that is not JSON is sent as a JSON string rather than lost.
func (e Envelope) Body() []byte {
	body := struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		Timestamp string          `json:"timestamp"`
		SessionID *string         `json:"sessionId"`
		Metadata  json.RawMessage `json:"metadata,omitempty"`
		Sequence  int64           `json:"sequence"`
		Data      json.RawMessage `json:"data"`
	}{
		ID:        e.ID,
		Type:      e.Type,
		Timestamp: e.Timestamp.UTC().Format("2006-01-02T15:04:05.000Z"),
		Metadata:  e.Metadata,
		Sequence:  e.Sequence,
		Data:      e.data(),
	}
	if e.SessionID != "" {
		body.SessionID = &e.SessionID
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// The encoder cannot fail: Data and Metadata are valid JSON and everything else is a string or a number.
	_ = enc.Encode(body)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func (e Envelope) data() json.RawMessage {
	switch {
	case len(e.Data) == 0:
		return json.RawMessage("null")
	case json.Valid(e.Data):
		return e.Data
	default:
		text, _ := json.Marshal(string(e.Data)) // a string always marshals
		return text
	}
}
