package kurir

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Event is what a webhook delivers. Sequence counts per webhook without gaps; an ID comes again when a delivery is repeated.
type Event struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	SessionID *string         `json:"sessionId"` // nil in the test of an account's webhook
	Metadata  json.RawMessage `json:"metadata"`  // the session's
	Sequence  int64           `json:"sequence"`
	Data      json.RawMessage `json:"data"` // by Type: a Message for message.…, and so on
}

// ParseWebhook verifies a delivery as Standard Webhooks say, and reads it. payload is the body as it came, secret the webhook's
// whsec_….
func ParseWebhook(secret string, header http.Header, payload []byte) (*Event, error) {
	verifier, err := standard.NewWebhook(secret)
	if err != nil {
		return nil, fmt.Errorf("the webhook's secret: %w", err)
	}
	if err := verifier.Verify(payload, header); err != nil {
		return nil, err
	}
	var e Event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("a webhook's body: %w", err)
	}
	return &e, nil
}
