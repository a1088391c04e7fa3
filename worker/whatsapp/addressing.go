package whatsapp

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"kurir/message"
	"kurir/wire"
)

// address names people as the chat does, the session itself too. The gateway knows them by number; a group may name them by LID, and
// there phones find a message only by its author's LID. A group that cannot be looked up since it is not there is left to the send.
func (c *composer) address(ctx context.Context, l *link, m *wire.Send) error {
	if c.chat.Server != types.GroupServer || m.Target == nil && m.ReplyTo == nil && len(m.Mentions) == 0 {
		return nil
	}
	byLID, err := l.byLID(ctx, c.chat)
	if err != nil || !byLID {
		return err
	}
	if lid := l.people.ownLID(); !lid.IsEmpty() {
		c.own = lid
	}
	for _, ref := range []**message.Ref{&m.Target, &m.ReplyTo} {
		if *ref != nil && !(*ref).FromMe {
			named := **ref
			named.Sender = l.people.lid(ctx, named.Sender)
			*ref = &named
		}
	}
	m.Mentions = slices.Clone(m.Mentions)
	for i, one := range m.Mentions {
		m.Mentions[i] = l.people.lid(ctx, one)
		m.Message, m.Caption = renamed(m.Message, one, m.Mentions[i]), renamed(m.Caption, one, m.Mentions[i])
	}
	return nil
}

// author is the author of a message as its chat names him.
func (l *link) author(ctx context.Context, chat, sender types.JID) (types.JID, error) {
	if chat.Server != types.GroupServer || sender.Server != types.DefaultUserServer {
		return sender, nil
	}
	byLID, err := l.byLID(ctx, chat)
	if err != nil || !byLID {
		return sender, err
	}
	if _, lid := l.people.both(ctx, sender, types.EmptyJID); !lid.IsEmpty() {
		return lid, nil
	}
	return sender, nil
}

// byNumber names those whom a message mentions as the gateway knows them.
func (p people) byNumber(ctx context.Context, s *said) {
	s.Mentions = slices.Clone(s.Mentions)
	for i, one := range s.Mentions {
		jid, err := types.ParseJID(one)
		if err != nil || jid.User == "" {
			continue
		}
		s.Mentions[i] = p.name(ctx, jid, types.EmptyJID)
		s.Message, s.Caption = renamed(s.Message, one, s.Mentions[i]), renamed(s.Caption, one, s.Mentions[i])
	}
}

// lid is the LID of somebody whose number's JID is given, where it is known.
func (p people) lid(ctx context.Context, text string) string {
	jid, err := types.ParseJID(text)
	if err != nil || jid.Server != types.DefaultUserServer {
		return text
	}
	if _, lid := p.both(ctx, jid, types.EmptyJID); !lid.IsEmpty() {
		return lid.String()
	}
	return text
}

var mention = regexp.MustCompile(`@[0-9]+`)

// renamed is a text that mentions somebody by another JID: phones look there for its user, behind an @.
func renamed(text, from, to string) string {
	from, _, _ = strings.Cut(from, "@")
	to, _, _ = strings.Cut(to, "@")
	if from == to {
		return text
	}
	return mention.ReplaceAllStringFunc(text, func(at string) string {
		if at == "@"+from {
			return "@" + to
		}
		return at
	})
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
