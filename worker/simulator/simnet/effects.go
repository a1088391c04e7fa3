package simnet

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"kurir/message"
)

// Sends reports whether the network knows a type of message.
func Sends(kind string) bool { return slices.Contains(message.Types(), kind) }

// show puts a message on the screen. One about another message changes that one too.
func (p *phone) show(m Shown) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.NoEffect = p.effect(&m)
	p.shown = append(p.shown, m)
}

// write keeps what the phone's owner wrote.
func (p *phone) write(m Shown) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.NoEffect = p.effect(&m)
	if len(p.written) == writtenKept {
		p.written = append(p.written[:0:0], p.written[writtenKept/2:]...)
	}
	p.written = append(p.written, m)
}

const writtenKept = 1_000

// picture copies what the phone shows: messages change later.
func (p *phone) picture(s *PhoneScreen) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Messages = append(s.Messages, p.shown...)
	s.Written = slices.Clone(p.written)
	s.Typing = slices.Clone(p.typing)
	s.Calls = slices.Clone(p.calls)
}

// effect carries out a reaction, edit or delete, as phones do: people change and take back only what is their own. It
// answers why nothing came of it. Callers hold p.mu.
func (p *phone) effect(m *Shown) (why string) {
	if !message.About(m.Type) || m.Type == message.Vote {
		return ""
	}
	t := p.target(m)
	switch {
	case t == nil:
		return "the target is not on this phone"
	case t.DeletedAt != nil:
		return "the target is deleted"
	case m.Type == message.Reaction:
		t.Reactions = react(t.Reactions, message.Mark{
			From: jidOf(strings.TrimPrefix(m.From, "+")), FromMe: m.From == "+"+p.number, Emoji: m.Text, At: m.At,
		})
		return ""
	case t.From != m.From && (m.Type == message.Edit || !strings.HasSuffix(p.number, groupServer)):
		return "the target is somebody else's"
	case m.Type == message.Edit:
		t.EditedAt = at(m.At)
		if message.HasMedia(t.Type) {
			t.Caption = m.Text
		} else {
			t.Text = m.Text
		}
	case m.Type == message.Delete:
		t.DeletedAt = at(m.At)
		t.Text, t.Caption, t.MediaURL, t.Filename, t.Medium, t.Details = "", "", "", "", nil, message.Details{}
	}
	return ""
}

const groupServer = "@g.us"

func at(t time.Time) *time.Time { return &t }

// target finds the message that m is about, the latest if several have that ID.
func (p *phone) target(m *Shown) *Shown {
	if m.Target == nil {
		return nil
	}
	for _, list := range [][]Shown{p.shown, p.written} {
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].WhatsappID == m.Target.WhatsappID && !message.About(list[i].Type) {
				return &list[i]
			}
		}
	}
	return nil
}

// react sets a person's reaction; an empty one takes it back. It makes another list, since readers have the old one.
func react(marks []message.Mark, m message.Mark) []message.Mark {
	others := slices.DeleteFunc(slices.Clone(marks), func(o message.Mark) bool { return o.From == m.From })
	if m.Emoji == "" {
		return others
	}
	return append(others, m)
}

// writtenOf is an event's message as its author's phone shows it.
func writtenOf(s *session, e *Event) Shown {
	author, _ := strings.CutSuffix(e.Sender, userServer)
	if author != e.Sender {
		author = "+" + author
	}
	return Shown{
		WhatsappID: e.WhatsappID, SessionID: s.id, From: cmp.Or(author, e.Chat), Type: e.Type, Text: e.Text, Caption: e.Caption,
		Filename: e.Filename, Medium: e.Medium, Details: e.Details, At: time.UnixMilli(e.At).UTC(),
	}
}
