package worker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func TestLeavesInGoodOrder(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(context.Context, *conn, wire.Send) (wire.SendResult, error) {
			time.Sleep(2 * time.Second)
			return wire.SendResult{Outcome: wire.OutcomeSent}, nil
		}
	}, func(b *bench) {
		c := b.hold("s1", 1)
		var a acks
		var connectedAtGoodbye []string
		var open sync.WaitGroup
		b.g.with(func() {
			failures := 0
			b.g.onEvents = func(wire.EventBatch) error {
				if failures++; failures < 4 {
					return errBroken
				}
				return nil
			}
			b.g.onBeat = func(h wire.Heartbeat) error {
				if h.Status == "offline" {
					connectedAtGoodbye = b.e.connected()
				}
				return nil
			}
		})
		for _, id := range ids(0, 10) {
			c.receive(id, func(id string) {
				require.False(b, c.closed(), "acknowledged to a network that is gone")
				a.add(id)
			})
		}
		var r wire.SendResult
		open.Go(func() { r, _ = b.n.Send(b.Context(), "s1", message("A", 1, 1)) })
		synctest.Wait()
		b.stop()
		open.Wait()
		require.Equal(b, wire.OutcomeSent, r.Outcome)
		require.Equal(b, ids(0, 10), a.get())
		require.True(b, c.closed())
		require.False(b, c.loggedOut, "credentials stay")
		require.Empty(b, connectedAtGoodbye)
		last := b.g.lastBeat()
		require.Equal(b, "offline", last.Status)
		require.Equal(b, []wire.HeldSession{}, last.Sessions)
		require.False(b, c.s.Lease())
		_, err := b.create("s2", 1)
		b.refusedWith(wire.CodeFull, err)
		require.Equal(b, "draining", b.n.Health(b.Context()).Status)
	})
}

func TestLeavingIsBounded(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.shut = func(ctx context.Context, _ *conn) error { <-ctx.Done(); return ctx.Err() }
	}, func(b *bench) {
		c := b.hold("s1", 1)
		b.g.with(func() { b.g.onEvents = func(wire.EventBatch) error { return errBroken } })
		c.receive("M00000", nil)
		began := time.Now()
		b.stop()
		require.Less(b, time.Since(began), 20*time.Second)
		require.NotEqual(b, "offline", b.g.lastBeat().Status, "the session may still be connected")
		require.Equal(b, "maintenance", b.g.lastBeat().Status)
	})
}

func TestLeavesWhileRegistering(t *testing.T) {
	onBench(t, func(g *gateway, _ *engine, _ *Config) {
		g.onRegister = func(wire.Register) error { return errBroken }
	}, func(b *bench) {
		began := time.Now()
		b.stop()
		require.Less(b, time.Since(began), time.Second)
	})
}

func TestCannotListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	cfg := testConfig()
	cfg.Listen = l.Addr().String()
	require.ErrorContains(t, New(cfg, &engine{}).Run(t.Context()), "listen on")
}

// The same over real connections: gateway client, server adapter and worker client fit together.
func TestOverTheNetwork(t *testing.T) {
	g := newGateway()
	g.lease, g.heartbeat = 2*time.Second, 100*time.Millisecond
	srv := httptest.NewServer(g)
	defer srv.Close()
	e := &engine{}
	cfg := testConfig()
	cfg.GatewayURL, cfg.Logger, cfg.Usage = srv.URL, slog.New(slog.DiscardHandler), nil
	n := New(cfg, e)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer cancel()

	eventually := func(what string, ok func() bool) {
		t.Helper()
		require.Eventually(t, ok, 10*time.Second, 2*time.Millisecond, what)
	}
	eventually("registered", func() bool { term, _ := n.Credentials(); return term == 1 })
	term, secret := n.Credentials()
	target := wire.Target{WorkerID: "w1", Endpoint: "http://" + n.Addr(), Secret: secret, Term: term}
	client := wire.NewHTTPClient()
	defer client.CloseIdleConnections()
	w := wire.NewClient(client, target)

	_, err := w.Create(ctx, wire.CreateSession{SessionID: "s1", Epoch: 1})
	require.NoError(t, err)
	r, err := w.Send(ctx, "s1", message("A", 1, 1))
	require.NoError(t, err)
	require.Equal(t, wire.OutcomeSent, r.Outcome)
	_, err = w.Send(ctx, "s1", message("B", 2, 1))
	require.True(t, wire.NotSent(err))
	require.Equal(t, wire.CodeStaleEpoch, wire.Code(err))

	e.last().receive("M00000", nil)
	eventually("the event arrives", func() bool { return len(g.storedIDs()) == 1 })
	eventually("the session is reported", func() bool { return len(g.lastBeat().Sessions) == 1 })

	h, err := w.Health(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, h.SessionCount)
	require.Positive(t, h.MemoryUsage)

	stale := target
	stale.Term++
	_, err = wire.NewClient(client, stale).Status(ctx, "s1")
	require.Equal(t, wire.CodeStaleTerm, wire.Code(err))
	stale = target
	stale.Secret = "another"
	_, err = wire.NewClient(client, stale).Status(ctx, "s1")
	require.Equal(t, wire.CodeUnauthenticated, wire.Code(err))

	require.NoError(t, w.Release(ctx, "s1", 1))
	cancel()
	require.NoError(t, <-ended)
	require.Equal(t, "offline", g.lastBeat().Status)
	client.CloseIdleConnections() // over a kept one it may have been written, which leaves doubt
	_, err = w.Send(context.Background(), "s1", message("C", 1, 1))
	require.True(t, wire.NotSent(err), "%v", err)
	require.False(t, errors.Is(err, context.Canceled))
}
