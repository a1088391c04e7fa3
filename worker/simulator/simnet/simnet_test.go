package simnet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"kurir/wire"
)

const patience = 10 * time.Second

// bench is a network behind a real HTTP server.
type bench struct {
	net *Network
	url string
}

func start(t testing.TB, cfg Config) *bench {
	t.Helper()
	n, err := New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(n.Handler())
	t.Cleanup(func() {
		require.NoError(t, n.Close())
		srv.Close()
	})
	return &bench{net: n, url: srv.URL}
}

// post gives an order and returns the status and the answer.
func (b *bench) post(t testing.TB, path string, body any) (int, string) {
	t.Helper()
	j, err := json.Marshal(body)
	require.NoError(t, err)
	resp, err := http.Post(b.url+path, "application/json", bytes.NewReader(j))
	require.NoError(t, err)
	return resp.StatusCode, drain(t, resp)
}

func (b *bench) must(t testing.TB, path string, body any) {
	t.Helper()
	status, answer := b.post(t, path, body)
	require.Equal(t, http.StatusOK, status, "POST %s: %s", path, answer)
}

func (b *bench) get(t testing.TB, path string, into any) {
	t.Helper()
	resp, err := http.Get(b.url + path)
	require.NoError(t, err)
	body := drain(t, resp)
	require.Equal(t, http.StatusOK, resp.StatusCode, "GET %s: %s", path, body)
	require.NoError(t, json.Unmarshal([]byte(body), into))
}

func drain(t testing.TB, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(body)
}

func (b *bench) report(t testing.TB) Report {
	t.Helper()
	var r Report
	b.get(t, "/report", &r)
	return r
}

func (b *bench) screen(t testing.TB, number string) []Shown {
	t.Helper()
	var p PhoneScreen
	b.get(t, "/phones/"+number+"/messages", &p)
	return p.Messages
}

// phone number that nobody else writes to
func person(i int) string { return fmt.Sprintf("62899%07d1", i) }

// client is a worker's side of one connection, as dumb as can be: it answers what it is told to.
type client struct {
	t     testing.TB
	ws    *websocket.Conn
	queue []*Frame
	n     int64
}

func (b *bench) login(t testing.TB, session string, epoch int64, worker string) *client {
	t.Helper()
	ws, _, err := websocket.Dial(context.Background(), b.url+"/connect", nil)
	require.NoError(t, err)
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	c := &client{t: t, ws: ws}
	c.write(&Frame{Op: OpHello, Hello: &Hello{SessionID: session, Epoch: epoch, Worker: worker}})
	return c
}

// linked logs in and waits until the session is ready.
func (b *bench) linked(t testing.TB, session string, epoch int64, worker string) *client {
	t.Helper()
	c := b.login(t, session, epoch, worker)
	c.await(OpReady)
	return c
}

func (c *client) write(frames ...*Frame) {
	c.t.Helper()
	var buf bytes.Buffer
	for _, f := range frames {
		require.NoError(c.t, AppendFrame(&buf, f))
	}
	require.NoError(c.t, c.ws.Write(context.Background(), websocket.MessageText, buf.Bytes()))
}

// next reads one frame, whatever it is; nil once the connection has ended.
func (c *client) next() *Frame {
	c.t.Helper()
	for len(c.queue) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, data, err := c.ws.Read(ctx)
		cancel()
		require.NoError(c.t, ctx1(err, ctx), "nothing came")
		if err != nil {
			return nil
		}
		require.NoError(c.t, EachFrame(data, func(f *Frame) error {
			c.queue = append(c.queue, f)
			return nil
		}))
	}
	f := c.queue[0]
	c.queue = c.queue[1:]
	return f
}

// ctx1 keeps only the errors that come from waiting too long.
func ctx1(err error, ctx context.Context) error {
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		return err
	}
	return nil
}

// await skips frames up to one with this operation. Pings stay unanswered.
func (c *client) await(op string) *Frame {
	c.t.Helper()
	for {
		f := c.next()
		require.NotNil(c.t, f, "the connection ended before %q", op)
		if f.Op == op {
			return f
		}
	}
}

// ended waits for the end of the connection.
func (c *client) ended() {
	c.t.Helper()
	for c.next() != nil {
	}
}

// send sends one message and waits for its result.
func (c *client) send(m wire.Send) wire.SendResult {
	c.t.Helper()
	c.n++
	if m.Type == "" {
		m.Type = "text"
	}
	c.write(&Frame{Op: OpSend, N: c.n, Send: &m})
	f := c.await(OpResult)
	require.Equal(c.t, c.n, f.N)
	return *f.Result
}

func (c *client) sent(m wire.Send) {
	c.t.Helper()
	require.Equal(c.t, wire.OutcomeSent, c.send(m).Outcome)
}

// events reads this many events.
func (c *client) events(count int) []Event {
	c.t.Helper()
	var list []Event
	for len(list) < count {
		list = append(list, *c.await(OpEvent).Event)
	}
	return list
}
