package enginetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
)

// messages waits for this many messages that came in.
func (h *held) messages(count int) []wire.ReceivedData {
	h.t.Helper()
	var list []wire.ReceivedData
	for _, e := range h.first(count, wire.EventMessageReceived) {
		list = append(list, e.Data.(wire.ReceivedData))
	}
	return list
}

func (s *suite) receiveEveryType(t *testing.T) {
	h := s.linked(t)
	from := person()
	ours := text(from, "ours")
	h.send(ours)
	target := &message.Ref{WhatsappID: ours.WhatsappID, FromMe: true}
	list := []Incoming{
		{Type: message.Text, Text: "hello @62899", Details: message.Details{Mentions: []string{"62899@s.whatsapp.net"}, ReplyTo: target, Forwarded: true}},
		{Type: message.Location, Details: message.Details{Location: &message.Place{Latitude: 1.5, Longitude: -2.5, Name: "here"}}},
		{Type: message.Contact, Details: message.Details{Contacts: []message.Card{{Name: "Sari", VCard: "BEGIN:VCARD\nEND:VCARD"}}}},
		{Type: message.Poll, Details: message.Details{Poll: &message.Question{Question: "?", Options: []string{"a", "b"}}}},
		{Type: message.Vote, Details: message.Details{Poll: &message.Question{Options: []string{"a"}}}},
		{Type: message.Reaction, Text: "❤️", Details: message.Details{Target: target}},
		{Type: message.Edit, Text: "corrected"},
		{Type: message.Delete},
		{Type: message.Text, Text: "written on the phone", FromMe: true},
		{Type: "of a later version", Text: "?"},
	}
	var ids []string
	for i := range list {
		list[i].From = from
		switch list[i].Type {
		case message.Vote: // in the poll before it
			list[i].Details.Target = &message.Ref{WhatsappID: ids[i-1], Sender: jid(from)}
		case message.Edit, message.Delete: // people change what is theirs
			list[i].Details.Target = &message.Ref{WhatsappID: ids[0], Sender: jid(from)}
		}
		ids = append(ids, h.net.Deliver(t, h.session.ID, list[i]))
	}
	for i, got := range h.messages(len(list)) {
		want := list[i]
		if want.Type == "of a later version" {
			want.Type = message.Unknown
		}
		require.Equal(t, want.Type, got.Type)
		require.Equal(t, h.arrives(Message{Type: want.Type, Text: want.Text}).Text, got.Message)
		require.Equal(t, want.Details, got.Details, want.Type)
		require.Equal(t, want.FromMe, got.FromMe)
		require.Equal(t, from[1:]+"@s.whatsapp.net", got.Chat)
		require.NotNil(t, got.From.Phone)
		if want.FromMe {
			require.Equal(t, h.State().PhoneNumber, *got.From.Phone)
		} else {
			require.Equal(t, from, *got.From.Phone)
		}
	}
}

func (s *suite) mediaIn(t *testing.T) {
	h := s.linked(t)
	from := person()
	kinds := []string{message.Image, message.Video, message.Audio, message.Voice, message.Document, message.Sticker}
	for _, kind := range kinds {
		h.net.Deliver(t, h.session.ID, Incoming{From: from, Type: kind, Caption: "look", Filename: "f.png", Media: picture, MIMEType: "image/png"})
	}
	for i, got := range h.messages(len(kinds)) {
		require.Equal(t, kinds[i], got.Type)
		want := h.arrives(Message{Type: kinds[i], Caption: "look", Filename: "f.png"})
		require.Equal(t, want.Caption, got.Caption)
		require.Equal(t, want.Filename, got.Filename)
		require.NotNil(t, got.Media)
		require.Equal(t, hashOf(picture), got.Media.SHA256)
		require.Equal(t, picture, h.store.get(got.Media.ID))
		require.Empty(t, got.MediaError)
	}
}

// mediaLost is about media that never come: their messages do.
func (s *suite) mediaLost(t *testing.T) {
	h := s.linked(t)
	from := person()
	h.net.Deliver(t, h.session.ID, Incoming{From: from, Type: message.Image, Caption: "lost", Media: picture, Missing: true})
	got := h.messages(1)[0]
	require.Equal(t, "lost", got.Caption)
	require.Nil(t, got.Media)
	require.Equal(t, wire.CodeMediaGone, got.MediaError)

	h.store.fail(worker.ErrMediaRefused)
	h.net.Deliver(t, h.session.ID, Incoming{From: from, Type: message.Image, Caption: "refused", Media: picture})
	got = h.messages(2)[1]
	require.Equal(t, "refused", got.Caption)
	require.Nil(t, got.Media)
	require.NotEmpty(t, got.MediaError)
}

// mediaOrder keeps a medium waiting for its store: its chat waits with it, others do not, and a connection that ends
// meanwhile loses nothing.
func (s *suite) mediaOrder(t *testing.T) {
	h := s.linked(t)
	h.store.fail(errAway)
	from, other := person(), person()
	h.net.Deliver(t, h.session.ID, Incoming{From: from, Type: message.Image, Caption: "first", Media: picture})
	h.net.Receive(t, h.session.ID, from, "second")
	h.net.Receive(t, h.session.ID, other, "elsewhere")
	require.Equal(t, "elsewhere", h.messages(1)[0].Message)
	require.Eventually(t, func() bool { return h.store.tried() >= 2 }, patience, poll)
	h.net.Drop(t, h.session.ID)
	h.await(wire.StatusConnected, "")
	tried := h.store.tried()
	require.Eventually(t, func() bool { return h.store.tried() > tried }, patience, poll)
	require.Len(t, h.of(wire.EventMessageReceived), 1)

	h.store.fail(nil)
	got := h.messages(3)
	require.Equal(t, "first", got[1].Caption)
	require.NotNil(t, got[1].Media)
	require.Equal(t, "second", got[2].Message)
}

func (s *suite) people(t *testing.T) {
	h := s.linked(t)
	from := person()
	group := h.group(from)
	h.net.Deliver(t, h.session.ID, Incoming{From: from, Chat: group, Type: message.Text, Text: "in a group", Name: "Sari"})
	got := h.messages(1)[0]
	require.Equal(t, group, got.Chat)
	require.Equal(t, from[1:]+"@s.whatsapp.net", got.Sender)
	require.Equal(t, "Sari", *got.From.Name)

	m := text(from, "to the group")
	m.To = group
	require.Equal(t, wire.OutcomeSent, h.send(m).Outcome)
	if _, lean := h.net.(Lean); !lean {
		h.strangers(from)
	}
}

// strangers are people of whom only a LID is known, and channels.
func (h *held) strangers(from string) {
	const channel, lid = "120363001234567890@newsletter", "98765432109876@lid"
	t := h.t
	for _, in := range []Incoming{
		{From: lid, Type: message.Text, Text: "under a LID"},
		{From: lid, Type: message.Text, Text: "... whose number is known", Phone: from},
		{Chat: channel, Type: message.Text, Text: "in a channel"},
	} {
		h.net.Deliver(t, h.session.ID, in)
	}
	got := h.messages(4)
	require.Equal(t, lid, got[1].Chat)
	require.Equal(t, lid, *got[1].From.LID)
	require.Nil(t, got[1].From.Phone)
	require.Equal(t, lid, *got[2].From.LID)
	require.Equal(t, from, *got[2].From.Phone)
	require.Equal(t, channel, got[3].Chat)
	require.Equal(t, channel, got[3].Sender)
	require.Nil(t, got[3].From.Phone)
}

func (s *suite) presence(t *testing.T) {
	h := s.linked(t)
	from := person()
	h.net.Presence(t, h.session.ID, from, wire.PresenceComposing)
	e := h.first(1, wire.EventPresence)[0]
	d := e.Data.(wire.PresenceData)
	require.Equal(t, wire.PresenceComposing, d.Presence)
	require.Equal(t, from[1:]+"@s.whatsapp.net", d.Chat)
	require.Equal(t, from, *d.From.Phone)
}

// calls are reported once acknowledged, and refused where the session wants it, as it wants it at that moment.
func (s *suite) calls(t *testing.T) {
	h := s.linked(t)
	from := person()
	call := h.net.Call(t, h.session.ID, from, true)
	d := h.first(1, wire.EventCall)[0].Data.(wire.CallData)
	require.Equal(t, call, d.CallID)
	require.Equal(t, from, *d.From.Phone)
	require.True(t, d.Video)
	require.False(t, d.Rejected)
	require.Zero(t, h.net.Rejected(t, from, call))

	h.reject.Store(true)
	refused := h.net.Call(t, h.session.ID, from, false)
	d = h.first(2, wire.EventCall)[1].Data.(wire.CallData)
	require.Equal(t, refused, d.CallID)
	require.True(t, d.Rejected)
	require.Eventually(t, func() bool { return h.net.Rejected(t, from, refused) > 0 }, patience, poll)
	require.Zero(t, h.net.Rejected(t, from, call))
}

func (s *suite) groups(t *testing.T) {
	h := s.linked(t)
	by, member := person(), person()
	group := h.group(by)
	h.net.AddMember(t, h.session.ID, group, by, member)
	var e worker.Event
	var d wire.GroupData
	require.Eventually(t, func() bool {
		for _, e = range h.of(wire.EventGroup) { // its founding may have been told before
			if d = e.Data.(wire.GroupData); d.Action == wire.GroupAdded {
				return true
			}
		}
		return false
	}, patience, poll)
	require.NotNil(t, e.Ack)
	require.Equal(t, group, d.Group)
	require.Equal(t, by, *d.By.Phone)
	require.Len(t, d.Members, 1)
	require.Equal(t, member, *d.Members[0].Phone)
	require.NotEmpty(t, d.ChangeID)
}
