package simnet

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/wire"
)

func said(kind, id, target, text string) wire.Send {
	return wire.Send{WhatsappID: id, MessageID: id, To: person(1), Type: kind, Message: text,
		Details: message.Details{Target: &message.Ref{WhatsappID: target, FromMe: true}}}
}

func TestWhatIsSaidOfAMessageChangesIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	b := start(t, Config{StatePath: path})
	c := b.linked(t, "s", 1, "w")
	for _, m := range []wire.Send{
		{WhatsappID: "A", To: person(1), Message: "hello"},
		{WhatsappID: "B", To: person(1), Message: "a mistake"},
		said("edit", "E1", "A", "hello!"), said("edit", "E1", "A", "hello!"), // asked twice
		said("reaction", "R1", "A", "👍"), said("reaction", "R2", "A", "🎉"),
		said("delete", "D1", "B", ""), said("edit", "E2", "B", "too late"), said("reaction", "R3", "nothing", "👍"),
	} {
		c.sent(m)
	}
	screen := b.screen(t, person(1))
	require.Len(t, screen, 8)
	hello, mistake := screen[0], screen[1]
	require.Equal(t, "hello!", hello.Text)
	require.NotNil(t, hello.EditedAt)
	require.Len(t, hello.Reactions, 1, "one a person, the last")
	require.Equal(t, "🎉", hello.Reactions[0].Emoji)
	require.False(t, hello.Reactions[0].FromMe)
	require.NotNil(t, mistake.DeletedAt)
	require.Empty(t, mistake.Text)
	require.Equal(t, "the target is deleted", screen[6].NoEffect)
	require.Equal(t, "the target is not on this phone", screen[7].NoEffect)
	require.EqualValues(t, 1, b.report(t).Deduplicated)
	require.Zero(t, b.report(t).Duplicates)

	c.sent(said("reaction", "R4", "A", ""))
	require.Empty(t, b.screen(t, person(1))[0].Reactions)

	require.NoError(t, b.net.Close())
	again := start(t, Config{StatePath: path})
	require.Equal(t, b.screenOf(person(1)), again.screenOf(person(1)), "a restart forgets nothing of it")
}

func (b *bench) screenOf(number string) []Shown {
	var s PhoneScreen
	b.net.phones.get(number).picture(&s)
	return s.Messages
}

func TestPeopleChangeOnlyWhatIsTheirs(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "w")
	b.must(t, "/inject/message", map[string]any{"sessionId": "s", "from": person(1), "text": "mine", "whatsappId": "P"})
	c.sent(wire.Send{WhatsappID: "A", To: person(1), Message: "ours"})
	c.sent(said("edit", "E1", "P", "changed"))
	c.sent(said("delete", "D1", "P", ""))
	c.sent(said("reaction", "R1", "P", "👍"))
	inject := func(kind, target, text string) {
		b.must(t, "/inject/message", map[string]any{"sessionId": "s", "from": person(1), "type": kind, "text": text,
			"target": map[string]any{"whatsappId": target, "fromMe": true}})
	}
	inject("edit", "A", "changed")
	inject("reaction", "A", "❤️")
	inject("edit", "P", "mine, corrected")

	var phone PhoneScreen
	b.get(t, "/phones/"+person(1)+"/messages", &phone)
	require.Equal(t, "ours", phone.Messages[0].Text)
	require.Equal(t, "❤️", phone.Messages[0].Reactions[0].Emoji)
	require.True(t, phone.Messages[0].Reactions[0].FromMe)
	require.Equal(t, "the target is somebody else's", phone.Messages[1].NoEffect)
	require.Equal(t, "the target is somebody else's", phone.Messages[2].NoEffect)
	require.Equal(t, "mine, corrected", phone.Written[0].Text)
	require.Equal(t, "👍", phone.Written[0].Reactions[0].Emoji)
	require.Len(t, phone.Written, 4)
	for _, want := range []string{"changed", "❤️", "mine, corrected"} {
		require.Equal(t, want, nextMessage(c).Text)
	}
}

// nextMessage skips receipts.
func nextMessage(c *client) *Event {
	for {
		if e := c.await(OpEvent).Event; e.Kind == KindMessage {
			return e
		}
	}
}

func TestThrottledSendsAreNotShown(t *testing.T) {
	b := start(t, Config{})
	c, other := b.linked(t, "s", 1, "w"), b.linked(t, "other", 1, "w")
	b.must(t, "/sessions/s/throttle", map[string]any{"throttleNext": 2, "retryAfterMs": 1500})
	m := wire.Send{WhatsappID: "A", MessageID: "1", To: person(1)}
	for range 2 {
		r := c.send(m)
		require.Equal(t, wire.OutcomeThrottled, r.Outcome)
		require.Equal(t, wire.CodeRateLimited, r.Code)
		require.EqualValues(t, 1500, r.RetryAfterMs)
	}
	other.sent(wire.Send{WhatsappID: "B", MessageID: "2", To: person(1)})
	require.Len(t, b.screen(t, person(1)), 1)
	c.sent(m)
	b.must(t, "/sessions/s/throttle", map[string]any{"throttleNext": 1, "code": "temporary_ban"})
	require.Equal(t, wire.CodeTemporaryBan, c.send(wire.Send{WhatsappID: "C", To: person(1)}).Code)
	require.Zero(t, b.report(t).Duplicates)
	status, _ := b.post(t, "/sessions/s/throttle", map[string]any{"throttleNext": -1})
	require.Equal(t, http.StatusUnprocessableEntity, status)
	status, _ = b.post(t, "/sessions/s/throttle", map[string]any{"throttleNext": 1, "code": "boredom"})
	require.Equal(t, http.StatusUnprocessableEntity, status)
	status, _ = b.post(t, "/sessions/nobody/throttle", map[string]any{"throttleNext": 1})
	require.Equal(t, http.StatusNotFound, status)
}

func TestUnknownTypesAreRefused(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "w")
	for _, kind := range []string{"hologram", "vote", "unknown"} {
		require.Equal(t, wire.CodeUnsupported, c.send(wire.Send{WhatsappID: "A", To: person(1), Type: kind}).Code, kind)
	}
	require.Equal(t, codeNoTarget, c.send(wire.Send{WhatsappID: "A", To: person(1), Type: "reaction"}).Code)
}
