//go:build !race

package wafake_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/worker/whatsapp/wafake"
)

func TestAGroupsMessagesReachEveryMember(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)
	ann, bob := person(t, s, "4917099999"), person(t, s, "4917088888")
	made, err := sub.CreateGroup(bg(), whatsmeow.ReqCreateGroup{Name: "crew", Participants: []types.JID{jid(ann.Number), jid(bob.Number)}})
	require.NoError(t, err)
	require.Len(t, made.Participants, 3)

	var last types.MessageID
	for _, text := range []string{"first", "second"} {
		last = sub.send(made.JID, words(text))
	}
	for _, p := range []*wafake.Person{ann, bob, person(t, s, "4917012345")} {
		_, err := p.Await(last)
		require.NoError(t, err)
		require.Len(t, p.Shown(), 2)
		require.Equal(t, "first", p.Shown()[0].Text())
		require.Equal(t, made.JID, p.Shown()[0].Chat)
		require.Equal(t, 1, p.Shown()[0].Times)
	}
	answer, err := ann.Write(made.JID, "from ann")
	require.NoError(t, err)
	heard := await(sub, texted("from ann"))
	require.Equal(t, answer, heard.Info.ID)
	require.Equal(t, jid(ann.Number), heard.Info.Sender.ToNonAD())
	_, err = bob.Await(answer)
	require.NoError(t, err)
	require.NoError(t, ann.Until(func() bool { return ann.Told(answer, types.ReceiptTypeDelivered) }))
	require.Empty(t, ann.Unreadable())
	require.Empty(t, bob.Unreadable())
}

// Members who write for the first time all at once read each other at once, and nobody has to send anything again.
func TestMembersWhoWriteAtOnceReadEachOther(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	members := []*wafake.Person{person(t, s, "4917099999"), person(t, s, "4917088888"), person(t, s, "4917077777")}
	group, err := s.NewGroup(members[0].Number, "crew", members[1].Number, members[2].Number)
	require.NoError(t, err)
	ids := make([][]types.MessageID, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() {
			for range 10 {
				id, err := m.Write(group, "at once")
				if err != nil {
					t.Error(err)
				}
				ids[i] = append(ids[i], id)
			}
		})
	}
	all.Wait()
	for i, m := range members {
		for j := range members {
			for _, id := range ids[j] {
				if i != j {
					_, err := m.Await(id)
					require.NoError(t, err)
				}
			}
		}
		require.Empty(t, m.Unreadable())
	}
}

// A phone that asks its account's phone for a message asks nobody: it could not read what it sent to itself, and would ask for that, too.
func TestAPhoneDoesNotAskItself(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)
	ann := person(t, s, "4917099999")
	group, err := s.NewGroup(ann.Number, "crew", "4917012345")
	require.NoError(t, err)
	_, err = ann.Write(group, "to all devices, her own among them") // so that she has keys for it
	require.NoError(t, err)
	_, err = ann.Client.SendMessage(bg(), jid(ann.Number), ann.Client.BuildUnavailableMessageRequest(group, jid("4917012345"), "ID"), whatsmeow.SendRequestExtra{Peer: true})
	require.NoError(t, err)
	_, err = ann.Await(sub.send(group, words("what comes next")))
	require.NoError(t, err)
	require.Empty(t, ann.Unreadable())
}

func TestAGroupIsChanged(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)
	group, err := s.NewGroup("4917099999", "theirs", "4917012345")
	require.NoError(t, err)
	require.Equal(t, "theirs", await[*events.JoinedGroup](sub).Name)
	require.NoError(t, s.AddMember(group, "4917099999", "4917088888"))
	joined := await[*events.GroupInfo](sub)
	require.Equal(t, []types.JID{jid("4917088888")}, joined.Join)
	id := sub.send(group, words("welcome"))
	_, err = person(t, s, "4917088888").Await(id)
	require.NoError(t, err)

	require.ErrorIs(t, sub.SetGroupName(bg(), group, "mine"), whatsmeow.ErrIQForbidden)
	link, err := sub.GetGroupInviteLink(bg(), group, false)
	require.NoError(t, err)
	require.NoError(t, sub.LeaveGroup(bg(), group))
	_, err = sub.GetGroupInfo(bg(), group)
	require.ErrorIs(t, err, whatsmeow.ErrNotInGroup)
	_, err = sub.SendMessage(bg(), group, words("still here?"))
	require.Error(t, err)
	back, err := sub.JoinGroupWithLink(bg(), link)
	require.NoError(t, err)
	require.Equal(t, group, back)
	groups, err := sub.GetJoinedGroups(bg())
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Len(t, groups[0].Participants, 3)
}
