package simulator_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator"
	"kurir/worker/simulator/simnet"
)

// cable stands between engines and a network. While it is cut, connections stay open and new ones open, but nothing
// passes: as where packets are dropped.
type cable struct {
	url string
	cut atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

func lay(t *testing.T, to string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &cable{url: "http://" + l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(to, "http://"))
			if err != nil {
				_ = near.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			wg.Go(func() { c.carry(near, far) })
			wg.Go(func() { c.carry(far, near) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.mu.Lock()
		for _, conn := range c.conns {
			_ = conn.Close()
		}
		c.mu.Unlock()
		wg.Wait()
	})
	return c
}

func (c *cable) carry(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if c.cut.Load() {
			continue
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func TestASilentNetworkIsNoticed(t *testing.T) {
	n := start(t, simnet.Config{PingInterval: time.Second})
	c := lay(t, n.url)
	e := simulator.New(simulator.Config{
		SimnetURL: c.url, WorkerID: "w", BackoffMin: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
		DialTimeout: 100 * time.Millisecond, Silence: 2 * time.Second, // two pings
	})
	defer func() { require.NoError(t, e.Close()) }()
	reasons := make(chan string, 10)
	conn, err := e.Open(context.Background(), session("s"), func(e worker.Event) {
		if d, ok := e.Data.(wire.StatusData); ok && d.Status == wire.StatusReconnecting {
			reasons <- d.Reason
		}
	})
	require.NoError(t, err)
	connected := func() bool { return conn.State().Status == wire.StatusConnected }
	require.Eventually(t, connected, patience, time.Millisecond)

	c.cut.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := conn.Send(ctx, wire.Send{WhatsappID: "A", To: "62811", Type: "text"})
	require.NoError(t, err)
	require.Equal(t, wire.OutcomeUnknown, r.Outcome, "it was written, and nobody answered")
	require.NoError(t, ctx.Err(), "only the caller's own limit ended it")
	require.Equal(t, "connection_lost", <-reasons)
	_, err = conn.Send(ctx, wire.Send{WhatsappID: "B", To: "62811", Type: "text"})
	require.ErrorIs(t, err, worker.ErrNotConnected)

	c.cut.Store(false)
	require.Eventually(t, connected, patience, time.Millisecond)
	r, err = conn.Send(ctx, wire.Send{WhatsappID: "A", To: "62811", Type: "text"})
	require.NoError(t, err)
	require.Equal(t, wire.OutcomeSent, r.Outcome)
	require.Zero(t, n.net.Report().DoubleConnections)
}

func TestANetworkThatDoesNotAnswerIsUnreachable(t *testing.T) {
	n := start(t, simnet.Config{})
	c := lay(t, n.url)
	c.cut.Store(true)
	e := simulator.New(simulator.Config{SimnetURL: c.url, WorkerID: "w", DialTimeout: 50 * time.Millisecond})
	defer func() { require.NoError(t, e.Close()) }()
	reasons := make(chan string, 10)
	_, err := e.Open(context.Background(), session("s"), func(e worker.Event) {
		if d, ok := e.Data.(wire.StatusData); ok && d.Status == wire.StatusReconnecting {
			reasons <- d.Reason
		}
	})
	require.NoError(t, err)
	require.Equal(t, "unreachable", <-reasons)
}
