//go:build !race

package wafake_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/worker/whatsapp/wafake"
)

func TestPeopleAreKnownByTheirLIDs(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	lid, err := s.LID(ann.Number)
	require.NoError(t, err)
	id := sub.send(lid, words("to the LID"))
	m, err := ann.Await(id)
	require.NoError(t, err)
	require.Equal(t, sub.Store.GetLID(), m.Sender)
	require.Equal(t, jid("4917012345"), m.SenderAlt.ToNonAD())

	_, err = ann.Write(sub.Store.GetLID().ToNonAD(), "from the LID")
	require.NoError(t, err)
	got := await(sub, texted("from the LID"))
	require.Equal(t, lid, got.Info.Chat)
	require.Equal(t, jid(ann.Number), got.Info.SenderAlt.ToNonAD())

	second := linked(t, s)
	require.Eventually(t, func() bool { return s.Waiting(ann.Client.Store.GetJID()) == 0 }, 20*time.Second, 10*time.Millisecond)
	_, err = ann.Write(sub.Store.GetLID().ToNonAD(), "to both")
	require.NoError(t, err)
	await(second, texted("to both"))

	bob := person(t, s, "4917088888")
	require.NoError(t, s.Hide(bob.Number))
	_, err = bob.Write(jid("4917012345"), "from nobody")
	require.NoError(t, err)
	got = await(sub, texted("from nobody"))
	require.Equal(t, types.HiddenUserServer, got.Info.Sender.Server)
	require.True(t, got.Info.SenderAlt.IsEmpty())
	answer := sub.send(got.Info.Chat, words("who is it?"))
	_, err = bob.Await(answer)
	require.NoError(t, err)
}

func TestAGroupUnderLIDsAndItsReceiptsInOne(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)
	group, err := s.NewLIDGroup("4917099999", "under LIDs", "4917012345", "4917088888")
	require.NoError(t, err)
	ann := person(t, s, "4917099999")
	lid, err := s.LID(ann.Number)
	require.NoError(t, err)
	s.GroupReceipts(true)
	id := sub.send(group, words("hello"))
	m, err := ann.Await(id)
	require.NoError(t, err)
	require.Equal(t, sub.Store.GetLID(), m.Sender)
	by := await(sub, receipt(id, types.ReceiptTypeDelivered))
	require.Equal(t, types.HiddenUserServer, by.Sender.Server)
	require.NoError(t, ann.Read(id))
	require.Equal(t, lid, await(sub, receipt(id, types.ReceiptTypeRead)).Sender.ToNonAD())

	_, err = ann.Write(group, "hello all")
	require.NoError(t, err)
	got := await(sub, texted("hello all"))
	require.Equal(t, lid, got.Info.Sender)
	require.Equal(t, jid(ann.Number), got.Info.SenderAlt.ToNonAD())
}

func TestAChannelWrites(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)
	channel := types.NewJID("120363001234567890", types.NewsletterServer)
	id, err := s.Publish(channel, words("news"), "4917012345")
	require.NoError(t, err)
	got := await(sub, texted("news"))
	require.Equal(t, channel, got.Info.Chat)
	require.Equal(t, id, got.Info.ID)
}

func TestCodesAreRenewed(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := follow(t, s, whatsmeow.NewClient(wafake.NewDevice(), nil), "worker")
	require.NoError(t, sub.Connect())
	old := await[*events.QR](sub)
	s.FreshCodes()
	fresh := await[*events.QR](sub)
	_, err := s.Scan("4917012345", old.Codes[0])
	require.Error(t, err)
	_, err = s.Scan("4917012345", fresh.Codes[3])
	require.NoError(t, err)
	await[*events.Connected](sub)
}
