package webhook

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestValidEvents(t *testing.T) {
	assert.NoError(t, ValidEvents([]string{All}))
	assert.NoError(t, ValidEvents(Events()))
	assert.NoError(t, ValidEvents([]string{EventMessageSent, EventMessageSent, All}))
	assert.Error(t, ValidEvents(nil))

	err := ValidEvents([]string{"message.sent", "message.send", "Message.Sent", ""})
	var unknown *UnknownEventsError
	require.ErrorAs(t, err, &unknown)
	assert.Equal(t, `unknown event types: "message.send", "Message.Sent", ""`, err.Error())
}

func TestMatches(t *testing.T) {
	tests := []struct {
		subscribed []string
		event      string
		want       bool
	}{
		{[]string{All}, EventMessageSent, true},
		{[]string{EventSessionQR, All}, EventMessageSent, true},
		{[]string{EventMessageSent}, EventMessageSent, true},
		{[]string{EventMessageSent}, EventMessageRead, false},
		{[]string{"message"}, EventMessageRead, false},
		{nil, EventMessageSent, false},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, Matches(tt.subscribed, tt.event), "%v %s", tt.subscribed, tt.event)
	}
}

func TestEnvelopeBody(t *testing.T) {
	jakarta := time.FixedZone("WIB", 7*3600)
	e := Envelope{
		ID:        "0190",
		Type:      EventMessageSent,
		Timestamp: time.Date(2026, 3, 1, 7, 0, 0, 5_999_999, jakarta),
		SessionID: "shop",
		Sequence:  7,
		Data:      json.RawMessage(`{ "text": "a < b & c", "b": [1, 2] }`),
	}
	want := `{"id":"0190","type":"message.sent","timestamp":"2026-03-01T00:00:00.005Z","sessionId":"shop","sequence":7,` +
		`"data":{"text":"a < b & c","b":[1,2]}}`
	assert.Equal(t, want, string(e.Body()))
	assert.Equal(t, e.Body(), e.Body(), "the same envelope gives the same bytes")

	e.Metadata, e.Data = json.RawMessage(`{"crm": 5}`), nil
	assert.Contains(t, string(e.Body()), `"sessionId":"shop","metadata":{"crm":5},"sequence":7,`)
	assert.Contains(t, string(e.Frame()), `"sessionId":"shop","metadata":{"crm":5},"data":null}`)
}

func TestEnvelopeBodyIsAlwaysJSON(t *testing.T) {
	for data, want := range map[string]string{"": "null", "null": "null", "7": "7", `{"a":`: `"{\"a\":"`} {
		body := Envelope{Data: json.RawMessage(data)}.Body()
		var got struct {
			SessionID *string         `json:"sessionId"`
			Data      json.RawMessage `json:"data"`
		}
		require.NoError(t, json.Unmarshal(body, &got), "%s", body)
		assert.Equal(t, want, string(got.Data))
		assert.Nil(t, got.SessionID, "no session is null")
	}
}
