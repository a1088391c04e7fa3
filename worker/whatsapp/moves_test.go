//go:build !race

// Not under the race detector: whatsmeow reads and writes its socket without a lock where a connection breaks while something is
// sent (socket.FrameSocket), which it is made to here all the time. make test runs these without.

package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker"
)

// A session that moves while people write loses nothing, and is on one worker at a time.
func TestMovesWhileMessagesArrive(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.engine(t), n.engine(t)
	ended(t, a, b)
	const messages, moves = 40, 4
	h := n.linked(t, a)
	own := address(n.of(h.id))
	ann := n.person(t, "+491")
	wrote := make(chan error, 1)
	go func() {
		var failed error
		for i := range messages {
			_, err := ann.Write(own, fmt.Sprint(i))
			failed = errors.Join(failed, err)
		}
		wrote <- failed
	}()
	all := []*held{h}
	for i := range moves {
		before := len(all[len(all)-1].received())
		require.Eventually(t, func() bool { return len(all[len(all)-1].received()) > before || n.Waiting(n.Devices(own.User)[0]) == 0 }, patience, time.Millisecond)
		all[len(all)-1].close()
		next := open(t, []*Engine{b, a}[i%2], h.id, int64(i+2))
		next.await(wire.StatusConnected, "")
		all = append(all, next)
	}
	require.NoError(t, <-wrote)
	require.Eventually(t, func() bool { return n.Waiting(n.Devices(own.User)[0]) == 0 }, patience, time.Millisecond, "all is acknowledged")
	type told struct { // of which the gateway makes a message's ID
		chat, sender, id string
		at               time.Time
	}
	seen := map[told]bool{}
	for _, h := range all {
		for _, e := range h.received() {
			seen[told{e.Data.(wire.ReceivedData).Chat, e.Sender, e.Message, e.Timestamp}] = true
		}
	}
	require.Len(t, seen, messages)
	require.Empty(t, n.Fights(own.User), "no two workers at once")
}

// What the gateway had not stored when a worker died comes again to the next one, as it was.
func TestKilledBeforeTheAcknowledgement(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.engine(t), n.engine(t)
	ended(t, b)
	h := n.linked(t, a)
	own := address(n.of(h.id))
	h.deaf.Store(true)
	_, err := n.person(t, "+491").Write(own, "do not lose this")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(h.received()) == 1 }, patience, time.Millisecond)
	h.lease.Store(false) // it says nothing more to anybody
	require.NoError(t, a.Close())

	next := open(t, b, h.id, 2)
	require.Eventually(t, func() bool { return len(next.received()) == 1 }, patience, time.Millisecond)
	first, again := h.received()[0], next.received()[0]
	first.Ack, again.Ack = nil, nil
	require.Equal(t, first, again)
	require.Eventually(t, func() bool { return n.Waiting(n.Devices(own.User)[0]) == 0 }, patience, time.Millisecond)
}

// A worker that does not know yet that it has lost a session neither takes it back, nor sends, nor logs in.
func TestAZombieStaysOut(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b, c := n.engine(t), n.engine(t), n.engine(t)
	ended(t, a, b, c)
	h := n.linked(t, a)
	own := n.of(h.id)
	holder := open(t, b, h.id, 3)
	holder.await(wire.StatusConnected, "")
	h.await(wire.StatusDisconnected, reasonReplaced)
	_, err := h.Send(context.Background(), sendOf("from the past"))
	require.ErrorIs(t, err, worker.ErrNotConnected)
	logins := len(n.Logins(own))
	late := open(t, c, h.id, 2)
	late.await(wire.StatusDisconnected, reasonReplaced)
	require.Len(t, n.Logins(own), logins)
	holder.deliver(sendOf("from the holder"))
	require.Len(t, n.Phone(t, "+491"), 1)
}

// Who holds the session comes back after somebody else has logged in with its credentials.
func TestTheHolderComesBack(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	logins := len(n.Logins(n.of(h.id)))
	n.Replace(n.of(h.id))
	require.Eventually(t, func() bool { return len(n.Logins(n.of(h.id))) > logins }, patience, time.Millisecond)
	h.await(wire.StatusConnected, "")
	for range replacementsAllowed {
		n.Replace(n.of(h.id))
		require.Eventually(t, func() bool { s := h.State(); return s.Status != wire.StatusConnected }, patience, time.Microsecond*100)
		require.Eventually(t, func() bool { s := h.State(); return s.Status != wire.StatusReconnecting }, patience, time.Millisecond)
	}
	h.await(wire.StatusDisconnected, reasonReplaced)
}

func TestABanEnds(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h, other := n.linked(t, e), n.linked(t, e)
	began := time.Now()
	n.Server.Ban(n.of(h.id), 101, 2*time.Second)
	h.await(wire.StatusError, reasonBanned)
	require.WithinRange(t, *h.State().Until, began.Add(2*time.Second), time.Now().Add(2*time.Second))
	h.mu.Lock()
	last := h.events[len(h.events)-1].Data.(wire.StatusData)
	h.mu.Unlock()
	require.Equal(t, h.State().Until, last.Until, "the gateway is told until when")
	require.Equal(t, wire.StatusConnected, other.State().Status)
	first := *h.State().Until
	require.Eventually(t, func() bool { u := h.State().Until; return u != nil && u.After(first) }, patience, 10*time.Millisecond, "it knocks at the end, and the ban goes on")
	n.Pardon(n.of(h.id))
	h.await(wire.StatusConnected, "")
	require.Nil(t, h.State().Until)
}

// A session whose device has become another one's ends as one that the phone unlinked, however it learns of it, and leaves the other's
// credentials where they are.
func TestADeviceThatIsAnotherSessionsNow(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	for name, hears := range map[string]func(number string){
		"it is told":  func(number string) { n.Server.Unlink(number) },
		"it is not":   func(number string) { n.Server.Drop(number) },
		"it connects": func(number string) { n.Restart(number) },
	} {
		h := n.linked(t, e)
		var text string
		require.NoError(t, e.pool.QueryRow(t.Context(), "SELECT jid FROM kurir_sessions WHERE session = $1", h.id).Scan(&text))
		jid, err := types.ParseJID(text)
		require.NoError(t, err)
		other := holderOf(t, e.pool, uuid.NewString(), 1)
		_, err = other.claim(t.Context())
		require.NoError(t, err)
		d := device(t, other, jid)
		hears(n.of(h.id))
		h.await(wire.StatusDisconnected, reasonLoggedOut)
		h.close()
		kept, err := container(other.db, logger{testLog()}, nil).GetDevice(t.Context(), jid)
		require.NoError(t, err)
		require.NotNil(t, kept, name)
		require.Equal(t, *d.NoiseKey.Priv, *kept.NoiseKey.Priv, name)
	}
}

// What comes after a ban whose end was told is told too, though the session's status is the same.
func TestABanThatBecomesALock(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	n.Server.Ban(n.of(h.id), 101, time.Second)
	h.await(wire.StatusError, reasonBanned)
	n.Lock(n.of(h.id))
	h.await(wire.StatusError, reasonLocked)
	require.Nil(t, h.State().Until, "it waits for nothing any more")
	last := func() wire.StatusData {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.events[len(h.events)-1].Data.(wire.StatusData)
	}
	require.Eventually(t, func() bool { return last().Reason == reasonLocked }, patience, time.Millisecond, "the gateway is told")
	require.Nil(t, last().Until)
}

// A link that ends in a ban while a reconnection waits for its sends leaves nothing of that wish: the next link takes sends.
func TestAReconnectionThatMeetsABan(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	c := h.Conn.(*conn)
	c.inHand.enter() // so that Reconnect waits
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- c.Reconnect(ctx) }()
	require.Eventually(t, func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.renew }, patience, time.Millisecond)
	c.present().end(&ending{status: wire.StatusError, reason: reasonBanned, until: time.Now().Add(200 * time.Millisecond)})
	h.await(wire.StatusError, reasonBanned)
	h.await(wire.StatusConnected, "")
	c.inHand.leave()
	require.NoError(t, <-asked)
	h.deliver(sendOf("after it"))
}

// WhatsApp's refusal of the version is the worker's as a whole: no further session knocks.
func TestAnOutdatedWorker(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	n.Outdated(true)
	n.Server.Drop(n.of(h.id))
	h.await(wire.StatusError, reasonOutdated)
	require.True(t, e.Stats().Outdated)
	n.Outdated(false)
	late := open(t, e, uuid.NewString(), 1)
	late.await(wire.StatusError, reasonOutdated)
	require.Equal(t, 2, e.Stats().Statuses[wire.StatusError])
}

// A number that is linked anew gets the address that it had; keys of then would be in the way.
func TestTheSameNumberIsLinkedAnew(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	phone := n.of(h.id)
	ann := n.person(t, "+491")
	h.deliver(sendOf("before"))
	_, err := ann.Write(address(phone), "before")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(h.received()) == 1 }, patience, time.Millisecond)
	device := n.Devices(phone)
	n.Server.Unlink(phone)
	h.await(wire.StatusDisconnected, reasonLoggedOut)
	h.close()

	again := open(t, e, h.id, 2)
	again.await(wire.StatusQRRequired, "")
	_, err = n.Server.Scan(phone, again.State().QR)
	require.NoError(t, err)
	again.await(wire.StatusConnected, "")
	require.Equal(t, device, n.Devices(phone))
	again.deliver(sendOf("after"))
	_, err = ann.Write(address(phone), "after")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(again.received()) == 1 }, patience, time.Millisecond)
	require.Equal(t, "after", again.received()[0].Data.(wire.ReceivedData).Message)
	require.Len(t, n.Phone(t, "+491"), 2)
}

// Somebody with two devices is shown a message on both, and one event tells of what he writes on either.
func TestARecipientWithTwoDevices(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	ann := n.person(t, "+491")
	second, err := n.Companion("491")
	require.NoError(t, err)
	h := n.linked(t, e)
	m := sendOf("on both")
	h.deliver(m)
	for _, p := range []interface{ Read(types.MessageID) error }{ann, second} {
		require.Eventually(t, func() bool { return p.Read(m.WhatsappID) == nil }, patience, time.Millisecond)
	}
	_, err = second.Write(address(n.of(h.id)), "from the second")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(h.received()) == 1 }, patience, time.Millisecond)
	d := h.received()[0].Data.(wire.ReceivedData)
	require.Equal(t, []string{"491@s.whatsapp.net", "491@s.whatsapp.net"}, []string{d.Chat, d.Sender})
}

// A phone that cannot read a message asks for it again, and gets it from whoever holds the session by then.
func TestAMessageIsSentAgainAfterAMove(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	a, b := n.engine(t), n.engine(t)
	ended(t, a, b)
	h := n.linked(t, a)
	ann := n.person(t, "+491")
	ann.Disconnect()
	m := sendOf("read me")
	h.deliver(m)
	h.close()
	open(t, b, h.id, 2).await(wire.StatusConnected, "")
	for id := range uint32(2000) { // the phone loses its keys
		_ = ann.Client.Store.PreKeys.RemovePreKey(context.Background(), id)
	}
	require.NoError(t, ann.Connect())
	shown, err := ann.Await(m.WhatsappID)
	require.NoError(t, err)
	require.Equal(t, "read me", shown.Text())
	require.Positive(t, b.Stats().Retries)
}

// A session whose events make the worker panic takes no other one with it.
func TestAPanicStaysInItsSession(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	good := n.linked(t, e)
	var bad worker.Conn
	var panicking atomic.Bool
	id := uuid.NewString()
	bad, err := e.Open(context.Background(), worker.Session{ID: id, Epoch: 1, Lease: func() bool {
		if panicking.Load() {
			panic("out of order")
		}
		return true
	}}, func(worker.Event) {})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return bad.State().Status == wire.StatusQRRequired }, patience, time.Millisecond)
	n.Scan(t, id)
	require.Eventually(t, func() bool { return bad.State().Status == wire.StatusConnected }, patience, time.Millisecond)
	before := e.Stats().Panics
	panicking.Store(true)
	n.Server.Drop(n.of(id))
	require.Eventually(t, func() bool { return e.Stats().Panics > before }, patience, time.Millisecond)
	good.deliver(sendOf("unharmed"))
	panicking.Store(false)
	require.Eventually(t, func() bool { return bad.State().Status == wire.StatusConnected }, patience, time.Millisecond)
}

// A session that loses its connection often costs no more than one that keeps it.
func TestLinksLeaveNothingBehind(t *testing.T) {
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	again := func() {
		logins := len(n.Logins(n.of(h.id)))
		n.Server.Drop(n.of(h.id))
		require.Eventually(t, func() bool {
			return len(n.Logins(n.of(h.id))) > logins && h.State().Status == wire.StatusConnected
		}, patience, time.Millisecond)
	}
	again()
	before := runtime.NumGoroutine()
	for range 20 {
		again()
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() < before+20 }, patience, 10*time.Millisecond, "goroutines")
}
