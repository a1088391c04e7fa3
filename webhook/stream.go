package webhook

import (
	"bytes"
	"encoding/json"
	"time"
)

// StreamEvent is an event as a stream shows it: as webhooks do, but for sequence, which counts per webhook.
type StreamEvent struct {
	ID        string          `json:"id" format:"uuid" doc:"Of the event; a webhook that gets it too sees the same"`
	Type      string          `json:"type" example:"message.received"`
	Timestamp string          `json:"timestamp" format:"date-time" doc:"Of what happened"`
	SessionID *string         `json:"sessionId" example:"shop"`
	Metadata  json.RawMessage `json:"metadata,omitempty" doc:"The session's"`
	Data      json.RawMessage `json:"data" doc:"As in the webhook of the same type"`
}

// Frame returns the event as text/event-stream carries it, the blank line at its end included.
func (e Envelope) Frame() []byte {
	body := StreamEvent{ID: e.ID, Type: e.Type, Timestamp: e.Timestamp.UTC().Format("2006-01-02T15:04:05.000Z"), Metadata: e.Metadata, Data: e.data()}
	if e.SessionID != "" {
		body.SessionID = &e.SessionID
	}
	return Frame(e.ID, e.Type, body)
}

// Frame writes one event of text/event-stream. An empty ID leaves the client's last one as it is. The data are JSON in one
// line, and must be something that marshals.
func Frame(id, event string, data any) []byte {
	var b bytes.Buffer
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("event: " + event + "\ndata: ")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(data) // compact, and ends its line
	b.WriteByte('\n')
	return b.Bytes()
}

// Heartbeat is a comment, which keeps a connection alive and reaches no listener.
func Heartbeat() []byte { return []byte(": heartbeat\n\n") }

// Mark moves the client's last ID without an event, and tells it how long to wait before it connects again.
func Mark(id string, retry time.Duration) []byte {
	ms, _ := json.Marshal(retry.Milliseconds())
	return []byte("retry: " + string(ms) + "\nid: " + id + "\n\n")
}
