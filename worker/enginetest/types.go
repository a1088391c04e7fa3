package enginetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
)

// A picture is larger than any buffer on its way.
var picture = []byte("\x89PNG\r\n\x1a\n" + strings.Repeat("pixels ", 40_000))

// ofEveryType makes one message of each type to a number; those about another message are about target.
func (h *held) ofEveryType(to string, target wire.Send) []wire.Send {
	person := func(n string) string { return "62899000000" + n + "@s.whatsapp.net" }
	no := false
	var list []wire.Send
	for _, kind := range message.Types() {
		m := text(to, "")
		m.Type = kind
		switch kind {
		case message.Text:
			m.Message, m.LinkPreview, m.Forwarded = "see https://example.com @62899000001", &no, true
			m.Mentions = []string{person("1"), person("2")}
			m.ReplyTo = &message.Ref{WhatsappID: target.WhatsappID, FromMe: true}
		case message.Image, message.Video, message.Document:
			m.Caption, m.Filename = "a caption", "file.png"
		case message.Location:
			m.Location = &message.Place{Latitude: -6.9147, Longitude: 107.6098, Name: "Gedung Sate", Address: "Bandung"}
		case message.Contact:
			m.Contacts = []message.Card{{Name: "Sari", Phone: "+6281234567890"}}
		case message.Poll:
			m.Poll = &message.Question{Question: "Tea or coffee?", Options: []string{"Tea", "Coffee"}, Choices: 1}
		case message.Reaction:
			m.Message = "👍"
		case message.Edit:
			m.Message = "corrected"
		}
		if message.HasMedia(kind) {
			m.Media = h.store.add(picture)
		}
		if message.About(kind) {
			m.Target = &message.Ref{WhatsappID: target.WhatsappID, FromMe: true}
		}
		list = append(list, m)
	}
	return list
}

// can sends, and reports false if the engine has no such type: that is a refusal of which nothing is seen.
func (h *held) can(m wire.Send) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := h.Send(ctx, m)
	if errors.Is(err, worker.ErrUnsupported) {
		return false
	}
	require.NoError(h.t, err, m.Type)
	require.Equal(h.t, wire.OutcomeSent, r.Outcome, "%s: %+v", m.Type, r)
	return true
}

func (s *suite) sendEveryType(t *testing.T) {
	h := s.linked(t)
	to := person()
	target := text(to, "the first one")
	h.send(target)
	want := []Message{{WhatsappID: target.WhatsappID}}
	for _, m := range h.ofEveryType(to, target) {
		if !h.can(m) {
			continue
		}
		shown := Message{WhatsappID: m.WhatsappID, Type: m.Type, Text: m.Message, Caption: m.Caption, Filename: m.Filename, Details: m.Details}
		if m.Media != nil {
			shown.MediaHash, shown.MediaSize = hashOf(picture), int64(len(picture))
		}
		want = append(want, shown)
	}
	for i := range want {
		want[i] = h.arrives(want[i])
	}
	got := h.net.Phone(t, to)
	require.Len(t, got, len(want))
	require.Equal(t, want[1:], got[1:])
}

func (s *suite) effects(t *testing.T) {
	h := s.linked(t)
	to := person()
	target := text(to, "with a mistake")
	h.send(target)
	about := func(kind, body string) wire.Send {
		m := text(to, body)
		m.Type, m.Target = kind, &message.Ref{WhatsappID: target.WhatsappID, FromMe: true}
		return m
	}
	edit, react := about(message.Edit, "without"), about(message.Reaction, "👍")
	if !h.can(edit) || !h.can(react) {
		return
	}
	again := about(message.Edit, "without any")
	require.True(t, h.can(again))
	h.net.Drop(t, h.session.ID)
	require.NoError(t, h.deliver(edit), "asked again under its ID, it has its effect no second time")
	first := h.net.Phone(t, to)[0]
	require.Equal(t, "without any", first.Text)
	require.True(t, first.Edited)
	require.Equal(t, []string{"👍"}, first.Reactions)
	require.NoError(t, h.deliver(about(message.Reaction, "")))
	require.Empty(t, h.net.Phone(t, to)[0].Reactions)
	require.NoError(t, h.deliver(about(message.Delete, "")))
	first = h.net.Phone(t, to)[0]
	require.True(t, first.Deleted)
	require.Empty(t, first.Text)
}

func (s *suite) unsupported(t *testing.T) {
	h := s.linked(t)
	to := person()
	for _, kind := range []string{"hologram", message.Vote, message.Unknown} {
		m := text(to, "?")
		m.Type = kind
		_, err := h.Send(context.Background(), m)
		require.ErrorIs(t, err, worker.ErrUnsupported)
	}
	require.Empty(t, h.net.Phone(t, to))
}

// mediaOut is about media that the gateway can't give: later is an error that leaves nothing behind, never is a failure.
func (s *suite) mediaOut(t *testing.T) {
	h := s.linked(t)
	to := person()
	m := text(to, "")
	m.Type, m.Media = message.Image, h.store.add(picture)
	refused := func(why string) {
		t.Helper()
		_, err := h.Send(context.Background(), m)
		if errors.Is(err, worker.ErrUnsupported) {
			return
		}
		require.ErrorIs(t, err, worker.ErrMediaUnavailable, why)
	}
	h.store.fail(errAway)
	refused("the gateway is away")
	h.store.fail(nil)
	h.store.shorten(true)
	refused("the content ends early")
	h.store.shorten(false)
	require.Empty(t, h.net.Phone(t, to))
	if !h.can(m) {
		return
	}
	lost := text(to, "")
	lost.Type, lost.Media = message.Image, &wire.Media{ID: "5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f", Size: 1}
	r := h.send(lost)
	require.Equal(t, wire.OutcomeFailed, r.Outcome)
	require.Equal(t, wire.CodeMediaGone, r.Code)
	require.Len(t, h.net.Phone(t, to), 1)
}

// mediaSlow is about a medium that takes longer than a send may: it is carried on between the sends, once, and nobody waits.
func (s *suite) mediaSlow(t *testing.T) {
	h := s.linked(t)
	to := person()
	m := text(to, "")
	m.Type, m.Media = message.Image, h.store.add(picture)
	if !h.can(m) {
		return
	}
	slow := text(to, "")
	slow.Type, slow.Media = message.Image, h.store.add(append([]byte("slow"), picture...))
	release := h.store.stop(slow.Media.ID)
	opened := h.store.opened()
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := h.Send(ctx, slow)
		require.NoError(t, ctx.Err(), "it does not use up the send's time")
		cancel()
		require.ErrorIs(t, err, worker.ErrMediaUnavailable)
	}
	require.NoError(t, h.deliver(text(to, "meanwhile")))
	release()
	require.NoError(t, h.deliver(slow))
	require.Equal(t, 1, h.store.opened()-opened, "what was carried is not carried again")
	shown := h.net.Phone(t, to)
	require.Len(t, shown, 3)
	require.Equal(t, slow.Media.SHA256, shown[2].MediaHash)
}

func (s *suite) throttled(t *testing.T) {
	h := s.linked(t)
	to := person()
	m := text(to, "after a pause")
	for _, code := range []string{wire.CodeRateLimited, wire.CodeTemporaryBan} {
		h.net.Throttle(t, h.session.ID, 1, 1500*time.Millisecond, code)
		r := h.send(m)
		require.Equal(t, wire.OutcomeThrottled, r.Outcome)
		require.Equal(t, code, r.Code)
		require.Equal(t, h.pause(code, 1500*time.Millisecond).Milliseconds(), r.RetryAfterMs)
		require.Empty(t, h.net.Phone(t, to))
	}
	require.Equal(t, wire.OutcomeSent, h.send(m).Outcome, "it was never sent, so it is sent now")
	require.Len(t, h.net.Phone(t, to), 1)
}

// typing shows before the message, for as long as the caller's time allows; without time left, nothing is sent.
func (s *suite) typing(t *testing.T) {
	h := s.linked(t)
	to := person()
	m := text(to, "typed by hand")
	m.Typing = 50
	began := time.Now()
	h.send(m)
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
	seen := h.net.Typing(t, to)
	if len(seen) == 0 {
		return // an engine may leave it out
	}
	require.Equal(t, wire.PresenceComposing, seen[0])

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	slow := text(to, "typed for ever")
	slow.Typing = time.Hour.Milliseconds()
	ended := make(chan error, 1)
	go func() {
		_, err := h.Send(ctx, slow)
		ended <- err
	}()
	require.Eventually(t, func() bool { return len(h.net.Typing(t, to)) >= 3 }, patience, poll)
	h.close()
	require.ErrorIs(t, <-ended, worker.ErrNotConnected, "closing does not wait for somebody who types")
	require.Len(t, h.net.Phone(t, to), 1)
}
