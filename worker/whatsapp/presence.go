package whatsapp

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow/types"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
)

// chatStates are what a chat sees of somebody who writes or records.
var chatStates = map[string]struct {
	state types.ChatPresence
	media types.ChatPresenceMedia
}{
	wire.PresenceComposing: {types.ChatPresenceComposing, types.ChatPresenceMediaText},
	wire.PresenceRecording: {types.ChatPresenceComposing, types.ChatPresenceMediaAudio},
	wire.PresencePaused:    {types.ChatPresencePaused, types.ChatPresenceMediaText},
}

// SetPresence implements worker.Presencer.
func (c *conn) SetPresence(ctx context.Context, in wire.Presence) (wire.Done, error) {
	l, leave, err := c.enter()
	if err != nil {
		return wire.Done{}, err
	}
	defer leave()
	switch in.State {
	case wire.PresenceAvailable:
		return wire.Done{}, refusal(l.client.SendPresence(ctx, types.PresenceAvailable))
	case wire.PresenceUnavailable:
		return wire.Done{}, refusal(l.client.SendPresence(ctx, types.PresenceUnavailable))
	}
	shown, ok := chatStates[in.State]
	chat, err := types.ParseJID(in.Chat)
	if !ok || err != nil || chat.User == "" {
		return wire.Done{}, wire.Refuse(wire.CodeInvalidRequest, "expected a state, and the chat that is to see it")
	}
	return wire.Done{}, refusal(l.client.SendChatPresence(ctx, chat, shown.state, shown.media))
}

// SubscribePresence implements worker.Presencer.
func (c *conn) SubscribePresence(ctx context.Context, in wire.Address) (wire.Done, error) {
	l, leave, err := c.enter()
	if err != nil {
		return wire.Done{}, err
	}
	defer leave()
	jid, err := person(in.JID)
	if err != nil {
		return wire.Done{}, err
	}
	return wire.Done{}, refusal(l.client.SubscribePresence(ctx, jid))
}

// MarkRead implements worker.Reader.
func (c *conn) MarkRead(ctx context.Context, in wire.ReadMarks) (wire.Done, error) {
	l, leave, err := c.enter()
	if err != nil {
		return wire.Done{}, err
	}
	defer leave()
	for _, m := range in.Messages {
		chat, err := types.ParseJID(m.Chat)
		if err != nil || chat.User == "" {
			return wire.Done{}, wire.Refuse(wire.CodeInvalidRequest, "expected the JID of a chat")
		}
		sender, err := types.ParseJID(m.Sender)
		if err != nil {
			return wire.Done{}, wire.Refuse(wire.CodeInvalidRequest, "expected the JID of an author")
		}
		if sender, err = l.author(ctx, chat, sender); err != nil {
			return wire.Done{}, refusal(err)
		}
		if err := l.client.MarkRead(ctx, m.WhatsappIDs, time.Now(), chat, sender); err != nil {
			return wire.Done{}, refusal(err)
		}
	}
	return wire.Done{}, nil
}

// maxTyping bounds how long a chat sees "typing" before a message, whatever the message asks for; half of the time that
// its send has left bounds it too.
const maxTyping = 10 * time.Second

// typing shows that the session's user types, or records, for as long as the message wants it. An error means that
// the connection or the time ended meanwhile.
func (c *conn) typing(ctx context.Context, l *link, chat types.JID, m *wire.Send) error {
	d := maxTyping
	if m.Typing < maxTyping.Milliseconds() {
		d = time.Duration(max(m.Typing, 0)) * time.Millisecond
	}
	if deadline, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(deadline)/2)
	}
	if d <= 0 {
		return nil
	}
	shown := chatStates[wire.PresenceComposing]
	if m.Type == message.Voice {
		shown = chatStates[wire.PresenceRecording]
	}
	if err := l.client.SendChatPresence(ctx, chat, shown.state, shown.media); err != nil {
		return worker.ErrNotConnected
	}
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-l.ctx.Done():
		return worker.ErrNotConnected
	case <-c.leaving:
		return worker.ErrNotConnected
	case <-ctx.Done():
		return worker.ErrNotConnected
	}
	shown = chatStates[wire.PresencePaused]
	if err := l.client.SendChatPresence(ctx, chat, shown.state, shown.media); err != nil {
		return worker.ErrNotConnected
	}
	return nil
}
