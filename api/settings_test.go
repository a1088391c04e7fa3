package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUpdateSession(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	path, who := "/api/v1/sessions/shop", s.owner.auth()
	patch := func(body any) map[string]any {
		t.Helper()
		return s.do("PATCH", path, who, body).ok(200)
	}
	pacing := func(session map[string]any) map[string]any {
		return session["settings"].(map[string]any)["pacing"].(map[string]any)
	}
	session := patch(map[string]any{"metadata": map[string]any{"crm": 5}})
	require.Equal(t, map[string]any{"crm": 5.0}, session["metadata"])
	require.Equal(t, "running", session["sending"].(map[string]any)["state"])

	session = patch(map[string]any{"settings": map[string]any{"pacing": map[string]any{"messagesPerMinute": 20, "newChatsPerDay": 50}}})
	require.Equal(t, 20.0, pacing(session)["messagesPerMinute"])
	require.Equal(t, "paced", session["sending"].(map[string]any)["state"])
	require.Equal(t, map[string]any{"crm": 5.0}, session["metadata"], "what is not named stays")

	session = patch(json.RawMessage(`{"settings": {"pacing": {"messagesPerMinute": null}, "paused": true}, "metadata": null, "name": "Other"}`))
	require.Equal(t, 0.0, pacing(session)["messagesPerMinute"], "null resets to the engine's default")
	require.Equal(t, 50.0, pacing(session)["newChatsPerDay"])
	require.Equal(t, "paused", session["sending"].(map[string]any)["state"])
	require.Equal(t, "Other", session["name"])
	require.Nil(t, session["metadata"])

	calls := func(session map[string]any) any { return session["settings"].(map[string]any)["calls"] }
	require.Equal(t, map[string]any{"reject": false, "message": ""}, calls(session))
	session = patch(json.RawMessage(`{"settings": {"calls": {"reject": true, "message": "Please write"}}}`))
	require.Equal(t, map[string]any{"reject": true, "message": "Please write"}, calls(session), "what was set is shown")
	session = patch(json.RawMessage(`{"settings": {"calls": {"message": null}}}`))
	require.Equal(t, map[string]any{"reject": true, "message": ""}, calls(session))

	before := s.rows()
	for field, body := range map[string]string{
		"settings.pacing.messagesPerMinute": `{"settings": {"pacing": {"messagesPerMinute": -1}}}`,
		"settings.pacing.jitterMs":          `{"settings": {"pacing": {"jitterMs": {"min": 5, "max": 1}}}}`,
		"settings":                          `{"settings": {"surprise": 1}}`,
		"settings ":                         `{"settings": {"pacing": {"messagesPerMinute": "fast"}}}`,
		"settings  ":                        `{"settings": {"pacing": [1]}}`,
		"settings   ":                       `{"settings": {"paused": 1, "x": "` + strings.Repeat("x", 5000) + `"}}`,
		"metadata":                          `{"metadata": {"x": "` + strings.Repeat("x", 1100) + `"}}`,
		"metadata ":                         `{"metadata": [1]}`,
		"name":                              `{"name": "  "}`,
	} {
		a := s.do("PATCH", path, who, json.RawMessage(body)).refused(422, "invalid_request")
		require.Contains(t, a.text, `"field":"`+strings.TrimSpace(field)+`"`, body)
	}
	s.unchanged(before, "a wrong setting")

	session = patch(json.RawMessage(`{"settings": null}`))
	require.Equal(t, "running", session["sending"].(map[string]any)["state"])
}
