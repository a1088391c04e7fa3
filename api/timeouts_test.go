package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/api"
)

// short are timeouts that a test can wait for.
var short = api.Timeouts{Idle: 300 * time.Millisecond, Read: 300 * time.Millisecond, Write: 300 * time.Millisecond, Request: 300 * time.Millisecond}

// counted are connections that the server has not closed.
type counted struct {
	net.Listener
	open *atomic.Int64
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.open.Add(1)
	return &countedConn{Conn: c, open: l.open}, nil
}

type countedConn struct {
	net.Conn
	open   *atomic.Int64
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// slowly sends a text byte by byte, never as slowly as a timeout, until the other side has had enough, and returns what it said.
func (w *world) slowly(head, dripped string) string {
	w.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(w, err)
	defer c.Close()
	require.NoError(w, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, head)
	require.NoError(w, err)
	enough := make(chan string, 1)
	go func() {
		said, _ := io.ReadAll(c)
		enough <- string(said)
	}()
	each := time.NewTicker(20 * time.Millisecond)
	defer each.Stop()
	for i := 0; ; i++ {
		select {
		case said := <-enough:
			return said
		case <-each.C:
			_, _ = io.WriteString(c, dripped[i%len(dripped):][:1])
		}
	}
}

func TestSlowClientsAreGivenUp(t *testing.T) {
	t.Parallel()
	var open atomic.Int64
	var inner *api.API
	w := start(t, func(w *world, c *api.Config) {
		c.Timeouts = short
		c.Timeouts.Request = patience
		w.made = func(a *api.API) { inner = a }
	})
	w.url = w.serve(func(l net.Listener) error { return inner.Listen(counted{l, &open}) })
	allClosed := func() bool { return open.Load() == 0 }

	w.slowly("GET /health/live HTTP/1.1\r\nHost: x\r\n", "X-Slow: and slower\r\n")
	w.slowly("G", "ET /health/live")
	for _, length := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
		said := w.slowly("POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+length+"\r\n\r\n", map[bool]string{true: "1\r\nx\r\n", false: "x"}[length[0] == 'T'])
		require.Contains(t, said, " 408 ")
		require.Contains(t, said, `"request_timeout"`)
	}
	w.slowly("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", "GET /") // the second request of a connection is as slow
	idle, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err)
	defer idle.Close()
	require.NoError(t, idle.SetReadDeadline(time.Now().Add(patience)))
	_, err = idle.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "who never asks")
	w.eventually("all are gone", allClosed)

	// One asks again and again and reads nothing of the answers, until they fit nowhere.
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4<<10))
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(patience)))
	ask := strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n", 100)
	for err == nil {
		_, err = io.WriteString(c, ask)
	}
	require.False(t, errors.Is(err, context.DeadlineExceeded), "who asks and does not read: %v", err)
	w.eventually("it is gone", allClosed)
	w.do("GET", "/health/live", nil, nil).ok(200)
}

// A request that waits for what does not come is answered; one whose answer is a stream goes on.
func TestRequestsHaveADeadline(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) {
		c.Timeouts = api.DefaultTimeouts()
		c.Timeouts.Request = short.Request
		c.Streams.Heartbeat = 50 * time.Millisecond
	})
	w.worker()
	u := w.register("u")
	u.session("shop")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/api/v1/events", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+u.token)
	stream, err := client.Do(r)
	require.NoError(t, err)
	defer stream.Body.Close()

	tx, err := w.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE sessions, webhooks IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	before := w.count("jobs")
	for _, request := range [][2]string{{"GET", "/api/v1/sessions"}, {"GET", "/api/v1/sessions/shop"}, {"DELETE", "/api/v1/sessions/shop"}, {"POST", "/api/v1/sessions/shop/start"}, {"GET", "/api/v1/webhook"}} {
		u.do(request[0], request[1], u.auth(), nil).refused(504, "took_too_long")
	}
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, before, w.count("jobs"), "nothing was done")
	u.do("GET", "/api/v1/sessions/shop", u.auth(), nil).ok(200)

	lines := bufio.NewScanner(stream.Body)
	for beats := 0; beats < 20; { // a second of them
		require.True(t, lines.Scan(), "the stream ended: %v", lines.Err())
		if strings.HasPrefix(lines.Text(), ":") {
			beats++
		}
	}
	require.NotContains(t, fmt.Sprint(lines.Err()), "EOF")
}
