package enginetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker"
)

const (
	patience = 20 * time.Second
	poll     = 5 * time.Millisecond
)

// held is one open session under test.
type held struct {
	worker.Conn
	t       *testing.T
	net     Network
	session worker.Session
	lease   atomic.Bool
	reject  atomic.Bool // calls
	store   *store

	mu     sync.Mutex
	events []worker.Event
	keep   bool // leave events without acknowledgement
	closed bool
}

// open opens a session at an engine. The session is closed at the end of the test.
func open(t *testing.T, e worker.Engine, n Network, id string, epoch int64) *held {
	t.Helper()
	return openWith(t, e, n, id, epoch, true)
}

func openWith(t *testing.T, e worker.Engine, n Network, id string, epoch int64, lease bool) *held {
	t.Helper()
	h := &held{t: t, net: n, store: newStore()}
	h.lease.Store(lease)
	h.session = worker.Session{ID: id, UserID: uuid.NewString(), Name: "conformance", Epoch: epoch, Lease: h.lease.Load,
		RejectCalls: h.reject.Load, Media: h.store}
	c, err := e.Open(context.Background(), h.session, h.sink)
	require.NoError(t, err)
	h.Conn = c
	t.Cleanup(h.close)
	return h
}

// linked opens a new session and scans its QR code.
func (s *suite) linked(t *testing.T) *held {
	t.Helper()
	e, n := s.engine(t)
	h := open(t, e, n, uuid.NewString(), 1)
	h.await(wire.StatusQRRequired, "")
	n.Scan(t, h.session.ID)
	h.await(wire.StatusConnected, "")
	return h
}

// engine makes an engine that is closed at the end of the test.
func (s *suite) engine(t *testing.T) (worker.Engine, Network) {
	t.Helper()
	e, n := s.newEngine(t)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e, n
}

func (h *held) close() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(h.t, h.Close(ctx))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

func (h *held) sink(e worker.Event) {
	h.mu.Lock()
	h.events = append(h.events, e)
	ack := e.Ack
	if h.keep {
		ack = nil
	}
	if h.closed {
		h.t.Errorf("%s %+v came after Close had returned", e.Type, e.Data)
	}
	h.mu.Unlock()
	if ack != nil {
		ack()
	}
}

// keepEvents leaves events without acknowledgement from now on.
func (h *held) keepEvents() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep = true
}

// of returns the events of a type so far.
func (h *held) of(eventType string) []worker.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []worker.Event
	for _, e := range h.events {
		if e.Type == eventType {
			list = append(list, e)
		}
	}
	return list
}

// first waits until there are count events of a type and returns these.
func (h *held) first(count int, eventType string) []worker.Event {
	h.t.Helper()
	require.Eventually(h.t, func() bool { return len(h.of(eventType)) >= count }, patience, poll,
		"%d events of %s", count, eventType)
	return h.of(eventType)[:count]
}

// await waits for a state, and that it was reported as an event.
func (h *held) await(status, reason string) {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		if s := h.State(); s.Status != status || s.Reason != reason {
			return false
		}
		list := h.of(wire.EventSessionStatus)
		if len(list) == 0 {
			return false
		}
		last, ok := list[len(list)-1].Data.(wire.StatusData)
		return ok && last.Status == status && last.Reason == reason
	}, patience, poll, "status %s %s", status, reason)
}

// text is a new message to a number.
func text(to, body string) wire.Send {
	id := uuid.Must(uuid.NewV7()).String()
	return wire.Send{
		MessageID: id, WhatsappID: "3EB0" + strings.ToUpper(strings.ReplaceAll(id, "-", ""))[:18],
		Epoch: 1, Generation: 1, To: strings.TrimPrefix(to, "+") + "@s.whatsapp.net", Type: "text", Message: body,
	}
}

// send sends and expects a result.
func (h *held) send(m wire.Send) wire.SendResult {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := h.Send(ctx, m)
	require.NoError(h.t, err)
	return r
}

// deliver sends until the network has the message, as the gateway does: always under the same ID.
func (h *held) deliver(m wire.Send) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		r, err := h.Send(ctx, m)
		switch {
		case err == nil && r.Outcome == wire.OutcomeSent:
			return nil
		case err == nil && r.Outcome == wire.OutcomeFailed:
			return fmt.Errorf("send failed with %s: %s", r.Code, r.Error)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("message was never sent: %w; last result %+v, state %+v", err, r, h.State())
		case <-tick.C:
		}
	}
}

// person is a number that no other test writes to.
func person() string { return fmt.Sprintf("+6289%09d1", rand.IntN(1_000_000_000)) }

// texts waits until a phone shows count messages and returns their texts.
func texts(t *testing.T, n Network, number string, count int) []string {
	t.Helper()
	require.Eventually(t, func() bool { return len(n.Phone(t, number)) >= count }, patience, poll,
		"%d messages on the phone of %s", count, number)
	var list []string
	for _, m := range n.Phone(t, number) {
		list = append(list, m.Text)
	}
	return list
}
