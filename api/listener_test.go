package api_test

import (
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/api"
)

// watched is a connection that remembers until when what is written has to be taken.
type watched struct {
	net.Conn

	mu     sync.Mutex
	until  time.Time
	writes []time.Time // until when each had to be taken
}

func (c *watched) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	c.until = t
	c.mu.Unlock()
	return c.Conn.SetWriteDeadline(t)
}

func (c *watched) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, c.until)
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *watched) last() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes[len(c.writes)-1]
}

type watching struct {
	net.Listener
	conns chan *watched
}

func (l watching) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &watched{Conn: c}
	l.conns <- w
	return w, nil
}

// Each answer has its own time, whatever came over the connection before.
func TestAnswersHaveTimesOfTheirOwn(t *testing.T) {
	t.Parallel()
	conns := make(chan *watched, 1)
	var a *api.API
	w := start(t, func(w *world, _ *api.Config) { w.made = func(made *api.API) { a = made } })
	w.worker()
	u := w.register("u")
	u.connected("shop")
	m := w.uploaded(u.auth(), "", picture)
	w.url = w.serve(func(l net.Listener) error { return a.Listen(watching{l, conns}) })

	c := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: patience}
	defer c.CloseIdleConnections()
	ask := func(path string) (ended time.Time) {
		r, err := http.NewRequest(http.MethodGet, w.url+path, nil)
		require.NoError(t, err)
		r.Header.Set("X-Api-Key", u.key)
		resp, err := c.Do(r)
		require.NoError(t, err)
		require.Equal(t, 200, read(t, resp).status)
		return time.Now()
	}
	ended := ask("/health/live")
	conn := <-conns
	require.True(t, conn.last().After(ended), "who does not read is given up")
	for _, path := range []string{str(m, "url"), "/api/v1/sessions/shop/messages/export", str(m, "url")} {
		ended := ask(path)
		require.True(t, conn.last().After(ended), "a stream has its time too")
		w.eventually("the end of its time", func() bool {
			conn.mu.Lock()
			defer conn.mu.Unlock()
			return conn.until.IsZero()
		})
		ended = ask("/health/live")
		require.True(t, conn.last().After(ended))
	}
	require.Empty(t, conns, "all over one connection")
}
