//go:build !race

package wafake_test

import (
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
