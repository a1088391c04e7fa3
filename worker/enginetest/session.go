package enginetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker"
)

func (s *suite) linkByQR(t *testing.T) {
	e, n := s.engine(t)
	h := open(t, e, n, uuid.NewString(), 3)
	h.await(wire.StatusQRRequired, "")
	qr, ok := h.first(1, wire.EventSessionQR)[0].Data.(wire.QRData)
	require.True(t, ok)
	require.NotEmpty(t, qr.QR)
	require.True(t, qr.ExpiresAt.After(time.Now()))
	state := h.State()
	require.Equal(t, h.session.ID, state.SessionID)
	require.EqualValues(t, 3, state.Epoch)
	require.NotEmpty(t, state.QR)
	require.NotNil(t, state.QRExpiresAt)
	require.Empty(t, state.PhoneNumber)

	n.Scan(t, h.session.ID)
	h.await(wire.StatusConnected, "")
	state = h.State()
	require.Regexp(t, `^\+[0-9]{8,15}$`, state.PhoneNumber)
	require.Empty(t, state.QR)
	require.Nil(t, state.QRExpiresAt)
	list := h.of(wire.EventSessionStatus)
	require.Equal(t, state.PhoneNumber, list[len(list)-1].Data.(wire.StatusData).PhoneNumber)
}

func (s *suite) openOnce(t *testing.T) {
	e, n := s.engine(t)
	h := open(t, e, n, uuid.NewString(), 1)
	_, err := e.Open(context.Background(), h.session, func(worker.Event) {})
	require.Error(t, err)
	h.close()
	open(t, e, n, h.session.ID, 2).await(wire.StatusQRRequired, "")
}

func (s *suite) closeKeepsCredentials(t *testing.T) {
	h := s.linked(t)
	number := h.State().PhoneNumber
	h.close()
	h.close()
	require.Equal(t, wire.StatusDisconnected, h.State().Status)

	e, n := s.engine(t)
	again := open(t, e, n, h.session.ID, 2)
	again.await(wire.StatusConnected, "")
	require.Equal(t, number, again.State().PhoneNumber)
	require.Empty(t, again.of(wire.EventSessionQR))
	to := person()
	require.Equal(t, wire.OutcomeSent, again.send(text(to, "from the second engine")).Outcome)
	require.Len(t, n.Phone(t, to), 1)
}

func (s *suite) logoutForgets(t *testing.T) {
	h := s.linked(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, h.Logout(ctx))
	require.Equal(t, wire.StatusDisconnected, h.State().Status)
	require.Equal(t, "logged_out", h.State().Reason)
	_, err := h.Send(ctx, text(person(), "from a session that is no more"))
	require.ErrorIs(t, err, worker.ErrNotConnected)

	e, n := s.engine(t)
	open(t, e, n, h.session.ID, 2).await(wire.StatusQRRequired, "")
}

func (s *suite) logoutNeedsTheLease(t *testing.T) {
	h := s.linked(t)
	h.lease.Store(false)
	require.ErrorIs(t, h.Logout(context.Background()), worker.ErrLeaseLost)
	h.lease.Store(true)
	to := person()
	require.NoError(t, h.deliver(text(to, "the session goes on")))
	require.Len(t, h.net.Phone(t, to), 1)
	require.NoError(t, h.Logout(context.Background()))
}

func (s *suite) replaced(t *testing.T) {
	h := s.linked(t)
	e, n := s.engine(t)
	second := open(t, e, n, h.session.ID, 2)
	second.await(wire.StatusConnected, "")
	h.await(wire.StatusDisconnected, "replaced")
	_, err := h.Send(context.Background(), text(person(), "from the session that was replaced"))
	require.ErrorIs(t, err, worker.ErrNotConnected)

	to := person()
	require.Equal(t, wire.OutcomeSent, second.send(text(to, "from the one that replaced it")).Outcome)
	require.Len(t, n.Phone(t, to), 1)
	require.Len(t, second.of(wire.EventSessionStatus), 1, "the replaced engine fights back")
}

// reconnect renews a connection in the middle of traffic: no outcome is unknown, and the session goes on as it was.
func (s *suite) reconnect(t *testing.T) {
	h := s.linked(t)
	c, ok := h.Conn.(worker.Reconnecter)
	if !ok {
		return // an engine may leave it out
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h.lease.Store(false)
	require.ErrorIs(t, c.Reconnect(ctx), worker.ErrLeaseLost)
	h.lease.Store(true)

	number, qrs, statuses := h.State().PhoneNumber, len(h.of(wire.EventSessionQR)), len(h.of(wire.EventSessionStatus))
	h.net.Slow(t, 50*time.Millisecond)
	defer h.net.Slow(t, 0)
	to, renewed, sent := person(), make(chan struct{}), make(chan int, 1)
	go func() { sent <- h.sendUntil(renewed, to) }()
	texts(t, h.net, to, 1)
	require.NoError(t, c.Reconnect(ctx))
	close(renewed)
	count := <-sent
	require.Len(t, h.net.Phone(t, to), count)

	var seen []string
	for _, e := range h.first(statuses+2, wire.EventSessionStatus)[statuses:] {
		seen = append(seen, e.Data.(wire.StatusData).Status)
	}
	require.Equal(t, []string{wire.StatusReconnecting, wire.StatusConnected}, seen)
	require.Equal(t, number, h.State().PhoneNumber)
	require.EqualValues(t, 1, h.State().Epoch)
	require.Len(t, h.of(wire.EventSessionQR), qrs)
	require.NoError(t, h.deliver(text(person(), "after it")))

	h.close()
	require.NoError(t, c.Reconnect(ctx), "there is nothing to open anew")
	require.Equal(t, wire.StatusDisconnected, h.State().Status)
}

// sendUntil sends one message after the other until then, and returns how many the network has taken. The session may
// refuse some meanwhile.
func (h *held) sendUntil(then <-chan struct{}, to string) (sent int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		select {
		case <-then:
			return sent
		default:
		}
		r, err := h.Send(ctx, text(to, fmt.Sprint(sent)))
		switch {
		case errors.Is(err, worker.ErrNotConnected):
		case err != nil || r.Outcome != wire.OutcomeSent:
			h.t.Errorf("send while reconnecting: %+v, %v", r, err)
			return sent
		default:
			sent++
		}
	}
}

func (s *suite) unlinked(t *testing.T) {
	h := s.linked(t)
	h.net.Unlink(t, h.session.ID)
	h.await(wire.StatusDisconnected, "logged_out")
	_, err := h.Send(context.Background(), text(person(), "from a device that is unlinked"))
	require.ErrorIs(t, err, worker.ErrNotConnected)
	h.close()

	e, n := s.engine(t)
	open(t, e, n, h.session.ID, 2).await(wire.StatusQRRequired, "")
}

func (s *suite) banned(t *testing.T) {
	h := s.linked(t)
	h.net.Ban(t, h.session.ID)
	h.await(wire.StatusError, "banned")
	_, err := h.Send(context.Background(), text(person(), "from a number that is banned"))
	require.ErrorIs(t, err, worker.ErrNotConnected)
	h.close()
	require.Equal(t, wire.StatusError, h.State().Status)
}

func (s *suite) noLeaseNoConnection(t *testing.T) {
	e, n := s.engine(t)
	h := openWith(t, e, n, uuid.NewString(), 1, false)
	h.first(1, wire.EventSessionStatus) // it has tried
	require.Empty(t, h.of(wire.EventSessionQR))
	require.NotEqual(t, wire.StatusQRRequired, h.State().Status)
	h.lease.Store(true)
	h.await(wire.StatusQRRequired, "")
}
