//go:build !race

package whatsapp

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// A pairing code works until the time that it is given with, however old the connection is on which it was asked for, and however
// soon the session would have given up.
func TestAPairingCodeLastsAsLongAsItSays(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t, func(c *Config) { c.QRTimeout = 4 * time.Second })
	ended(t, e)
	ctx := context.Background()
	h := open(t, e, uuid.NewString(), 1)
	h.await(wire.StatusQRRequired, "")
	began := time.Now()
	c := h.Conn.(*conn)
	first := c.present()
	c.mu.Lock()
	first.login.until = time.Now().Add(10 * time.Second)
	c.mu.Unlock()

	const phone = "+6281234567001"
	code, err := c.PairingCode(ctx, wire.Pairing{PhoneNumber: phone})
	require.NoError(t, err)
	require.NotSame(t, first, c.present(), "it is the code of a new connection")
	require.WithinDuration(t, time.Now().Add(160*time.Second), code.ExpiresAt, 10*time.Second, "of six codes, of 60 s and 20 s each")
	same := c.present()
	again, err := c.PairingCode(ctx, wire.Pairing{PhoneNumber: phone})
	require.NoError(t, err)
	require.Same(t, same, c.present(), "it is young enough")
	require.Equal(t, code.ExpiresAt, again.ExpiresAt)

	time.Sleep(time.Until(began.Add(5 * time.Second))) // the time after which an unscanned session gives up
	require.Equal(t, wire.StatusQRRequired, h.State().Status)
	_, err = n.EnterCode(phone, again.Code)
	require.NoError(t, err)
	h.await(wire.StatusConnected, "")
}

// The codes of a connection are shown one after the other, each with its time, and after the last one a new connection brings more.
func TestQRCodesTakeTurns(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := open(t, e, uuid.NewString(), 1)
	h.await(wire.StatusQRRequired, "")
	c := h.Conn.(*conn)
	first := c.present()
	require.WithinDuration(t, time.Now().Add(firstCode), *h.State().QRExpiresAt, 10*time.Second)
	shown := map[string]bool{h.State().QR: true}
	for range 5 {
		first.turn(laterCode) // as its timer will
		require.WithinDuration(t, time.Now().Add(laterCode), *h.State().QRExpiresAt, 10*time.Second)
		shown[h.State().QR] = true
	}
	require.Len(t, shown, 6)
	h.mu.Lock()
	for _, e := range h.events {
		if d, ok := e.Data.(wire.QRData); ok {
			delete(shown, d.QR)
		}
	}
	h.mu.Unlock()
	require.Empty(t, shown, "each is told")
	last := h.State().QR

	first.turn(laterCode)
	require.Eventually(t, func() bool { return c.present() != first && h.State().QR != last }, patience, time.Millisecond)
	require.Equal(t, wire.StatusQRRequired, h.State().Status)
	n.Scan(t, h.id)
	h.await(wire.StatusConnected, "")
	require.Zero(t, e.Stats().Reconnects, "nothing was wrong")
}
