//go:build !race

package whatsapp

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/wire"
	"kurir/worker"
)

// A panic between two connections, where nothing of a link is under way, ends the session's connection no more than one within.
func TestAPanicBetweenConnectionsIsOutlived(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	var once atomic.Bool
	id := uuid.NewString()
	c, err := e.Open(context.Background(), worker.Session{ID: id, Epoch: 1, Lease: func() bool { return true }}, func(ev worker.Event) {
		if d, ok := ev.Data.(wire.StatusData); ok && d.Status == wire.StatusReconnecting && once.CompareAndSwap(false, true) {
			panic("out of order")
		}
	})
	require.NoError(t, err)
	connected := func() bool { return c.State().Status == wire.StatusConnected }
	require.Eventually(t, func() bool { return c.State().Status == wire.StatusQRRequired }, patience, time.Millisecond)
	n.Scan(t, id)
	require.Eventually(t, connected, patience, time.Millisecond)
	n.Server.Drop(n.of(id))
	require.Eventually(t, once.Load, patience, time.Millisecond)
	require.Eventually(t, connected, patience, time.Millisecond)
	require.EqualValues(t, 1, e.Stats().Panics)
}

// numberless is a map of numbers and LIDs that panics.
type numberless struct{ store.LIDStore }

func (numberless) GetPNForLID(context.Context, types.JID) (types.JID, error) { panic("no number") }

// A message whose author's name brings a panic is told by what WhatsApp calls him.
func TestAMessageOutlivesItsAuthorsName(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	l := h.Conn.(*conn).present()
	l.device.LIDs = numberless{l.device.LIDs}
	lid := types.NewJID("77", types.HiddenUserServer)
	l.handle(&events.Message{Message: text1("hello"), Info: types.MessageInfo{ID: "ID", Timestamp: time.Now(), MessageSource: types.MessageSource{Chat: lid, Sender: lid}}})
	require.Len(t, h.received(), 1)
	got := h.received()[0].Data.(wire.ReceivedData)
	require.Equal(t, []string{"hello", "ID", lid.String(), lid.String()}, []string{got.Message, got.WhatsappID, got.Chat, got.Sender})
	require.EqualValues(t, 1, e.Stats().Panics)
}

// WhatsApp may refuse a login for a token that linked devices do not have. whatsmeow renews it by a function that nobody need have
// set, and calls it in a goroutine of its own: the whole worker would end.
func TestALoginIsRefusedForAToken(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	n.Expire(n.of(h.id))
	h.await(wire.StatusReconnecting, reasonLost) // the connection broke
	require.Eventually(t, func() bool { return len(n.Refused(n.of(h.id))) > 1 }, patience, time.Millisecond)
	n.Pardon(n.of(h.id))
	h.await(wire.StatusConnected, "")
	h.deliver(sendOf("still there"))
}
