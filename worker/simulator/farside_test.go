package simulator_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker/enginetest"
	"kurir/worker/simulator/simnet"
)

func (f *farSide) screen(t *testing.T, number string) simnet.PhoneScreen {
	t.Helper()
	resp, err := http.Get(f.url + "/phones/" + number + "/messages")
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	var screen simnet.PhoneScreen
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&screen))
	return screen
}

func (f *farSide) Phone(t *testing.T, number string) []enginetest.Message {
	t.Helper()
	list := []enginetest.Message{}
	for _, m := range f.screen(t, number).Messages {
		shown := enginetest.Message{
			WhatsappID: m.WhatsappID, Type: m.Type, Text: m.Text, Caption: m.Caption, Filename: m.Filename, Details: m.Details,
			Edited: m.EditedAt != nil, Deleted: m.DeletedAt != nil,
		}
		if m.Medium != nil {
			shown.MediaHash, shown.MediaSize = m.Medium.SHA256, m.Medium.Size
		}
		for _, mark := range m.Reactions {
			shown.Reactions = append(shown.Reactions, mark.Emoji)
		}
		list = append(list, shown)
	}
	return list
}

func (f *farSide) Deliver(t *testing.T, session string, in enginetest.Incoming) string {
	t.Helper()
	body := map[string]any{
		"sessionId": session, "from": in.From, "chat": in.Chat, "fromMe": in.FromMe, "name": in.Name, "phone": in.Phone,
		"type": in.Type, "text": in.Text, "caption": in.Caption, "filename": in.Filename,
	}
	if in.Media != nil {
		body["media"] = map[string]any{"data": in.Media, "mimetype": in.MIMEType, "missing": in.Missing}
	}
	details, err := json.Marshal(in.Details)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(details, &body)) // beside the rest
	var answer struct{ WhatsappID string }
	f.post(t, "/inject/message", body, &answer)
	return answer.WhatsappID
}

func (f *farSide) Throttle(t *testing.T, session string, sends int, retryAfter time.Duration, code string) {
	f.post(t, "/sessions/"+session+"/throttle", map[string]any{"throttleNext": sends, "retryAfterMs": retryAfter.Milliseconds(), "code": code}, nil)
}

func (f *farSide) Call(t *testing.T, session, from string, video bool) string {
	t.Helper()
	var answer struct{ CallID string }
	f.post(t, "/inject/call", map[string]any{"sessionId": session, "from": from, "video": video}, &answer)
	return answer.CallID
}

func (f *farSide) Rejected(t *testing.T, from, call string) int {
	t.Helper()
	for _, c := range f.screen(t, from).Calls {
		if c.CallID == call {
			return c.Rejected
		}
	}
	return 0
}

func (f *farSide) Presence(t *testing.T, session, from, presence string) {
	f.post(t, "/inject/presence", map[string]any{"sessionId": session, "from": from, "presence": presence}, nil)
}

func (f *farSide) Typing(t *testing.T, number string) []string {
	t.Helper()
	var list []string
	for _, seen := range f.screen(t, number).Typing {
		list = append(list, seen.Presence)
	}
	return list
}

func (f *farSide) AddMember(t *testing.T, session, group, by, member string) {
	f.post(t, "/inject/group", map[string]any{
		"sessionId": session, "group": group, "by": by, "action": wire.GroupAdded, "members": []map[string]any{{"jid": member}},
	}, nil)
}
