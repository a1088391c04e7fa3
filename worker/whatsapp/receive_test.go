package whatsapp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/wire"
	"kurir/worker"
)

// A receipt of many messages waits for the gateway once: nothing else of the session is handled meanwhile.
func TestAReceiptOfManyMessagesWaitsOnce(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	h.deaf.Store(true)
	l := h.Conn.(*conn).present()
	receipts := func() (list []worker.Event) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range h.events {
			if e.Type == wire.EventMessageReceipt {
				list = append(list, e)
			}
		}
		return list
	}
	handled := make(chan bool, 1)
	go func() {
		handled <- l.handle(&events.Receipt{MessageSource: types.MessageSource{Chat: private, Sender: private}, MessageIDs: []string{"A", "B", "C"}, Type: types.ReceiptTypeRead})
	}()
	require.Eventually(t, func() bool { return len(receipts()) == 3 }, patience, time.Millisecond)
	for _, e := range receipts() {
		require.Empty(t, handled, "it is acknowledged when all are stored")
		e.Ack()
	}
	require.True(t, <-handled)

	go func() {
		handled <- l.handle(&events.Receipt{MessageSource: types.MessageSource{Chat: private, Sender: private}, MessageIDs: []string{"D", "E"}, Type: types.ReceiptTypeRead})
	}()
	require.Eventually(t, func() bool { return len(receipts()) == 5 }, patience, time.Millisecond)
	receipts()[3].Ack()
	l.end(errLost)
	require.False(t, <-handled, "one of them is not stored")
}

// Anybody can name an ID: a message is told again to those only whom it was for, and to the session's own phone.
func TestAMessageIsToldAgainToItsRecipient(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	l := h.Conn.(*conn).present()
	m := sendOf("for Ann")
	h.deliver(m)
	ann, eve, group := private, types.NewJID("492", types.DefaultUserServer), types.NewJID("1203", types.GroupServer)
	lid := types.NewJID("77", types.HiddenUserServer)
	device := func(jid types.JID) types.JID { jid.Device = 3; return jid }

	require.Nil(t, l.again(device(eve), eve, m.WhatsappID))
	require.Nil(t, l.again(device(eve), group, m.WhatsappID))
	require.Nil(t, l.again(device(lid), lid, m.WhatsappID), "nobody is known by this LID")
	require.Nil(t, l.again(device(eve), types.EmptyJID, m.WhatsappID))
	require.Nil(t, l.again(device(ann), ann, "UNKNOWN"))
	require.Equal(t, "for Ann", l.again(device(ann), ann, m.WhatsappID).GetConversation())
	require.NoError(t, e.lids.PutLIDMapping(t.Context(), lid, ann))
	require.Equal(t, "for Ann", l.again(device(lid), lid, m.WhatsappID).GetConversation())
	own := l.people.own()
	require.Equal(t, "for Ann", l.again(own, own, m.WhatsappID).GetConversation())

	inGroup := sendOf("for the group")
	require.NoError(t, l.c.holder.begin(t.Context(), inGroup.WhatsappID, group.String(), text1("for the group")))
	require.Nil(t, l.again(device(eve), eve, inGroup.WhatsappID))
	require.Equal(t, "for the group", l.again(device(eve), group, inGroup.WhatsappID).GetConversation())
}
