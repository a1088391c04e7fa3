package simnet

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func asks[I, O any](t *testing.T, n *Network, s *session, call wire.Call[I, O], in I) (out O, code string) {
	t.Helper()
	data, err := json.Marshal(in)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	a := n.ask(s, &Ask{Call: call.Name, Data: data})
	if a.Code == "" {
		require.NoError(t, json.Unmarshal(a.Data, &out))
	}
	return out, a.Code
}

func linkedSession(n *Network, id, number string) *session {
	s := n.session(id, true)
	s.linked, s.number = true, number
	n.journal.add(entry{Op: opLink, Session: id, Number: number})
	n.phones.get(number).owner.Store(s)
	return s
}

// Groups, who is in them, what was said in them, and contacts outlive a restart.
func TestGroupsSurviveARestart(t *testing.T) {
	cfg := Config{StatePath: filepath.Join(t.TempDir(), "journal")}
	n, err := New(cfg)
	require.NoError(t, err)
	s := linkedSession(n, "s", "6281")
	made, code := asks(t, n, s, wire.CreateGroup, wire.NewGroup{Subject: "x", Key: "k", Participants: []string{"6282@s.whatsapp.net", "6283@s.whatsapp.net"}})
	require.Empty(t, code)
	send := func(id string) {
		n.take(&conn{net: n, s: s, cancel: func() {}, wake: make(chan struct{}, 1)}, 1, &wire.Send{MessageID: id, WhatsappID: id, To: made.ID, Type: "text", Message: id})
	}
	send("first")
	_, code = asks(t, n, s, wire.ChangeParticipants, wire.ParticipantChange{Group: made.ID, Change: wire.ChangeRemove, Participants: []string{"6283@s.whatsapp.net"}})
	require.Empty(t, code)
	send("second")
	_, err = n.receive(injection{SessionID: "s", From: "6284", Name: "Sari", Text: "x", WhatsappID: "w"})
	require.NoError(t, err)
	see := func(n *Network, number string) (list []string) {
		var screen PhoneScreen
		n.phones.get(number).picture(&screen)
		for _, m := range screen.Messages {
			require.Equal(t, made.ID, m.Group)
			list = append(list, m.Text)
		}
		return list
	}
	for range 2 {
		require.Equal(t, []string{"first", "second"}, see(n, "6282"))
		require.Equal(t, []string{"first"}, see(n, "6283"))
		require.Empty(t, see(n, "6281"), "who wrote it does not get it")
		group, code := asks(t, n, n.session("s", false), wire.GetGroup, wire.GroupRef{Group: made.ID})
		require.Empty(t, code)
		require.Equal(t, 2, group.Size)
		again, _ := asks(t, n, n.session("s", false), wire.CreateGroup, wire.NewGroup{Subject: "x", Key: "k"})
		require.Equal(t, made.ID, again.ID)
		people, _ := asks(t, n, n.session("s", false), wire.ListContacts, wire.Page{Limit: 10})
		require.Len(t, people.Contacts, 1)
		require.Equal(t, "Sari", *people.Contacts[0].Name)
		require.Zero(t, n.Report().Duplicates)
		require.NoError(t, n.Close())
		n, err = New(cfg)
		require.NoError(t, err)
	}
	require.NoError(t, n.Close())
}

func TestTheOwnerLeaves(t *testing.T) {
	n, err := New(Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	s, other := linkedSession(n, "s", "6281"), linkedSession(n, "o", "6282")
	made, _ := asks(t, n, s, wire.CreateGroup, wire.NewGroup{Subject: "x", Participants: []string{"6282@s.whatsapp.net"}})
	ref := wire.GroupRef{Group: made.ID}
	_, code := asks(t, n, other, wire.GetInvite, ref)
	require.Equal(t, wire.CodeNotGroupAdmin, code)
	_, code = asks(t, n, s, wire.LeaveGroup, ref)
	require.Empty(t, code)
	invite, code := asks(t, n, other, wire.GetInvite, ref)
	require.Empty(t, code, "somebody has to administer it")
	_, code = asks(t, n, other, wire.LeaveGroup, ref)
	require.Empty(t, code)
	_, code = asks(t, n, s, wire.JoinGroup, wire.Invite{Code: invite.Code})
	require.Equal(t, wire.CodeInviteInvalid, code, "nobody is left to join")
}

func TestAFullGroup(t *testing.T) {
	n, err := New(Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	s := linkedSession(n, "s", "6281")
	var many []string
	for i := range maxMembers + 3 {
		many = append(many, fmt.Sprintf("62%06d1@s.whatsapp.net", i))
	}
	made, _ := asks(t, n, s, wire.CreateGroup, wire.NewGroup{Subject: "x", Participants: many})
	require.Equal(t, maxMembers, made.Size)
	require.Equal(t, "group_full", made.Results[len(many)-1].Code)
}

func TestQuestionsThatMakeNoSense(t *testing.T) {
	n, err := New(Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	s := linkedSession(n, "s", "6281")
	for call, data := range map[string]string{"dance": `{}`, "": `{}`, wire.ListLabels.Name: `{}`} {
		require.Equal(t, wire.CodeUnsupported, n.ask(s, &Ask{Call: call, Data: json.RawMessage(data)}).Code)
	}
	for call := range handlers {
		if call == wire.GetPairingCode.Name {
			continue
		}
		require.Equal(t, wire.CodeInvalidRequest, n.ask(s, &Ask{Call: call, Data: json.RawMessage(`[`)}).Code, call)
		require.Equal(t, wire.CodeNotConnected, n.ask(&session{}, &Ask{Call: call, Data: json.RawMessage(`{}`)}).Code, call)
	}
}
