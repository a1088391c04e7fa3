package whatsapp

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
)

// held is a session at an engine, with what it has told.
type held struct {
	worker.Conn
	t     *testing.T
	id    string
	lease atomic.Bool
	deaf  atomic.Bool // leaves events without acknowledgement

	mu     sync.Mutex
	events []worker.Event
}

func open(t *testing.T, e *Engine, id string, epoch int64) *held {
	t.Helper()
	return openBy(t, e, id, epoch, "")
}

// openBy is open by way of a proxy.
func openBy(t *testing.T, e *Engine, id string, epoch int64, proxy string) *held {
	t.Helper()
	h := &held{t: t, id: id}
	h.lease.Store(true)
	c, err := e.Open(context.Background(), worker.Session{ID: id, Name: "test", Epoch: epoch, Proxy: proxy, Lease: h.lease.Load}, h.sink)
	require.NoError(t, err)
	h.Conn = c
	return h
}

func (h *held) sink(e worker.Event) {
	h.mu.Lock()
	h.events = append(h.events, e)
	h.mu.Unlock()
	if e.Ack != nil && !h.deaf.Load() {
		e.Ack()
	}
}

func (h *held) received() (list []worker.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Type == wire.EventMessageReceived {
			list = append(list, e)
		}
	}
	return list
}

func (h *held) await(status, reason string) {
	h.t.Helper()
	require.Eventually(h.t, func() bool { s := h.State(); return s.Status == status && s.Reason == reason }, patience, time.Millisecond,
		"status %s %s", status, reason)
}

func (h *held) close() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(h.t, h.Close(ctx))
}

// deliver sends until WhatsApp has the message, always under its ID.
func (h *held) deliver(m wire.Send) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		r, err := h.Send(ctx, m)
		return err == nil && r.Outcome == wire.OutcomeSent
	}, patience, time.Millisecond, m.Message)
}

// sendOf is a new text to +491.
func sendOf(body string) wire.Send {
	id := uuid.Must(uuid.NewV7()).String()
	return wire.Send{MessageID: id, WhatsappID: "3EB0" + strings.ToUpper(strings.ReplaceAll(id, "-", ""))[:18], To: "491@s.whatsapp.net", Type: message.Text, Message: body}
}

// linked is a new session that is linked to a number.
func (n *network) linked(t *testing.T, e *Engine) *held {
	t.Helper()
	h := open(t, e, uuid.NewString(), 1)
	h.await(wire.StatusQRRequired, "")
	n.Scan(t, h.id)
	h.await(wire.StatusConnected, "")
	return h
}

func ended(t *testing.T, engines ...*Engine) {
	for _, e := range engines {
		t.Cleanup(func() { require.NoError(t, e.Close()) })
	}
}
