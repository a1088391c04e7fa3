//go:build !race

package wafake_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/worker/whatsapp/wafake"
)

func TestHowALoginEnds(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)

	require.Equal(t, 1, s.Drop("4917012345"))
	await[*events.Disconnected](sub)
	require.NoError(t, sub.Connect())
	await[*events.Connected](sub)

	require.Equal(t, 1, s.Replace("4917012345"))
	await[*events.StreamReplaced](sub)
	sub.Disconnect()
	s.Outdated(true)
	require.NoError(t, sub.Connect())
	await[*events.ClientOutdated](sub)
	sub.Disconnect()
	s.Outdated(false)

	s.Ban("4917012345", 101, time.Hour)
	require.NoError(t, sub.Connect())
	ban := await[*events.TemporaryBan](sub)
	require.Equal(t, time.Hour, ban.Expire)
	require.Equal(t, events.TempBanSentToTooManyPeople, ban.Code)
	sub.Disconnect()
	s.Pardon("4917012345")

	require.NoError(t, sub.Connect())
	await[*events.Connected](sub)
	require.Equal(t, 1, s.Unlink("4917012345"))
	require.False(t, await[*events.LoggedOut](sub).OnConnect)
	var ends []string
	for _, l := range s.Logins("4917012345") {
		ends = append(ends, l.End)
	}
	require.Equal(t, []string{"dropped", "replaced", "unlinked"}, ends)
	require.Empty(t, s.Fights("4917012345"))
	refused := s.Refused("4917012345")
	require.Equal(t, []string{"405", "402"}, []string{refused[0].End, refused[1].End})
	s.Down(true)
	require.Error(t, follow(t, s, whatsmeow.NewClient(wafake.NewDevice(), nil), "worker").Connect())
	person(t, s, "4917099999") // the people's phones are not under test
}

func TestTwoClientsWithOneDeviceAreSeen(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)
	twin := follow(t, s, whatsmeow.NewClient(sub.Store, nil), "another worker")
	require.NoError(t, twin.Connect())
	await[*events.Connected](twin)
	await[*events.StreamReplaced](sub)
	fights := s.Fights("4917012345")
	require.Len(t, fights, 1)
	require.Equal(t, "worker", fights[0].Client)
}

func TestANumberIsLinkedAnewUnderTheSameAddress(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	ann := person(t, s, "4917099999")
	old := linked(t, s)
	old.send(jid(ann.Number), words("before"))
	address := old.Store.GetJID()
	require.Equal(t, 1, s.Unlink("4917012345"))
	await[*events.LoggedOut](old)
	require.Empty(t, s.Devices("4917012345"))
	renewed := linked(t, s)
	require.Equal(t, address, renewed.Store.GetJID())
	id := renewed.send(jid(ann.Number), words("after"))
	m, err := ann.Await(id)
	require.NoError(t, err)
	require.Equal(t, "after", m.Text())
	_, err = ann.Write(jid("4917012345"), "hello again")
	require.NoError(t, err)
	await(renewed, texted("hello again"))
}

func TestAcksGoAstray(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	within := func(d time.Duration, id types.MessageID, text string) error {
		ctx, cancel := context.WithTimeout(bg(), d)
		defer cancel()
		_, err := sub.SendMessage(ctx, jid(ann.Number), words(text), whatsmeow.SendRequestExtra{ID: id})
		return err
	}
	s.LoseAck(1)
	require.ErrorIs(t, within(200*time.Millisecond, "LOSTACK", "once"), context.DeadlineExceeded)
	require.NoError(t, within(20*time.Second, "LOSTACK", "once"))
	s.Lose(1)
	require.ErrorIs(t, within(200*time.Millisecond, "LOST", "gone"), context.DeadlineExceeded)
	s.Refuse(1, "463")
	require.ErrorIs(t, within(20*time.Second, "REFUSED", "no"), whatsmeow.ErrServerReturnedError)
	s.DelayAcks(50 * time.Millisecond)
	require.NoError(t, within(20*time.Second, "LATE", "late"))
	s.DelayAcks(0)

	_, err := ann.Await("LATE")
	require.NoError(t, err)
	require.NoError(t, ann.Until(func() bool { return ann.Shown()[0].Times == 2 }))
	require.Len(t, ann.Shown(), 2, "a message that is sent twice under one ID is shown once")
	require.Len(t, s.Sends("4917012345"), 5)

	s.BreakBeforeAck(1)
	sent := make(chan error)
	go func() { sent <- within(20*time.Second, "BROKEN", "broken") }()
	await[*events.Disconnected](sub)
	require.NoError(t, sub.Connect())
	require.NoError(t, <-sent, "whatsmeow sends again after it has connected again")
	require.NoError(t, ann.Until(func() bool { return len(ann.Shown()) == 3 && ann.Shown()[2].Times > 0 }))
}

// whatsmeow sends what it could encrypt, and calls it sent, even if that is nothing.
func TestKeysAndDevicesAreKeptBack(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	for _, fault := range []func(int){s.HideDevices, s.RefuseKeys} { // whatsmeow keeps a list of devices that is not empty
		fault(1)
		sub.send(jid(ann.Number), words("for nobody"))
	}
	_, err := ann.Await(sub.send(jid(ann.Number), words("for her")))
	require.NoError(t, err)
	require.Len(t, ann.Shown(), 1)
	require.Len(t, s.Sends("4917012345"), 3)
}

func TestABlackHoleSwallows(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	require.Equal(t, 1, s.BlackHole("4917012345"))
	_, err := ann.Write(jid("4917012345"), "anybody there?")
	require.NoError(t, err)
	require.True(t, sub.IsConnected())
	require.Equal(t, 1, s.Waiting(sub.Store.GetJID()))
	sub.Disconnect()
	require.NoError(t, sub.Connect())
	await(sub, texted("anybody there?"))
}

func TestMessagesComeTwiceAndInAnotherOrder(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	_, err := ann.Write(jid("4917012345"), "session")
	require.NoError(t, err)
	await(sub, texted("session"))
	s.Hold("4917012345")
	for _, text := range []string{"one", "two", "three"} {
		_, err := ann.Write(jid("4917012345"), text)
		require.NoError(t, err)
	}
	s.Release("4917012345", true)
	for _, text := range []string{"three", "two", "one"} {
		e := await[*events.Message](sub)
		require.Equal(t, text, e.Message.GetConversation())
	}
	s.Duplicate(1)
	_, err = ann.Write(jid("4917012345"), "twice")
	require.NoError(t, err)
	await(sub, texted("twice"))
}

func TestAMessageThatCannotBeReadIsSentAgain(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	sub.send(jid(ann.Number), words("session"))
	_, err := ann.Write(jid("4917012345"), "both ways")
	require.NoError(t, err)
	await(sub, texted("both ways"))
	ann.ForgetSessions()
	id := sub.send(jid(ann.Number), words("again, please"))
	m, err := ann.Await(id)
	require.NoError(t, err)
	require.Equal(t, "again, please", m.Text())
	require.Equal(t, []types.MessageID{id}, ann.Unreadable())
	sends := s.Sends("4917012345")
	require.True(t, sends[len(sends)-1].Resend)
}
