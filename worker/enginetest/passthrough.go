package enginetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker"
)

// Witness is what the suite asks of the far side of an engine that can do more than send. A Network implements it if the
// engine implements one of the interfaces that need it.
type Witness interface {
	// SeenPresence is what the phone of one number sees of another one: available, composing, ...; of itself, what it shows to all.
	SeenPresence(t *testing.T, at, of string) string
	// Read lists the WhatsApp IDs of a number's messages that were marked as read.
	Read(t *testing.T, number string) []string
	// Pair enters a pairing code on the phone of a number.
	Pair(t *testing.T, number, code string)
}

// abilities are the parts of the suite for what an engine may leave out.
func (s *suite) abilities(t *testing.T) {
	t.Run("contacts, where the engine can", s.contacts)
	t.Run("groups, where the engine can", s.groupsHeld)
	t.Run("presence, where the engine can", s.presenceShown)
	t.Run("mark as read, where the engine can", s.markRead)
	t.Run("pairing code, where the engine can", s.pairing)
	t.Run("labels, where the engine can", s.labels)
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func jid(number string) string { return strings.TrimPrefix(number, "+") + "@s.whatsapp.net" }

// guarded checks that a call does nothing without the lease, nor after the end.
func guarded[O any](h *held, call func(ctx context.Context) (O, error)) {
	h.t.Helper()
	h.lease.Store(false)
	_, err := call(context.Background())
	require.ErrorIs(h.t, err, worker.ErrLeaseLost)
	h.lease.Store(true)
	h.close()
	_, err = call(context.Background())
	require.ErrorIs(h.t, err, worker.ErrNotConnected)
}

func (s *suite) contacts(t *testing.T) {
	h := s.linked(t)
	c, ok := h.Conn.(worker.Contacts)
	if !ok {
		return // an engine may leave it out
	}
	ctx, here, absent := soon(t), person(), "+62899990000"
	asked := []string{strings.TrimPrefix(absent, "+"), strings.TrimPrefix(here, "+")}
	checked, err := c.CheckContacts(ctx, wire.Numbers{Numbers: asked})
	require.NoError(t, err)
	require.Len(t, checked.Numbers, 2)
	for i, n := range checked.Numbers {
		require.Equal(t, asked[i], n.Number)
		require.Equal(t, i == 1, n.Exists)
		require.Equal(t, n.Exists, n.JID != nil)
	}
	require.Equal(t, jid(here), *checked.Numbers[1].JID)

	var known []string
	for range 5 {
		to := person()
		require.NoError(t, h.deliver(text(to, "hello")))
		known = append(known, jid(to))
	}
	var listed []string
	for page := (wire.Page{Limit: 2}); ; {
		people, err := c.ListContacts(ctx, page)
		require.NoError(t, err)
		require.LessOrEqual(t, len(people.Contacts), 2)
		for _, p := range people.Contacts {
			require.Greater(t, p.JID, page.After, "sorted")
			page.After = p.JID
			listed = append(listed, p.JID)
		}
		if !people.More {
			break
		}
	}
	require.Subset(t, listed, known)

	somebody, err := c.Contact(ctx, wire.Address{JID: jid(here)})
	require.NoError(t, err)
	require.Equal(t, jid(here), somebody.JID)
	_, err = c.Contact(ctx, wire.Address{JID: jid(absent)})
	require.Equal(t, wire.CodeContactNotFound, wire.Code(err))
	picture, err := c.Picture(ctx, wire.Address{JID: jid(here)})
	require.NoError(t, err)
	if picture.URL != nil {
		require.Regexp(t, `^https?://`, *picture.URL)
	}
	guarded(h, func(ctx context.Context) (wire.Checked, error) {
		return c.CheckContacts(ctx, wire.Numbers{Numbers: asked})
	})
}

func (s *suite) groupsHeld(t *testing.T) {
	h, other := s.linked(t), s.linked(t)
	g, ok := h.Conn.(worker.Groups)
	if !ok {
		return // an engine may leave it out
	}
	guest := other.Conn.(worker.Groups)
	ctx, friend, absent := soon(t), person(), "+62899990000"
	in := wire.NewGroup{Key: uuid.NewString(), Subject: "Conformance", Participants: []string{jid(friend), jid(absent)}}
	made, err := g.CreateGroup(ctx, in)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(made.ID, "@g.us"), made.ID)
	require.Equal(t, []any{"Conformance", 2, jid(h.State().PhoneNumber)}, []any{made.Subject, made.Size, made.Owner})
	require.Equal(t, []wire.ParticipantResult{{JID: jid(friend)}, {JID: jid(absent), Code: "not_on_whatsapp"}}, made.Results)
	again, err := g.CreateGroup(ctx, in)
	require.NoError(t, err)
	require.Equal(t, made.ID, again.ID, "one key makes one group")
	ref := wire.GroupRef{Group: made.ID}

	list, err := g.ListGroups(ctx, wire.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, list.Groups, 1)
	require.Equal(t, []any{made.ID, 2}, []any{list.Groups[0].ID, list.Groups[0].Size})
	_, err = guest.Group(ctx, ref)
	require.Equal(t, wire.CodeGroupNotFound, wire.Code(err), "it is not in it")

	invite, err := g.Invite(ctx, ref)
	require.NoError(t, err)
	require.Contains(t, invite.Link, invite.Code)
	joined, err := guest.JoinGroup(ctx, wire.Invite{Code: invite.Code})
	require.NoError(t, err)
	require.Equal(t, made.ID, joined.Group)
	_, err = guest.RevokeInvite(ctx, ref)
	require.Equal(t, wire.CodeNotGroupAdmin, wire.Code(err))
	revoked, err := g.RevokeInvite(ctx, ref)
	require.NoError(t, err)
	require.NotEqual(t, invite.Code, revoked.Code)
	_, err = guest.JoinGroup(ctx, wire.Invite{Code: invite.Code})
	require.Equal(t, wire.CodeInviteInvalid, wire.Code(err))

	m := text(friend, "to all of you")
	m.To = made.ID
	require.NoError(t, h.deliver(m))
	require.Equal(t, []string{"to all of you"}, texts(t, h.net, friend, 1))
	arrived := other.first(1, wire.EventMessageReceived)[0].Data.(wire.ReceivedData)
	require.Equal(t, []string{made.ID, jid(h.State().PhoneNumber), "to all of you"}, []string{arrived.Chat, arrived.Sender, arrived.Message})

	change := func(what string, who ...string) []wire.ParticipantResult {
		t.Helper()
		r, err := g.ChangeParticipants(ctx, wire.ParticipantChange{Group: made.ID, Change: what, Participants: who})
		require.NoError(t, err)
		return r.Participants
	}
	newcomer := jid(person())
	require.Equal(t, []wire.ParticipantResult{{JID: newcomer}, {JID: jid(friend), Code: "already_member"}}, change(wire.ChangeAdd, newcomer, jid(friend)))
	change(wire.ChangePromote, newcomer)
	require.Equal(t, wire.RoleAdmin, s.role(t, g, ref, newcomer))
	change(wire.ChangeDemote, newcomer)
	require.Equal(t, wire.RoleMember, s.role(t, g, ref, newcomer))
	change(wire.ChangeRemove, newcomer)
	require.Empty(t, s.role(t, g, ref, newcomer))
	require.Equal(t, []wire.ParticipantResult{{JID: newcomer, Code: "not_member"}}, change(wire.ChangeRemove, newcomer))
	require.Equal(t, wire.RoleOwner, s.role(t, g, ref, jid(h.State().PhoneNumber)))

	_, err = guest.LeaveGroup(ctx, ref)
	require.NoError(t, err)
	_, err = guest.LeaveGroup(ctx, ref)
	require.Equal(t, wire.CodeGroupNotFound, wire.Code(err))
	m = text(friend, "from outside")
	m.To = made.ID
	require.Equal(t, wire.OutcomeFailed, other.send(m).Outcome)
	guarded(h, func(ctx context.Context) (wire.Done, error) { return g.LeaveGroup(ctx, ref) })
}

func (s *suite) role(t *testing.T, g worker.Groups, ref wire.GroupRef, who string) string {
	t.Helper()
	group, err := g.Group(soon(t), ref)
	require.NoError(t, err)
	require.Len(t, group.Participants, group.Size)
	for _, p := range group.Participants {
		if p.JID == who {
			return p.Role
		}
	}
	return ""
}

func (s *suite) presenceShown(t *testing.T) {
	h := s.linked(t)
	p, ok := h.Conn.(worker.Presencer)
	if !ok {
		return // an engine may leave it out
	}
	w, ctx, friend, own := h.net.(Witness), soon(t), person(), h.State().PhoneNumber
	require.Empty(t, h.net.Phone(t, friend))
	for _, state := range []string{wire.PresenceComposing, wire.PresenceRecording, wire.PresencePaused} {
		_, err := p.SetPresence(ctx, wire.Presence{Chat: jid(friend), State: state})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return w.SeenPresence(t, friend, own) == state }, patience, poll, state)
	}
	for _, state := range []string{wire.PresenceAvailable, wire.PresenceUnavailable} {
		_, err := p.SetPresence(ctx, wire.Presence{State: state})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return w.SeenPresence(t, own, own) == state }, patience, poll, state)
	}
	_, err := p.SubscribePresence(ctx, wire.Address{JID: jid(friend)})
	require.NoError(t, err)
	guarded(h, func(ctx context.Context) (wire.Done, error) {
		return p.SetPresence(ctx, wire.Presence{State: wire.PresenceAvailable})
	})
}

func (s *suite) markRead(t *testing.T) {
	h := s.linked(t)
	r, ok := h.Conn.(worker.Reader)
	if !ok {
		return // an engine may leave it out
	}
	friend := person()
	ids := []string{h.net.Receive(t, h.session.ID, friend, "one"), h.net.Receive(t, h.session.ID, friend, "two")}
	h.first(2, wire.EventMessageReceived)
	mark := wire.ReadMarks{Messages: []wire.ReadMark{{Chat: jid(friend), Sender: jid(friend), WhatsappIDs: ids}}}
	_, err := r.MarkRead(soon(t), mark)
	require.NoError(t, err)
	w := h.net.(Witness)
	require.Eventually(t, func() bool { return len(w.Read(t, friend)) == 2 }, patience, poll)
	require.Equal(t, ids, w.Read(t, friend))
	guarded(h, func(ctx context.Context) (wire.Done, error) { return r.MarkRead(ctx, mark) })
}

func (s *suite) pairing(t *testing.T) {
	e, n := s.engine(t)
	h := open(t, e, n, uuid.NewString(), 1)
	p, ok := h.Conn.(worker.Pairer)
	if !ok {
		return // an engine may leave it out
	}
	h.await(wire.StatusQRRequired, "")
	ctx, number := soon(t), person()
	h.lease.Store(false)
	_, err := p.PairingCode(ctx, wire.Pairing{PhoneNumber: strings.TrimPrefix(number, "+")})
	require.ErrorIs(t, err, worker.ErrLeaseLost)
	h.lease.Store(true)
	code, err := p.PairingCode(ctx, wire.Pairing{PhoneNumber: strings.TrimPrefix(number, "+")})
	require.NoError(t, err)
	require.Regexp(t, `^[A-Z0-9]{4}-[A-Z0-9]{4}$`, code.Code)
	require.True(t, code.ExpiresAt.After(time.Now()))
	n.(Witness).Pair(t, number, code.Code)
	h.await(wire.StatusConnected, "")
	require.Equal(t, number, h.State().PhoneNumber)
	_, err = p.PairingCode(ctx, wire.Pairing{PhoneNumber: strings.TrimPrefix(number, "+")})
	require.Equal(t, wire.CodeAlreadyLinked, wire.Code(err))
	h.close()
	_, err = p.PairingCode(ctx, wire.Pairing{PhoneNumber: strings.TrimPrefix(number, "+")})
	require.Equal(t, wire.CodeQRNotReady, wire.Code(err))
}

func (s *suite) labels(t *testing.T) {
	h := s.linked(t)
	l, ok := h.Conn.(worker.Labeler)
	if !ok {
		return // an engine may leave it out
	}
	ctx, chat := soon(t), jid(person())
	list, err := l.ListLabels(ctx, wire.Page{Limit: 50})
	require.NoError(t, err)
	_, err = l.SetLabel(ctx, wire.LabelMark{Label: "no-such-label", Chat: chat, On: true})
	require.Equal(t, wire.CodeLabelNotFound, wire.Code(err))
	for _, label := range list.Labels {
		for _, on := range []bool{true, false} {
			_, err := l.SetLabel(ctx, wire.LabelMark{Label: label.ID, Chat: chat, On: on})
			require.NoError(t, err)
		}
	}
	guarded(h, func(ctx context.Context) (wire.Labels, error) { return l.ListLabels(ctx, wire.Page{Limit: 1}) })
}
