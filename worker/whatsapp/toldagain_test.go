//go:build !race

package whatsapp

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
)

// shelf is the gateway's store of media, which takes none before it is open.
type shelf struct{ open chan struct{} }

func (*shelf) Open(context.Context, string) (io.ReadCloser, error) { return nil, worker.ErrMediaGone }

func (s *shelf) Put(ctx context.Context, r io.Reader) (wire.Media, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return wire.Media{}, err
	}
	select {
	case <-s.open:
		return wire.Media{ID: string(content)}, nil
	case <-ctx.Done():
		return wire.Media{}, errors.New("closed")
	}
}

// shelved is a linked session with a store of media, which knows its phone: it has written already, and has heard of the delivery.
func (n *network) shelved(t *testing.T, e *Engine) (*held, *shelf) {
	t.Helper()
	s := &shelf{make(chan struct{})}
	h := &held{t: t, id: uuid.NewString()}
	h.lease.Store(true)
	c, err := e.Open(context.Background(), worker.Session{ID: h.id, Name: "test", Epoch: 1, Lease: h.lease.Load, Media: s}, h.sink)
	require.NoError(t, err)
	h.Conn = c
	h.await(wire.StatusQRRequired, "")
	n.Scan(t, h.id)
	h.await(wire.StatusConnected, "")
	h.deliver(sendOf("hello"))
	require.Eventually(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.ContainsFunc(h.events, func(e worker.Event) bool { return e.Type == wire.EventMessageReceipt })
	}, patience, time.Millisecond)
	n.heard(t, h)
	return h, s
}

// What the session cannot read its phone tells it again: with its medium, behind what came before it in the chat, and acknowledged when
// the gateway has it.
func TestWhatThePhoneTellsAgainHasItsMedium(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h, s := n.shelved(t, e)
	device := n.Devices(n.of(h.id))[0]
	_, err := n.person(t, "+491").Send(address(n.of(h.id)), &waE2E.Message{ImageMessage: picture(t, n)})
	require.NoError(t, err)
	text, err := n.Withhold("+491", n.of(h.id), text1("behind the picture"))
	require.NoError(t, err)
	own := picture(t, n)
	own.Caption = proto.String("look")
	again, err := n.Withhold("+491", n.of(h.id), &waE2E.Message{ImageMessage: own})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return e.Stats().Unreadable >= 1 }, patience, time.Millisecond)
	require.Never(t, func() bool { return len(h.received()) > 0 }, 200*time.Millisecond, time.Millisecond, "the picture is not kept yet")
	require.GreaterOrEqual(t, n.Waiting(device), 2, "the picture, and the phone's answer")

	close(s.open)
	got := h.awaitReceived(3)
	require.Equal(t, []string{text, "behind the picture"}, []string{got[1].WhatsappID, got[1].Message})
	require.Equal(t, []string{again, message.Image, "look", "", private.String(), private.String()},
		[]string{got[2].WhatsappID, got[2].Type, got[2].Caption, got[2].MediaError, got[2].Chat, got[2].Sender})
	require.Equal(t, "a picture", got[2].Media.ID)
	n.heard(t, h)
}

// An answer of the phone that the gateway does not have when the connection ends comes again.
func TestWhatThePhoneTellsAgainIsNotLost(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h, s := n.shelved(t, e)
	close(s.open)
	h.deaf.Store(true)
	id, err := n.Withhold("+491", n.of(h.id), &waE2E.Message{ImageMessage: picture(t, n)})
	require.NoError(t, err)
	h.awaitReceived(1)
	require.Never(t, func() bool { return n.Waiting(n.Devices(n.of(h.id))[0]) == 0 }, 100*time.Millisecond, time.Millisecond, "the gateway does not have it")
	h.deaf.Store(false)
	n.Drop(t, h.id)
	got := h.awaitReceived(2)
	require.Equal(t, []string{id, id}, []string{got[0].WhatsappID, got[1].WhatsappID})
	require.Equal(t, "a picture", got[1].Media.ID)
	n.heard(t, h)
}

// A vote that is told again while the database does not give its poll comes again.
func TestAVoteThatIsToldAgainIsNotLost(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h, _ := n.shelved(t, e)
	ann := n.person(t, "+491")
	poll, err := ann.Send(address(n.of(h.id)), ann.Client.BuildPollCreation("?", []string{"Tea", "Coffee"}, 1))
	require.NoError(t, err)
	h.awaitReceived(1)
	n.heard(t, h)
	info := &types.MessageInfo{ID: poll, MessageSource: types.MessageSource{Chat: address(n.of(h.id)), Sender: private, IsFromMe: true}}
	vote, err := ann.Client.BuildPollVote(ctx, info, []string{"Tea"})
	require.NoError(t, err)

	restore := withoutPolls(t, e)
	id, err := n.Withhold("+491", n.of(h.id), vote)
	require.NoError(t, err)
	h.await(wire.StatusReconnecting, reasonStorage)
	restore()
	got := h.awaitReceived(2)[1]
	require.Equal(t, []string{id, message.Vote}, []string{got.WhatsappID, got.Type})
	require.Equal(t, []string{"Tea"}, got.Poll.Options)
	n.heard(t, h)
}

// What the phone tells again to a link that ends is not answered before nothing can be said over it: whatsmeow would acknowledge it.
func TestALinkThatEndsLeavesWhatIsToldAgainToTheNext(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	key := &waCommon.MessageKey{RemoteJID: proto.String(private.String()), ID: proto.String("AGAIN"), FromMe: proto.Bool(false)}
	tell := func(l *link, m *waE2E.Message) {
		t.Helper()
		parsed, err := l.client.ParseWebMessage(types.EmptyJID, &waWeb.WebMessageInfo{Key: key, Message: m, MessageTimestamp: proto.Uint64(1_800_000_000)})
		require.NoError(t, err)
		require.False(t, l.handle(parsed))
		select {
		case <-l.over:
		default:
			require.Fail(t, "the link is not over")
		}
	}
	l := h.Conn.(*conn).present()
	l.end(errLost)
	tell(l, text1("too late"))

	h.deliver(sendOf("linked again"))
	_, err := e.pool.Exec(context.Background(), "DROP TABLE kurir_polls")
	require.NoError(t, err)
	tell(h.Conn.(*conn).present(), &waE2E.Message{PollUpdateMessage: &waE2E.PollUpdateMessage{PollCreationMessageKey: key}})
	require.Empty(t, h.received())
}

// Of an edit that the phone tells again, whatsmeow makes the message that it edits.
func TestAnEditThatIsToldAgainIsOne(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	l := h.Conn.(*conn).present()
	key := &waCommon.MessageKey{RemoteJID: proto.String(private.String()), ID: proto.String("EDIT"), FromMe: proto.Bool(false)}
	m, err := l.client.ParseWebMessage(types.EmptyJID, &waWeb.WebMessageInfo{Key: key, Message: l.client.BuildEdit(private, "ORIGINAL", text1("mended"))})
	require.NoError(t, err)
	require.Equal(t, "ORIGINAL", m.Info.ID)
	require.True(t, l.handle(m))
	got := h.awaitReceived(1)[0]
	require.Equal(t, []string{message.Edit, "EDIT", "ORIGINAL", "mended"}, []string{got.Type, got.WhatsappID, got.Target.WhatsappID, got.Message})
}

// What a device could not read both its phone and its author tell again, at times of their own: who stores them is told that there may be
// two.
func TestCopiesAreToldAsSuch(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h, s := n.shelved(t, e)
	close(s.open)
	ann := n.person(t, "+491")
	ann.Client.PreRetryCallback = func(*events.Receipt, types.MessageID, int, *waE2E.Message) bool {
		for len(h.received()) == 0 || !time.Now().Truncate(time.Second).After(h.received()[0].Timestamp) { // the phone's copy is there, of another second
			time.Sleep(time.Millisecond)
		}
		return true
	}
	l := h.Conn.(*conn).present()
	author := ann.Client.Store.GetJID()
	for _, jid := range []types.JID{author, ann.Client.Store.GetLID()} {
		require.NoError(t, l.client.Store.Sessions.DeleteAllSessions(t.Context(), jid.User))
		require.NoError(t, l.client.Store.Sessions.DeleteSession(t.Context(), jid.SignalAddress().String()))
	}
	id, err := ann.Write(address(n.of(h.id)), "twice")
	require.NoError(t, err)
	got := h.awaitReceived(2)
	require.Equal(t, got[0], got[1])
	require.Equal(t, []string{id, "twice"}, []string{got[0].WhatsappID, got[0].Message})
	require.True(t, got[0].Again)
	first, second := h.received()[0], h.received()[1]
	require.NotEqual(t, first.Timestamp, second.Timestamp)
	n.heard(t, h)

	_, err = ann.Write(address(n.of(h.id)), "once")
	require.NoError(t, err)
	require.False(t, h.awaitReceived(3)[2].Again, "it costs nothing where there is one copy")
}

// A message that the phone tells without the time, or with an impossible one, is as of now.
func TestWhatIsToldAgainWithoutATimeIsOfNow(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	l := h.Conn.(*conn).present()
	key := &waCommon.MessageKey{RemoteJID: proto.String(private.String()), ID: proto.String("TIMELESS"), FromMe: proto.Bool(false)}
	for _, at := range []*uint64{nil, proto.Uint64(1 << 40), proto.Uint64(1 << 63)} {
		m, err := l.client.ParseWebMessage(types.EmptyJID, &waWeb.WebMessageInfo{Key: key, Message: text1("when?"), MessageTimestamp: at})
		require.NoError(t, err)
		require.True(t, l.handle(m))
	}
	require.Len(t, h.received(), 3)
	for _, got := range h.received() {
		require.WithinDuration(t, time.Now(), got.Timestamp, time.Minute)
	}
}
