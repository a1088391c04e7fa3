package simulator_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

// office is a gateway in memory, for several workers. It takes everybody for who he says he is.
type office struct {
	url string

	mu     sync.Mutex
	deaf   bool             // it stores no events
	terms  int64            // granted
	next   map[string]int64 // seq of each worker
	heard  []wire.Event     // that were handed over, stored or not
	stored []wire.Event
}

func open(t *testing.T) *office {
	t.Helper()
	o := &office{next: map[string]int64{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/admin/workers/register", serveAs(o.register))
	mux.HandleFunc("PUT /api/v1/admin/workers/{id}/heartbeat", serveAs(func(string, wire.Heartbeat) (any, error) {
		return wire.HeartbeatAnswer{LeaseMs: patience.Milliseconds()}, nil
	}))
	mux.HandleFunc("POST /api/v1/admin/workers/{id}/events", serveAs(o.events))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	o.url = srv.URL
	return o
}

func serveAs[T any](do func(worker string, in T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in T
		err := json.NewDecoder(r.Body).Decode(&in)
		var data any
		if err == nil {
			data, err = do(r.PathValue("id"), in)
		}
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": "unavailable", "error": err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "data": data})
	}
}

func (o *office) register(_ string, r wire.Register) (any, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.terms++
	o.next[r.WorkerID] = 1
	return wire.Registered{WorkerID: r.WorkerID, Term: o.terms, Secret: "secret", LeaseMs: patience.Milliseconds(), HeartbeatMs: 1000}, nil
}

func (o *office) events(id string, b wire.EventBatch) (any, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = append(o.heard, b.Events...)
	if o.deaf {
		return nil, errors.New("the database is away")
	}
	for _, e := range b.Events {
		if e.Seq == o.next[id] {
			o.stored = append(o.stored, e)
			o.next[id]++
		}
	}
	return wire.EventBatchAnswer{Next: o.next[id]}, nil
}

func (o *office) setDeaf(deaf bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deaf = deaf
}

// messages returns the messages that came in, among those heard or those stored.
func (o *office) messages(of *[]wire.Event) (list []wire.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range *of {
		if e.Type == wire.EventMessageReceived {
			list = append(list, e)
		}
	}
	return list
}

// crew is a worker node on a simulator.
type crew struct {
	*worker.Node
	die func() // as when killed: nothing more reaches the network or the gateway
}

func enlist(t *testing.T, o *office, n *farSide, id string) *crew {
	t.Helper()
	engine := simulator.New(simulator.Config{SimnetURL: n.url, WorkerID: id, BackoffMin: 10 * time.Millisecond})
	wire := &severed{RoundTripper: http.DefaultTransport}
	node := worker.New(worker.Config{
		GatewayURL: o.url, Token: "token", ID: id, Logger: slog.New(slog.DiscardHandler),
		HTTPClient: &http.Client{Transport: wire}, FlushTimeout: time.Millisecond,
	}, engine)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	c := &crew{Node: node, die: sync.OnceFunc(func() {
		wire.cut.Store(true)
		require.NoError(t, engine.Close())
		cancel()
		require.NoError(t, <-ended)
	})}
	t.Cleanup(c.die)
	require.Eventually(t, func() bool { term, _ := node.Credentials(); return term > 0 }, patience, time.Millisecond)
	return c
}

// severed is a transport that can be cut for good.
type severed struct {
	http.RoundTripper
	cut atomic.Bool
}

func (s *severed) RoundTrip(r *http.Request) (*http.Response, error) {
	if s.cut.Load() {
		return nil, errors.New("the wire is cut")
	}
	return s.RoundTripper.RoundTrip(r)
}

// hold opens a session and waits until it is connected.
func (c *crew) hold(t *testing.T, session string, epoch int64) {
	t.Helper()
	term, _ := c.Credentials()
	_, err := c.Create(t.Context(), term, wire.CreateSession{SessionID: session, Epoch: epoch})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		st, err := c.Status(t.Context(), session)
		return err == nil && st.Status == wire.StatusConnected
	}, patience, time.Millisecond)
}

// A worker dies after it has taken a message and before it hears that the gateway has stored it. The network, which was
// told nothing, delivers the message again, and it is the same event: a gateway that had stored it stores it once.
func TestAWorkerThatDiesLosesNoMessage(t *testing.T) {
	n, o := start(t, simnet.Config{}), open(t)
	one := enlist(t, o, n, "one")
	one.hold(t, "s", 1)
	unacknowledged := func() int { return n.net.Report().PerSession["s"].Unacknowledged }

	o.setDeaf(true)
	id := n.Receive(t, "s", "+62899000111", "is anybody there?")
	require.Eventually(t, func() bool { return len(o.messages(&o.heard)) > 0 }, patience, time.Millisecond)
	first := o.messages(&o.heard)[0]
	require.Equal(t, 1, unacknowledged(), "acknowledged though the gateway has not answered")
	one.die()
	require.Equal(t, 1, unacknowledged())

	o.setDeaf(false)
	two := enlist(t, o, n, "two")
	two.hold(t, "s", 2)
	require.Eventually(t, func() bool { return unacknowledged() == 0 }, patience, time.Millisecond)
	stored := o.messages(&o.stored)
	require.Len(t, stored, 1)
	again := stored[0]
	require.Equal(t, first.EventID, again.EventID)
	require.Equal(t, first.Timestamp, again.Timestamp)
	require.JSONEq(t, string(first.Data), string(again.Data))
	require.Contains(t, string(again.Data), id)
	require.Equal(t, []int64{1, 2}, []int64{first.Epoch, again.Epoch})
	require.Zero(t, n.net.Report().DoubleConnections)
}
