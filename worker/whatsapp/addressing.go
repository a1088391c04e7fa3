package whatsapp

import (
	"context"
	"errors"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"kurir/message"
	"kurir/wire"
)

// address names people as the chat does. The gateway knows them by number; a group may name them by LID, and there phones find a
// message only by its author's LID. A group that cannot be looked up since it is not there is left to the send.
func (c *composer) address(ctx context.Context, l *link, m *wire.Send) error {
	if c.chat.Server != types.GroupServer {
		return nil
	}
	for _, ref := range []**message.Ref{&m.Target, &m.ReplyTo} {
		if *ref == nil || (*ref).FromMe || (*ref).Sender == "" {
			continue
		}
		byLID, err := l.byLID(ctx, c.chat)
		if err != nil || !byLID {
			return err
		}
		jid, err := types.ParseJID((*ref).Sender)
		if err != nil || jid.Server != types.DefaultUserServer {
			continue
		}
		if _, lid := l.people.both(ctx, jid, types.EmptyJID); !lid.IsEmpty() {
			named := **ref
			named.Sender = lid.String()
			*ref = &named
		}
	}
	return nil
}

// byLID reports whether a group names its members by LID.
func (l *link) byLID(ctx context.Context, group types.JID) (bool, error) {
	if known, ok := l.addressing.Load(group); ok {
		return known.(bool), nil
	}
	info, err := l.client.GetGroupInfo(ctx, group)
	if errors.Is(err, whatsmeow.ErrGroupNotFound) || errors.Is(err, whatsmeow.ErrNotInGroup) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	byLID := info.AddressingMode == types.AddressingModeLID
	l.addressing.Store(group, byLID)
	return byLID, nil
}
