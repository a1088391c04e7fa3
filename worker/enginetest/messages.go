package enginetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker"
)

func (s *suite) sendAndReceipts(t *testing.T) {
	h := s.linked(t)
	to := person()
	m := text(to, "hello, with 'quotes', <tags> and a line\nfeed ✓")
	before := time.Now()
	r := h.send(m)
	require.Equal(t, wire.OutcomeSent, r.Outcome)
	require.WithinDuration(t, before, r.Timestamp, time.Minute)
	require.Equal(t, []Message{{WhatsappID: m.WhatsappID, Type: "text", Text: m.Message}}, h.net.Phone(t, to))

	for i, e := range h.first(2, wire.EventMessageReceipt) {
		status := []string{"delivered", "read"}[i]
		require.Equal(t, wire.ReceiptData{WhatsappID: m.WhatsappID, Chat: m.To, Status: status}, e.Data)
		require.Equal(t, "receipt."+status, e.Kind)
		require.Equal(t, m.WhatsappID, e.Message)
		require.WithinDuration(t, before, e.Timestamp, time.Minute)
	}
}

func (s *suite) idempotentSend(t *testing.T) {
	h := s.linked(t)
	to := person()
	m := text(to, "once")
	for range 3 {
		require.Equal(t, wire.OutcomeSent, h.send(m).Outcome)
	}
	h.net.Drop(t, h.session.ID)
	require.NoError(t, h.deliver(m))
	require.Len(t, h.net.Phone(t, to), 1)
}

func (s *suite) notOnWhatsApp(t *testing.T) {
	h := s.linked(t)
	to := h.absent(person() + "0000")
	r := h.send(text(to, "nobody reads this"))
	require.Equal(t, wire.OutcomeFailed, r.Outcome)
	require.Equal(t, "not_on_whatsapp", r.Code)
	require.NotEmpty(t, r.Error)
	require.Empty(t, h.net.Phone(t, to))
}

func (s *suite) receive(t *testing.T) {
	h := s.linked(t)
	from := person()
	id := h.net.Receive(t, h.session.ID, from, "is anybody there?")
	e := h.first(1, wire.EventMessageReceived)[0]
	data, ok := e.Data.(wire.ReceivedData)
	require.True(t, ok)
	jid := from[1:] + "@s.whatsapp.net"
	require.Equal(t, id, data.WhatsappID)
	require.Equal(t, jid, data.Chat)
	require.Equal(t, jid, data.Sender)
	require.NotNil(t, data.From.Phone)
	require.Equal(t, from, *data.From.Phone)
	require.Equal(t, "text", data.Type)
	require.Equal(t, "is anybody there?", data.Message)
	require.False(t, data.FromMe)
	require.Equal(t, "message", e.Kind)
	require.Equal(t, id, e.Message)
	require.Equal(t, jid, e.Sender)
	require.NotNil(t, e.Ack)
	require.WithinDuration(t, time.Now(), e.Timestamp, time.Minute)
}

func (s *suite) redelivery(t *testing.T) {
	h := s.linked(t)
	h.keepEvents()
	from := person()
	for _, body := range []string{"one", "two", "three"} {
		h.net.Receive(t, h.session.ID, from, body)
	}
	first := h.first(3, wire.EventMessageReceived)
	h.net.Drop(t, h.session.ID)
	both := h.first(6, wire.EventMessageReceived)
	for i := range first {
		requireSame(t, first[i], both[3+i])
	}
	for _, e := range both {
		e.Ack() // those of the connection that broke do no harm
	}
	h.close()

	e, n := s.engine(t)
	again := open(t, e, n, h.session.ID, 2)
	again.await(wire.StatusConnected, "")
	n.Receive(t, h.session.ID, from, "four")
	require.Equal(t, "four", again.first(1, wire.EventMessageReceived)[0].Data.(wire.ReceivedData).Message)
}

// requireSame compares two deliveries of one event.
func requireSame(t *testing.T, a, b worker.Event) {
	t.Helper()
	require.NotNil(t, a.Ack)
	require.NotNil(t, b.Ack)
	a.Ack, b.Ack = nil, nil
	require.Equal(t, a, b)
}

func (s *suite) noLeaseNoSend(t *testing.T) {
	h := s.linked(t)
	to := person()
	h.lease.Store(false)
	m := text(to, "sent under the second lease")
	_, err := h.Send(context.Background(), m)
	require.ErrorIs(t, err, worker.ErrLeaseLost)
	h.lease.Store(true)
	require.NoError(t, h.deliver(m))
	require.Len(t, h.net.Phone(t, to), 1)
}

func (s *suite) sendWhileNotConnected(t *testing.T) {
	e, n := s.engine(t)
	h := open(t, e, n, uuid.NewString(), 1)
	to := person()
	refused := func() {
		t.Helper()
		_, err := h.Send(context.Background(), text(to, "never sent"))
		require.ErrorIs(t, err, worker.ErrNotConnected)
	}
	refused()
	h.await(wire.StatusQRRequired, "")
	refused()
	n.Scan(t, h.session.ID)
	h.await(wire.StatusConnected, "")
	n.Drop(t, h.session.ID)
	require.NoError(t, h.deliver(text(to, "sent across the break")))
	h.close()
	refused()
	require.Equal(t, []string{"sent across the break"}, texts(t, n, to, 1))
}

func (s *suite) lostAnswer(t *testing.T) {
	h := s.linked(t)
	to := person()
	m := text(to, "answered the second time")
	h.net.LoseAnswer(t)
	require.Equal(t, wire.OutcomeUnknown, h.send(m).Outcome)
	require.Len(t, h.net.Phone(t, to), 1)
	require.NoError(t, h.deliver(m))
	require.Len(t, h.net.Phone(t, to), 1)
	h.first(2, wire.EventMessageReceipt)
}

func (s *suite) lateAnswer(t *testing.T) {
	h := s.linked(t)
	to := person()
	m := text(to, "late")
	require.NoError(t, h.deliver(text(to, "in time")))
	h.net.Slow(t, time.Second)
	defer h.net.Slow(t, 0)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	r, err := h.Send(ctx, m)
	require.NoError(t, err, "it was written, so it is not known that nothing was sent")
	require.Equal(t, wire.OutcomeUnknown, r.Outcome)
	require.NoError(t, h.deliver(m))
	require.Len(t, h.net.Phone(t, to), 2)
}

// closeFinishesSends closes in the middle of traffic: with time to finish, no outcome is unknown, and what a Send has
// said is what the phone shows.
func (s *suite) closeFinishesSends(t *testing.T) {
	const chats = 4
	h := s.linked(t)
	h.net.Slow(t, 50*time.Millisecond)
	defer h.net.Slow(t, 0)
	numbers, sent, ends := make([]string, chats), make([]int, chats), make([]error, chats)
	var wg sync.WaitGroup
	for i := range chats {
		numbers[i] = person()
		wg.Go(func() { sent[i], ends[i] = h.sendUntilRefused(numbers[i]) })
	}
	texts(t, h.net, numbers[0], 1)
	h.close()
	wg.Wait()
	for i := range chats {
		require.ErrorIs(t, ends[i], worker.ErrNotConnected)
		require.Len(t, h.net.Phone(t, numbers[i]), sent[i])
	}
}

// sendUntilRefused returns how many messages were sent before the error.
func (h *held) sendUntilRefused(to string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for sent := 0; ; sent++ {
		r, err := h.Send(ctx, text(to, fmt.Sprint(sent)))
		if err == nil && r.Outcome != wire.OutcomeSent {
			err = fmt.Errorf("outcome of message %d: %+v", sent, r)
		}
		if err != nil {
			return sent, err
		}
	}
}

// noneLostNoneDoubled sends over several sessions at once, to several chats of each, while connections break. Every
// phone shows every message once and in order.
func (s *suite) noneLostNoneDoubled(t *testing.T) {
	const sessions, chats, messages, dropEvery = 5, 4, 30, 7
	want := make([]string, messages)
	for i := range want {
		want[i] = fmt.Sprintf("message %d", i)
	}
	errs := make(chan error, sessions*chats)
	phones := map[string]Network{}
	var wg sync.WaitGroup
	for range sessions {
		h := s.linked(t)
		for chat := range chats {
			to := person()
			phones[to] = h.net
			wg.Go(func() {
				errs <- h.converse(to, want, func(i int) {
					if chat == 0 && i%dropEvery == 0 {
						h.net.Drop(t, h.session.ID)
					}
				})
			})
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	for number, n := range phones {
		require.Equal(t, want, texts(t, n, number, messages))
	}
}

// converse delivers messages one after the other and calls after with the index of each.
func (h *held) converse(to string, bodies []string, after func(int)) error {
	for i, body := range bodies {
		m := text(to, body)
		m.Seq = int64(i + 1)
		if err := h.deliver(m); err != nil {
			return err
		}
		after(i)
	}
	return nil
}
