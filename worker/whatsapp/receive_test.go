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
