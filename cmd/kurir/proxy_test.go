package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker"
)

// wayside is an engine whose sessions are connected at once. It knows by way of which proxy each one is.
type wayside struct {
	mu     sync.Mutex
	open   map[string]string // session -> proxy
	opened int
}

func (*wayside) Name() string { return "simulator" }
func (*wayside) Close() error { return nil }

func (w *wayside) Open(_ context.Context, s worker.Session, sink worker.Sink) (worker.Conn, error) {
	w.mu.Lock()
	w.open[s.ID] = s.Proxy
	w.opened++
	w.mu.Unlock()
	sink(worker.Event{Type: wire.EventSessionStatus, Kind: wire.EventSessionStatus, Timestamp: time.Now(), Data: wire.StatusData{Status: wire.StatusConnected, PhoneNumber: "+6281111111111"}})
	return &waysideConn{w, s}, nil
}

// by lists the proxies of the sessions that are open.
func (w *wayside) by() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, proxy := range w.open {
		list = append(list, proxy)
	}
	return list
}

type waysideConn struct {
	engine  *wayside
	session worker.Session
}

func (c *waysideConn) State() wire.SessionState {
	return wire.SessionState{Status: wire.StatusConnected, PhoneNumber: "+6281111111111"}
}

func (c *waysideConn) Send(context.Context, wire.Send) (wire.SendResult, error) {
	return wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: time.Now()}, nil
}

func (c *waysideConn) Close(context.Context) error {
	c.engine.mu.Lock()
	defer c.engine.mu.Unlock()
	delete(c.engine.open, c.session.ID)
	return nil
}

func (c *waysideConn) Logout(ctx context.Context) error { return c.Close(ctx) }

// A proxy goes from its tenant's request to the worker that holds the session, whoever that is, and so does its removal.
func TestProxyFromTheTenantToTheWorker(t *testing.T) {
	t.Parallel()
	const token = "a token for the workers of this test"
	c := plan{apis: 1, env: []string{"WORKER_AUTH_TOKEN=" + token}}.start(t)
	engines := map[string]*wayside{}
	for _, id := range []string{"here", "there"} {
		engines[id] = c.wayside(id, token)
	}
	c.registered(len(engines))
	const first, second = "socks5://user:p%40ss@one.example.com:1080", "https://user:p%40ss@two.example.com"
	c.call(http.MethodPost, "/sessions", map[string]any{"name": "Shop", "sessionId": "shop", "proxy": first}, nil, http.StatusAccepted)
	holder := func(proxy string) (id string) {
		t.Helper()
		c.eventually(40*time.Second, "the worker has "+proxy, func() (bool, string) {
			id = ""
			for name, e := range engines {
				by := e.by()
				if len(by) == 1 && by[0] == proxy {
					id += name
				}
			}
			return engines[id] != nil, fmt.Sprint(engines["here"].by(), engines["there"].by())
		})
		return id
	}
	at := holder(first)
	c.call(http.MethodPatch, "/sessions/shop", map[string]any{"proxy": second}, nil, http.StatusOK)
	require.Equal(t, at, holder(second), "where it is")

	next := map[string]string{"here": "there", "there": "here"}[at]
	status, data, err := c.request(t.Context(), http.MethodPost, c.entries[0]+"/api/v1/admin/sessions/shop/migrate", map[string]any{"workerId": next}, "Authorization", "Bearer "+c.admin)
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, status, string(data))
	c.eventually(40*time.Second, "it has moved", func() (bool, string) { return len(engines[next].by()) == 1, fmt.Sprint(engines[at].by()) })
	require.Equal(t, next, holder(second))
	engines[next].mu.Lock()
	require.Equal(t, 1, engines[next].opened, "nothing was opened without it")
	engines[next].mu.Unlock()

	c.call(http.MethodPatch, "/sessions/shop", map[string]any{"proxy": nil}, nil, http.StatusOK)
	require.Equal(t, next, holder(""))
	require.NotContains(t, c.printed(), "p%40ss")
}

// wayside runs a worker node on such an engine.
func (c *cluster) wayside(id, token string) *wayside {
	c.t.Helper()
	e := &wayside{open: map[string]string{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(c.t, err)
	node := worker.New(worker.Config{GatewayURL: c.entries[0], Token: token, ID: id, Listener: l, Endpoint: "http://" + l.Addr().String(), MaxSessions: 5,
		Version: "test", Logger: slog.New(slog.DiscardHandler)}, e)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		require.NoError(c.t, <-ended)
	})
	return e
}
