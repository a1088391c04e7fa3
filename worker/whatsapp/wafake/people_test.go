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

func TestANumberIsLinkedByACode(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := follow(t, s, whatsmeow.NewClient(wafake.NewDevice(), nil), "worker")
	require.NoError(t, sub.Connect())
	await[*events.QR](sub)
	code, err := sub.PairPhone(bg(), "4917012345", true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	require.NoError(t, err)
	linkedAs, err := s.EnterCode("4917012345", code)
	require.NoError(t, err)
	await[*events.Connected](sub)
	require.Equal(t, sub.Store.GetJID(), linkedAs)

	other := follow(t, s, whatsmeow.NewClient(wafake.NewDevice(), nil), "worker")
	require.NoError(t, other.Connect())
	await[*events.QR](other)
	_, err = other.PairPhone(bg(), "4917012345", true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	require.NoError(t, err)
	_, err = s.EnterCode("4917012345", "AAAA-AAAA")
	require.Error(t, err)
}

func TestWhoIsOnWhatsApp(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	s.Absent("4917000000")
	sub := linked(t, s)
	found, err := sub.IsOnWhatsApp(bg(), []string{"+4917099999", "+4917000000"})
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.True(t, found[0].IsIn)
	require.Equal(t, jid("4917099999"), found[0].JID)
	require.Equal(t, "+4917099999", found[0].Query)
	require.False(t, found[1].IsIn)
	_, err = sub.SendMessage(bg(), jid("4917000000"), words("nobody"))
	require.Error(t, err)
	info, err := sub.GetUserInfo(bg(), []types.JID{jid("4917099999")})
	require.NoError(t, err)
	require.Len(t, info[jid("4917099999")].Devices, 1)
	require.False(t, info[jid("4917099999")].LID.IsEmpty())
}

func TestPresenceTypingPicturesAndCalls(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	require.NoError(t, sub.SubscribePresence(bg(), jid(ann.Number)))
	require.True(t, await[*events.Presence](sub).Unavailable)
	require.NoError(t, ann.Client.SendPresence(bg(), types.PresenceAvailable))
	require.False(t, await[*events.Presence](sub).Unavailable)

	require.NoError(t, ann.Client.SendChatPresence(bg(), jid("4917012345"), types.ChatPresenceComposing, ""))
	require.Equal(t, types.ChatPresenceComposing, await[*events.ChatPresence](sub).State)
	require.NoError(t, sub.SendChatPresence(bg(), jid(ann.Number), types.ChatPresenceComposing, types.ChatPresenceMediaAudio))
	require.Eventually(t, func() bool { return len(s.Typing(ann.Number)) == 1 }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, []string{"recording"}, s.Typing(ann.Number))

	_, err := sub.GetProfilePictureInfo(bg(), jid(ann.Number), nil)
	require.ErrorIs(t, err, whatsmeow.ErrProfilePictureNotSet)
	s.SetPicture(ann.Number, []byte("jpeg"))
	picture, err := sub.GetProfilePictureInfo(bg(), jid(ann.Number), nil)
	require.NoError(t, err)
	require.NotEmpty(t, picture.URL)

	call, err := s.Call(ann.Number, "4917012345", true)
	require.NoError(t, err)
	offer := await[*events.CallOffer](sub)
	require.Equal(t, call, offer.CallID)
	require.NoError(t, sub.RejectCall(bg(), offer.From, offer.CallID))
	require.Eventually(t, func() bool { return s.Rejected(ann.Number, call) == 1 }, 20*time.Second, 10*time.Millisecond)
}
