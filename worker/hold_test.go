package worker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func TestCreateIsIdempotentByEpoch(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		st, err := b.n.Create(b.Context(), 1, wire.CreateSession{SessionID: "s1", UserID: "u", SessionName: "shop", Epoch: 2, Proxy: "p"})
		require.NoError(b, err)
		require.Equal(b, wire.SessionState{SessionID: "s1", Epoch: 2, Status: wire.StatusConnected}, st)
		c := b.e.last()
		require.Equal(b, []any{"s1", "u", "shop", int64(2), "p"}, []any{c.s.ID, c.s.UserID, c.s.Name, c.s.Epoch, c.s.Proxy})

		c.set(wire.SessionState{Status: wire.StatusQRRequired, QR: "2@x"})
		st, err = b.n.Create(b.Context(), 1, wire.CreateSession{SessionID: "s1", Epoch: 2, Proxy: "p"})
		require.NoError(b, err)
		require.Equal(b, wire.SessionState{SessionID: "s1", Epoch: 2, Status: wire.StatusQRRequired, QR: "2@x"}, st)
		require.Same(b, c, b.e.last())

		_, err = b.create("s1", 1)
		b.refusedWith(wire.CodeStaleEpoch, err)

		st, err = b.create("s1", 3)
		require.NoError(b, err)
		require.Equal(b, int64(3), st.Epoch)
		require.True(b, c.closed())
		require.False(b, c.s.Lease(), "a replaced connection may not write")
		require.Equal(b, []string{"s1"}, b.e.connected())
	})
}

// Another proxy is another connection, at the same epoch: the former one finishes its sends and is closed first.
func TestAnotherProxyTakesAnotherConnection(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(context.Context, *conn, wire.Send) (wire.SendResult, error) {
			time.Sleep(2 * time.Second)
			return wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: time.Now()}, nil
		}
	}, func(b *bench) {
		create := func(proxy string) *conn {
			st, err := b.n.Create(b.Context(), 1, wire.CreateSession{SessionID: "s1", Epoch: 2, Proxy: proxy})
			require.NoError(b, err)
			require.Equal(b, int64(2), st.Epoch)
			return b.e.last()
		}
		first := create("http://one")
		require.Same(b, first, create("http://one"))
		sent := make(chan error, 1)
		go func() {
			_, err := b.n.Send(b.Context(), "s1", message("WA1", 2, 1))
			sent <- err
		}()
		synctest.Wait()
		second := create("http://user:hidden@two")
		require.NoError(b, <-sent, "what was in hand has ended")
		require.Equal(b, 1, first.sends())
		require.True(b, first.closed())
		require.False(b, first.s.Lease(), "the former connection may not write")
		require.Equal(b, "http://user:hidden@two", second.s.Proxy)
		_, err := b.n.Send(b.Context(), "s1", message("WA2", 2, 0))
		b.refusedWith(wire.CodeStaleGeneration, err)
		third := create("")
		require.True(b, second.closed())
		require.Empty(b, third.s.Proxy)
		require.Equal(b, 1, b.n.Stats().Sessions)
		require.NotContains(b, b.log.String(), "hidden")

		b.e.open = func(context.Context, Session) error { return errors.New("no room in memory") }
		_, err = b.n.Create(b.Context(), 1, wire.CreateSession{SessionID: "s1", Epoch: 2, Proxy: "http://user:hidden@three"})
		b.refusedWith(wire.CodeEngineFailed, err)
		require.NotContains(b, err.Error(), "hidden")
		require.Empty(b, b.e.connected(), "never by another way")
	})
}

func TestCreatesRace(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.open = func(context.Context, Session) error { time.Sleep(time.Second); return nil }
		e.shut = func(context.Context, *conn) error { time.Sleep(time.Second); return nil }
	}, func(b *bench) {
		var wg sync.WaitGroup
		for _, epoch := range []int64{1, 2, 1, 3, 2, 3, 3} {
			wg.Go(func() { _, _ = b.create("s1", epoch) })
			wg.Go(func() { _ = b.n.Release(b.Context(), "s1", 1) })
		}
		wg.Wait()
		require.Equal(b, []string{"s1"}, b.e.connected())
		require.Equal(b, int64(3), b.e.last().s.Epoch)
		require.Equal(b, 1, b.n.Stats().Sessions)
	})
}

func TestReleaseFencesEveryEpochUpToIt(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 5)
		b.refusedWith(wire.CodeStaleEpoch, b.n.Release(b.Context(), "s1", 4))
		require.False(b, c.closed())
		require.NoError(b, b.n.Release(b.Context(), "s1", 6)) // epoch 6 was assigned, its create is still on its way
		require.True(b, c.closed())
		require.NoError(b, b.n.Release(b.Context(), "s1", 6), "confirmed again")
		for _, epoch := range []int64{4, 5, 6} {
			_, err := b.create("s1", epoch)
			b.refusedWith(wire.CodeStaleEpoch, err)
		}
		require.NoError(b, b.n.Release(b.Context(), "unheard-of", 2))
		_, err := b.create("unheard-of", 2)
		b.refusedWith(wire.CodeStaleEpoch, err)
		b.hold("s1", 7)
		_, err = b.n.Status(b.Context(), "s2")
		b.refusedWith(wire.CodeSessionNotFound, err)
	})
}

func TestReleaseFinishesSends(t *testing.T) {
	gate := make(chan struct{})
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(_ context.Context, c *conn, _ wire.Send) (wire.SendResult, error) {
			<-gate
			if !c.s.Lease() || c.closed() {
				return wire.SendResult{}, ErrNotConnected
			}
			return wire.SendResult{Outcome: wire.OutcomeSent}, nil
		}
	}, func(b *bench) {
		gate = make(chan struct{}) // of the bubble
		c := b.hold("s1", 1)
		var r wire.SendResult
		var err error
		released := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() { r, err = b.n.Send(b.Context(), "s1", message("A", 1, 1)) })
		synctest.Wait()
		go func() { released <- b.n.Release(b.Context(), "s1", 1) }()
		synctest.Wait()
		require.False(b, c.closed())
		_, refusal := b.n.Send(b.Context(), "s1", message("B", 1, 1))
		b.refusedWith(wire.CodeNotConnected, refusal)
		close(gate)
		wg.Wait()
		require.NoError(b, err)
		require.Equal(b, wire.OutcomeSent, r.Outcome)
		require.NoError(b, <-released)
		require.True(b, c.closed())
	})
}

// settling is a conn whose acknowledgements take time.
type settling struct {
	*conn
	takes time.Duration
	may   bool // it was allowed to write all the while
}

func (s *settling) Settle(ctx context.Context) {
	select {
	case <-time.After(s.takes):
		s.may = s.s.Lease() && !s.closed()
	case <-ctx.Done():
	}
}

// What came in is acknowledged before the session is let go of, while its worker may still write.
func TestReleaseWaitsForAcknowledgements(t *testing.T) {
	for _, c := range []struct{ takes, waits time.Duration }{{time.Second, time.Second}, {time.Hour, drainTimeout}} {
		var slow *settling
		onBench(t, func(_ *gateway, e *engine, _ *Config) {
			e.wrap = func(inner *conn) Conn {
				slow = &settling{conn: inner, takes: c.takes}
				return slow
			}
		}, func(b *bench) {
			b.hold("s1", 1)
			began := time.Now()
			require.NoError(b, b.n.Release(b.Context(), "s1", 1))
			require.Equal(b, c.waits, time.Since(began))
			require.True(b, slow.closed())
			require.Equal(b, c.takes == c.waits, slow.may)
		})
	}
}

func TestReleaseDoesNotWaitForever(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(ctx context.Context, _ *conn, _ wire.Send) (wire.SendResult, error) {
			<-ctx.Done()
			return wire.SendResult{}, ctx.Err()
		}
	}, func(b *bench) {
		b.hold("s1", 1)
		go func() { _, _ = b.n.Send(b.Context(), "s1", message("A", 1, 1)) }()
		synctest.Wait()
		began := time.Now()
		require.NoError(b, b.n.Release(b.Context(), "s1", 1))
		require.Equal(b, drainTimeout, time.Since(began))
		b.pass(time.Minute)
	})
}

// A session that does not close stays held: heartbeats go on naming it, so that nobody takes it for released.
func TestASessionThatDoesNotCloseStaysHeld(t *testing.T) {
	stuck := true
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.shut = func(context.Context, *conn) error {
			if stuck {
				return errors.New("stuck, says +6281234567890")
			}
			return nil
		}
	}, func(b *bench) {
		c := b.hold("s1", 1)
		b.refusedWith(wire.CodeEngineFailed, b.n.Release(b.Context(), "s1", 1))
		require.False(b, c.s.Lease(), "but it may not write any more")
		b.pass(4 * time.Second)
		require.Len(b, b.g.lastBeat().Sessions, 1)
		_, err := b.create("s1", 1)
		b.refusedWith(wire.CodeStaleEpoch, err)
		_, err = b.create("s1", 2)
		b.refusedWith(wire.CodeEngineFailed, err)
		stuck = false
		b.hold("s1", 2)
		require.True(b, c.closed())
	})
}

func TestRoom(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.hold("s1", 1)
		b.hold("s2", 1)
		b.hold("s3", 1)
		_, err := b.create("s4", 1)
		b.refusedWith(wire.CodeFull, err)
		b.hold("s3", 2) // a replacement has the room of the one that it replaces
		require.NoError(b, b.n.Release(b.Context(), "s1", 1))
		b.hold("s4", 1)

		require.NoError(b, b.n.Release(b.Context(), "s4", 1))
		b.e.open = func(context.Context, Session) error { return errors.New("no") }
		_, err = b.create("s5", 1)
		b.refusedWith(wire.CodeEngineFailed, err)
		b.e.open = nil
		b.hold("s5", 1) // the room of a failure is free again
	})
}

// The lease ends while the engine opens a session: whoever drops all sessions does not see it yet.
func TestALapseWhileOpening(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.open = func(context.Context, Session) error { time.Sleep(20 * time.Second); return nil }
	}, func(b *bench) {
		b.g.with(func() { b.g.onBeat = func(wire.Heartbeat) error { return errBroken } })
		_, err := b.create("s1", 1)
		b.refusedWith(wire.CodeLeaseLost, err)
		require.Empty(b, b.e.connected())
		require.Zero(b, b.n.Stats().Sessions)
	})
}

func TestDelete(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.refusedWith(wire.CodeSessionNotFound, b.n.Delete(b.Context(), "s1", 1, true))
		require.NoError(b, b.n.Delete(b.Context(), "s1", 0, false))

		c := b.hold("s1", 2)
		b.refusedWith(wire.CodeStaleEpoch, b.n.Delete(b.Context(), "s1", 1, true))
		require.False(b, c.loggedOut)

		b.e.leave = func(context.Context, *conn) error { return ErrNotConnected }
		b.refusedWith(wire.CodeNotConnected, b.n.Delete(b.Context(), "s1", 2, true))
		_, err := b.n.Send(b.Context(), "s1", message("A", 2, 1))
		require.NoError(b, err, "a session whose unlinking failed goes on")

		b.e.leave = nil
		require.NoError(b, b.n.Delete(b.Context(), "s1", 0, true))
		require.True(b, c.loggedOut)
		_, err = b.create("s1", 2)
		b.refusedWith(wire.CodeStaleEpoch, err)

		c = b.hold("s1", 3)
		require.NoError(b, b.n.Delete(b.Context(), "s1", 3, false))
		require.False(b, c.loggedOut)
		require.True(b, c.closed())
	})
}

func TestQR(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		_, err := b.n.QR(b.Context(), "s1")
		b.refusedWith(wire.CodeAlreadyLinked, err)
		c.set(wire.SessionState{Status: wire.StatusInitializing})
		_, err = b.n.QR(b.Context(), "s1")
		b.refusedWith(wire.CodeQRNotReady, err)
		expires := time.Now().Add(20 * time.Second)
		c.set(wire.SessionState{Status: wire.StatusQRRequired, QR: "2@x", QRExpiresAt: &expires})
		q, err := b.n.QR(b.Context(), "s1")
		require.NoError(b, err)
		require.Equal(b, wire.QRData{QR: "2@x", ExpiresAt: expires}, q)
		b.pass(20 * time.Second)
		_, err = b.n.QR(b.Context(), "s1")
		b.refusedWith(wire.CodeQRNotReady, err)
	})
}

func TestLocks(t *testing.T) {
	var l locks
	unlock, err := l.lock(t.Context(), "a")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = l.lock(ctx, "a")
	require.ErrorIs(t, err, context.Canceled)
	other, err := l.lock(t.Context(), "b")
	require.NoError(t, err)
	other()
	unlock()
	require.Empty(t, l.m, "nobody's locks are kept")
}
