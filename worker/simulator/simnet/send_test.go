package simnet

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func TestASecondSendOfOneMessageIsAnsweredAndNotShown(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "w")
	m := wire.Send{MessageID: "m1", WhatsappID: "3EB01", To: person(1) + userServer, Message: "hello", Seq: 1}
	first, second := c.send(m), c.send(m)
	require.Equal(t, wire.OutcomeSent, first.Outcome)
	require.Equal(t, first, second)

	screen := b.screen(t, "+"+person(1))
	require.Len(t, screen, 1)
	require.Equal(t, "hello", screen[0].Text)
	require.Equal(t, "3EB01", screen[0].WhatsappID)
	require.Equal(t, screen, b.screen(t, person(1)))
	require.Equal(t, screen, b.screen(t, person(1)+userServer))
	r := b.report(t)
	require.EqualValues(t, 1, r.Messages)
	require.EqualValues(t, 1, r.Deduplicated)
	require.Zero(t, r.Duplicates+r.Reordered+r.DoubleConnections)
	require.EqualValues(t, 1, r.PerSession["s"].Messages)
	require.Equal(t, "w", r.PerSession["s"].ConnectedTo)
}

func TestDuplicatesAreCounted(t *testing.T) {
	cases := []struct {
		name          string
		first, second wire.Send
		duplicates    int64
		shown         int64
	}{
		{
			"one message under two WhatsApp IDs",
			wire.Send{MessageID: "m1", WhatsappID: "A", To: person(1)}, wire.Send{MessageID: "m1", WhatsappID: "B", To: person(1)}, 1, 2,
		},
		{
			"one WhatsApp ID for two messages",
			wire.Send{MessageID: "m1", WhatsappID: "A", To: person(1)}, wire.Send{MessageID: "m2", WhatsappID: "A", To: person(1)}, 1, 1,
		},
		{
			"one WhatsApp ID for two recipients",
			wire.Send{MessageID: "m1", WhatsappID: "A", To: person(1)}, wire.Send{MessageID: "m1", WhatsappID: "A", To: person(2)}, 1, 2,
		},
		{
			"two messages",
			wire.Send{MessageID: "m1", WhatsappID: "A", To: person(1)}, wire.Send{MessageID: "m2", WhatsappID: "B", To: person(1)}, 0, 2,
		},
		{
			"unnamed messages",
			wire.Send{WhatsappID: "A", To: person(1)}, wire.Send{WhatsappID: "B", To: person(1)}, 0, 2,
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			b := start(t, Config{})
			c := b.linked(t, "s", 1, "w")
			c.sent(tc.first)
			c.sent(tc.second)
			r := b.report(t)
			require.Equal(t, tc.duplicates, r.Duplicates)
			require.Equal(t, tc.shown, r.Messages)
		})
	}
}

func TestReorderedIsJudgedPerSessionAndChat(t *testing.T) {
	b := start(t, Config{})
	one, two := b.linked(t, "one", 1, "w"), b.linked(t, "two", 1, "w")
	n := 0
	send := func(c *client, to string, seq int64) {
		n++
		c.sent(wire.Send{MessageID: fmt.Sprint(n), WhatsappID: fmt.Sprint(n), To: to, Seq: seq})
	}
	send(one, person(1), 5)
	send(one, person(2), 3) // another chat
	send(two, person(1), 2) // another session
	send(one, person(1), 0) // not judged
	send(one, person(1), 6)
	require.Zero(t, b.report(t).Reordered)
	send(one, person(1), 4)
	require.EqualValues(t, 1, b.report(t).Reordered)
	one.sent(wire.Send{MessageID: "1", WhatsappID: "1", To: person(1), Seq: 5}) // shown before
	require.EqualValues(t, 1, b.report(t).Reordered)
}

func TestRefusedSendsAreNotShown(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "w")
	for code, m := range map[string]wire.Send{
		"not_on_whatsapp":     {WhatsappID: "A", To: "628120000" + userServer},
		"invalid_recipient":   {WhatsappID: "A", To: "nobody"},
		"invalid_whatsapp_id": {To: person(1)},
	} {
		r := c.send(m)
		require.Equal(t, wire.OutcomeFailed, r.Outcome)
		require.Equal(t, code, r.Code)
		require.NotEmpty(t, r.Error)
	}
	require.Zero(t, b.report(t).Messages)
	require.Empty(t, b.screen(t, "628120000"))
}

func TestReceiptsAndReplyFollowTheMessage(t *testing.T) {
	b := start(t, Config{Reply: ReplyEcho, ReceiptDelay: time.Millisecond, ReadDelay: time.Millisecond})
	c := b.linked(t, "s", 1, "w")
	c.sent(wire.Send{MessageID: "m1", WhatsappID: "A", To: person(1), Message: "hello"})
	events := c.events(3)
	require.Equal(t, []string{KindDelivered, KindRead, KindMessage}, []string{events[0].Kind, events[1].Kind, events[2].Kind})
	require.Equal(t, "A", events[0].WhatsappID)
	require.Equal(t, person(1)+userServer, events[1].Chat)
	require.Equal(t, "echo: hello", events[2].Text)
	require.Equal(t, person(1)+userServer, events[2].Sender)

	c.sent(wire.Send{MessageID: "m2", WhatsappID: "B", To: person(1), Type: "image", Caption: "a picture", Media: b.upload(t, "pixels")})
	c.events(2)
	b.must(t, "/inject/message", map[string]any{"sessionId": "s", "from": person(2), "text": "next"})
	require.Equal(t, "next", c.events(1)[0].Text, "a picture is not echoed")
}

func TestOneSessionWritesToAnother(t *testing.T) {
	b := start(t, Config{Reply: ReplyEcho})
	one, two := b.linked(t, "one", 1, "w"), b.linked(t, "two", 1, "w")
	r := b.report(t).PerSession
	require.NotEqual(t, r["one"].PhoneNumber, r["two"].PhoneNumber)
	one.sent(wire.Send{MessageID: "m1", WhatsappID: "A", To: r["two"].PhoneNumber, Message: "hello"})
	e := two.events(1)[0]
	require.Equal(t, "hello", e.Text)
	require.Equal(t, "A", e.WhatsappID)
	require.Equal(t, r["one"].PhoneNumber+userServer, "+"+e.Chat)
	require.Len(t, b.screen(t, r["two"].PhoneNumber), 1)
	require.Equal(t, KindDelivered, one.events(1)[0].Kind)
}

func TestEventsComeAgainInOrderUntilAcknowledged(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "w")
	for i := range 4 {
		b.must(t, "/inject/message", map[string]any{"sessionId": "s", "from": person(1), "text": fmt.Sprint(i)})
	}
	first := c.events(4)
	c.write(&Frame{Op: OpAck, Ack: []int64{first[2].N, first[0].N, 99}})
	require.Eventually(t, func() bool { return b.report(t).PerSession["s"].Unacknowledged == 2 }, patience, 5*time.Millisecond)
	b.must(t, "/sessions/s/drop", nil)
	c.ended()

	c = b.linked(t, "s", 2, "other")
	again := c.events(2)
	require.Equal(t, []Event{first[1], first[3]}, again)
}

func TestTheNetworkCanBeMadeToFail(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "w")
	m := func(id string) wire.Send {
		return wire.Send{MessageID: id, WhatsappID: id, To: person(1), Type: "text"}
	}

	b.must(t, "/config", map[string]any{"failNext": 1, "failCode": "account_restricted"})
	require.Equal(t, "account_restricted", c.send(m("1")).Code)
	require.Equal(t, wire.OutcomeSent, c.send(m("1")).Outcome)

	b.must(t, "/config", map[string]any{"failRate": 1})
	require.Equal(t, wire.OutcomeFailed, c.send(m("2")).Outcome)
	b.must(t, "/config", map[string]any{"failRate": 0, "loseSendNext": 1})
	lost := m("3")
	c.write(&Frame{Op: OpSend, N: 9, Send: &lost})
	c.ended()
	require.Len(t, b.screen(t, person(1)), 1)

	c = b.linked(t, "s", 1, "w")
	b.must(t, "/config", map[string]any{"loseAnswerNext": 1})
	c.write(&Frame{Op: OpSend, N: 9, Send: &lost})
	c.ended()
	require.Len(t, b.screen(t, person(1)), 2)

	for _, bad := range []map[string]any{
		{"failRate": 2}, {"reply": "shout"}, {"sendLatency": "never"}, {"sendLatency": "-1s"}, {"scanDelay": 3}, {"failnext!": 1},
	} {
		status, answer := b.post(t, "/config", bad)
		require.Equal(t, http.StatusBadRequest, status, "%v: %s", bad, answer)
	}
}

func TestLatencyKeepsTheOrder(t *testing.T) {
	b := start(t, Config{SendLatency: 50 * time.Millisecond})
	c := b.linked(t, "s", 1, "w")
	var frames []*Frame
	for i := range 50 {
		frames = append(frames, &Frame{Op: OpSend, N: int64(i + 1), Send: &wire.Send{
			MessageID: fmt.Sprint(i), WhatsappID: fmt.Sprint(i), To: person(1), Type: "text", Seq: int64(i + 1),
		}})
	}
	began := time.Now()
	c.write(frames...)
	for i := range frames {
		require.Equal(t, frames[i].N, c.await(OpResult).N)
	}
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
	require.Less(t, time.Since(began), 50*50*time.Millisecond/2, "latencies do not add up")
	require.Zero(t, b.report(t).Reordered)
}
