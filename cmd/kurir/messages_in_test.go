package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/worker/simulator/simnet"
)

// brings runs a row of what comes in.
func (b *bench) brings(row []string, mark byte) {
	require.Len(b.t, row, 3)
	_, does := codes(row[1])
	_, sees := codes(row[2])
	require.Len(b.t, sees, 2)
	k := known{}
	kind, _ := decoded[map[string]any](b.t, known{"size": "0"}.in(sees[1]))["type"].(string)
	var file sample
	if strings.Contains(row[1], "{base64}") {
		file = sampleOf(b.t, kind, mark)
		k.addFile(b, file)
	}
	switch {
	case strings.Contains(row[1], "{whatsappId}"):
		k["messageId"], k["whatsappId"] = b.hello()
	case strings.Contains(row[1], "{pollWhatsappId}"):
		k["pollId"] = b.send("/sessions/"+b.session+"/send", `{"to":"`+correspondent+`","type":"poll","poll":{"question":"Tea or coffee?","options":["Tea","Coffee"]}}`, false)
		k["pollWhatsappId"] = b.told("message.sent", k["pollId"], `{}`)["whatsappId"].(string)
	case strings.Contains(row[1], "{theirWhatsappId}"):
		k["theirMessageId"], k["theirWhatsappId"] = b.theirs(mark)
	}
	path := "/inject/message"
	if len(does) == 2 {
		_, path, _ = strings.Cut(does[0], " ")
	}
	order := decoded[map[string]any](b.t, k.in(does[len(does)-1]))
	order["sessionId"] = b.uid
	encoded, err := json.Marshal(order)
	require.NoError(b.t, err)
	var named struct{ WhatsappID string }
	b.tell(path, string(encoded), &named)
	wanted := decoded[map[string]any](b.t, k.in(sees[1]))
	if sees[0] == "message.received" {
		wanted["whatsappId"] = named.WhatsappID
	}
	encoded, err = json.Marshal(wanted)
	require.NoError(b.t, err)
	data := b.told(sees[0], "", string(encoded))
	if file.content != nil {
		b.downloads(data, file)
	}
	if about := order["type"]; about == message.Reaction || about == message.Edit || about == message.Delete {
		kind = about.(string)
	}
	b.in = append(b.in, kind)
}

// theirs has somebody write, and waits for it.
func (b *bench) theirs(mark byte) (id, whatsappID string) {
	text := fmt.Sprintf("Hello %d", mark)
	b.tell("/inject/message", fmt.Sprintf(`{"sessionId":%q,"from":%q,"text":%q}`, b.uid, correspondent, text), nil)
	data := b.told("message.received", "", fmt.Sprintf(`{"message":%q}`, text))
	return data["id"].(string), data["whatsappId"].(string)
}

// downloads gets the medium of a message from where its event says.
func (b *bench) downloads(data map[string]any, file sample) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.entries[0]+data["media"].(map[string]any)["url"].(string), nil)
	require.NoError(b.t, err)
	status, content := b.answerTo(req)
	require.Equal(b.t, http.StatusOK, status)
	require.Equal(b.t, file.content, content)
}

// refusesCalls has the session refuse calls, and answer who called.
func (b *bench) refusesCalls() {
	b.call(http.MethodPatch, "/sessions/"+b.session, map[string]any{"settings": map[string]any{"calls": map[string]any{"reject": true, "message": "Please write."}}}, nil, http.StatusOK)
	const caller = "6281200044444"
	b.eventually(60*time.Second, "a call is refused", func() (bool, string) { // workers learn of it within seconds
		b.tell("/inject/call", fmt.Sprintf(`{"sessionId":%q,"from":%q}`, b.uid, caller), nil)
		calls := b.phone(caller).Calls
		for _, c := range calls {
			if c.Rejected > 0 {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%+v", calls)
	})
	b.told("call.received", "", `{"from":{"phone":"+`+caller+`"},"rejected":true}`)
	b.eventually(30*time.Second, "the caller is answered", func() (bool, string) {
		shown := b.phone(caller).Messages
		return len(shown) > 0 && shown[0].Text == "Please write.", fmt.Sprintf("%+v", shown)
	})
}

// tell gives the simulated network an order.
func (c *cluster) tell(path, body string, into any) {
	c.t.Helper()
	res, err := c.http.Post(c.simnet+path, "application/json", bytes.NewReader([]byte(body)))
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, res.StatusCode, "%s %s: %s", path, body, answer)
	if into != nil {
		require.NoError(c.t, json.Unmarshal(answer, into))
	}
}

// phone is what a phone on the network shows.
func (c *cluster) phone(number string) simnet.PhoneScreen {
	c.t.Helper()
	res, err := c.http.Get(c.simnet + "/phones/" + number + "/messages")
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	var screen simnet.PhoneScreen
	require.NoError(c.t, json.NewDecoder(res.Body).Decode(&screen))
	return screen
}
