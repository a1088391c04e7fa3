package webhook

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever an event holds, its frame is four lines: nothing in it can end the event early or begin another one.
func TestFrame(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.FixedZone("", 7*3600))
	for _, data := range []string{``, `null`, `{"a": "b\nevent: x\r\n\r\ndata: y"}`, "{\"a\":\n\n1}", `{"a":"\u2028<&>"}`, "not\n\njson\r\ndata: x", strings.Repeat("[", 100) + strings.Repeat("]", 100)} {
		frame := string(Envelope{ID: "the-id", Type: EventMessageRead, Timestamp: at, SessionID: "shop", Sequence: 7, Data: json.RawMessage(data)}.Frame())
		lines := strings.Split(frame, "\n")
		require.Len(t, lines, 5, frame)
		require.Equal(t, []string{"id: the-id", "event: message.read"}, lines[:2])
		require.Equal(t, []string{"", ""}, lines[3:])
		require.NotContains(t, frame, "\r")
		var body map[string]any
		require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(lines[2], "data: ")), &body), frame)
		require.Equal(t, "2026-01-01T20:04:05.006Z", body["timestamp"])
		require.Equal(t, "shop", body["sessionId"])
		require.NotContains(t, body, "sequence")
		if strings.Contains(data, "<") {
			require.Contains(t, frame, "<&>")
		}
	}
	require.Contains(t, string(Envelope{Type: EventTest}.Frame()), `"sessionId":null,"data":null`)
	require.Equal(t, "event: state\ndata: 1\n\n", string(Frame("", "state", 1)))
	require.Equal(t, "retry: 2000\nid: x\n\n", string(Mark("x", 2*time.Second)))
}
