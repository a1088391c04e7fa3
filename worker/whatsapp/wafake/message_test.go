//go:build !race

package wafake_test

import (
	"bytes"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"kurir/worker/whatsapp/wafake"
)

func words(s string) *waE2E.Message { return &waE2E.Message{Conversation: proto.String(s)} }

func person(t *testing.T, s *wafake.Server, number string) *wafake.Person {
	t.Helper()
	p, err := s.Person(number)
	require.NoError(t, err)
	return p
}

func (s *subject) send(to types.JID, m *waE2E.Message) types.MessageID {
	s.t.Helper()
	sent, err := s.SendMessage(bg(), to, m)
	require.NoError(s.t, err)
	return sent.ID
}

func texted(text string) func(*events.Message) bool {
	return func(e *events.Message) bool { return e.Message.GetConversation() == text }
}

func receipt(id types.MessageID, kind types.ReceiptType) func(*events.Receipt) bool {
	return func(e *events.Receipt) bool { return e.Type == kind && slices.Contains(e.MessageIDs, id) }
}

func TestMessagesPassBothWaysWithReceipts(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")

	id := sub.send(jid(ann.Number), words("hello"))
	m, err := ann.Await(id)
	require.NoError(t, err)
	require.Equal(t, "hello", m.Text())
	require.Equal(t, sub.Store.GetJID(), m.Sender)
	require.NoError(t, ann.Read(id))
	await(sub, receipt(id, types.ReceiptTypeRead))

	own, err := person(t, s, "4917012345").Await(id)
	require.NoError(t, err, "the own phone is shown what its devices send")
	require.True(t, own.IsFromMe)
	require.Equal(t, jid(ann.Number), own.Chat)

	answer, err := ann.Write(sub.Store.GetJID().ToNonAD(), "hello yourself")
	require.NoError(t, err)
	require.Equal(t, answer, await(sub, texted("hello yourself")).Info.ID)
	require.NoError(t, sub.MarkRead(bg(), []types.MessageID{answer}, time.Now(), jid(ann.Number), jid(ann.Number)))
	require.NoError(t, ann.Until(func() bool { return ann.Told(answer, types.ReceiptTypeRead) }))

	_, err = ann.React(id, "👍")
	require.NoError(t, err)
	await(sub, func(e *events.Message) bool { return e.Message.GetReactionMessage().GetText() == "👍" })
	require.Len(t, s.Sends("4917012345"), 1)
	require.Empty(t, ann.Unreadable())
}

func TestEveryDeviceOfBothSidesIsShownAMessageOnce(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)
	tablet, err := s.Companion("4917099999")
	require.NoError(t, err)
	other, err := s.Companion("4917012345")
	require.NoError(t, err)
	id := sub.send(jid(tablet.Number), words("to all"))
	again := sub.send(jid(tablet.Number), words("and again"))
	for _, p := range []*wafake.Person{tablet, person(t, s, tablet.Number), other, person(t, s, "4917012345")} {
		m, err := p.Await(again)
		require.NoError(t, err)
		require.Equal(t, 1, m.Times)
		require.Equal(t, "to all", p.Shown()[0].Text())
		require.Equal(t, id, p.Shown()[0].ID)
		require.Len(t, p.Shown(), 2)
	}
}

func TestWhatComesMeanwhileWaits(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	device := sub.Store.GetJID()
	sub.Disconnect()
	for _, text := range []string{"one", "two", "three"} {
		_, err := ann.Write(device.ToNonAD(), text)
		require.NoError(t, err)
	}
	require.Equal(t, 3, s.Waiting(device))
	require.NoError(t, sub.Connect())
	for _, text := range []string{"one", "two", "three"} {
		await(sub, texted(text))
	}
	require.Equal(t, 3, await[*events.OfflineSyncCompleted](sub).Count)
	require.Eventually(t, func() bool { return s.Waiting(device) == 0 }, 20*time.Second, 10*time.Millisecond)
}

func TestWhatIsNotAcknowledgedComesAgain(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	device := sub.Store.GetJID()
	var refuse atomic.Bool
	refuse.Store(true)
	sub.SynchronousAck = true
	sub.AddEventHandlerWithSuccessStatus(func(e any) bool {
		if m, ok := e.(*events.Message); ok {
			return m.Message.GetConversation() != "again" || !refuse.Load()
		}
		return true
	})
	_, err := ann.Write(device.ToNonAD(), "again")
	require.NoError(t, err)
	await(sub, texted("again"))
	_, err = ann.Write(device.ToNonAD(), "taken")
	require.NoError(t, err)
	await(sub, texted("taken"))
	require.Eventually(t, func() bool { return s.Waiting(device) == 1 }, 20*time.Second, 10*time.Millisecond)
	sub.Disconnect()
	refuse.Store(false)
	require.NoError(t, sub.Connect())
	await[*events.OfflineSyncPreview](sub, func(e *events.OfflineSyncPreview) bool { return e.Total == 1 })
}

func TestAMediumIsUploadedAndDownloaded(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub, ann := linked(t, s), person(t, s, "4917099999")
	picture := bytes.Repeat([]byte("pixel"), 10_000)
	s.RefuseUploads(1)
	_, err := sub.Upload(bg(), picture, whatsmeow.MediaImage)
	require.Error(t, err)
	up, err := sub.Upload(bg(), picture, whatsmeow.MediaImage)
	require.NoError(t, err)
	id := sub.send(jid(ann.Number), &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
		Caption: proto.String("look"), Mimetype: proto.String("image/png"), URL: &up.URL, DirectPath: &up.DirectPath,
		MediaKey: up.MediaKey, FileEncSHA256: up.FileEncSHA256, FileSHA256: up.FileSHA256, FileLength: &up.FileLength,
	}})
	m, err := ann.Await(id)
	require.NoError(t, err)
	require.Equal(t, "look", m.Text())
	got, err := ann.Download(bg(), m)
	require.NoError(t, err)
	require.Equal(t, picture, got)
	s.LoseMedia()
	_, err = ann.Download(bg(), m)
	require.ErrorIs(t, err, whatsmeow.ErrMediaDownloadFailedWith410)
}
