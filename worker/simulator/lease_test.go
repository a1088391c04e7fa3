package simulator_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"kurir/worker"
	"kurir/worker/simulator"
	"kurir/worker/simulator/simnet"
)

// leased is a lease that can be taken away. It counts its refusals.
type leased struct {
	held     atomic.Bool
	refusals atomic.Int64
}

func (l *leased) ask() bool {
	ok := l.held.Load()
	if !ok {
		l.refusals.Add(1)
	}
	return ok
}

// bare starts a network that only accepts connections. Before, where set, happens between dialling and accepting.
func bare(ctx context.Context, t *testing.T, before func()) (url string, accepted <-chan *websocket.Conn) {
	connections := make(chan *websocket.Conn, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before()
		}
		ws, err := websocket.Accept(w, r, nil)
		if err == nil {
			connections <- ws
			<-ctx.Done()
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, connections
}

// A worker whose lease has lapsed gives the network no sign of life: another may hold the session by now. Nor does it
// acknowledge, since it cannot know what became of the event there.
func TestWithoutLeaseNothingIsWritten(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	url, accepted := bare(ctx, t, nil)
	t.Cleanup(cancel) // before the server waits for its connections
	var lease leased
	lease.held.Store(true)
	s := session("s")
	s.Lease = lease.ask
	e := simulator.New(simulator.Config{SimnetURL: url, WorkerID: "w", Silence: patience})
	defer func() { require.NoError(t, e.Close()) }()
	acks := make(chan func(), 1)
	_, err := e.Open(ctx, s, func(e worker.Event) {
		if e.Ack != nil {
			acks <- e.Ack
		}
	})
	require.NoError(t, err)
	ws := <-accepted
	require.Equal(t, simnet.OpHello, readFrame(ctx, t, ws).Op)

	ping(ctx, t, ws, 1)
	require.EqualValues(t, 1, readFrame(ctx, t, ws).N)
	write(ctx, t, ws, &simnet.Frame{Op: simnet.OpEvent, Event: &simnet.Event{N: 9, Kind: simnet.KindMessage, WhatsappID: "A"}})
	ack := <-acks
	refused := func(act func()) {
		t.Helper()
		before := lease.refusals.Load()
		act()
		require.Eventually(t, func() bool { return lease.refusals.Load() > before }, patience, time.Millisecond)
	}
	lease.held.Store(false)
	refused(func() { ping(ctx, t, ws, 2) })
	refused(ack)
	lease.held.Store(true)
	ping(ctx, t, ws, 3)
	pong := readFrame(ctx, t, ws)
	require.Equal(t, simnet.OpPong, pong.Op, "the acknowledgement was written after all")
	require.EqualValues(t, 3, pong.N)
}

// The login is what takes a session over, and dialling may take as long as a lease.
func TestWithoutLeaseNobodyLogsIn(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	var lease leased
	lease.held.Store(true)
	url, accepted := bare(ctx, t, func() { lease.held.Store(false) })
	t.Cleanup(cancel)
	s := session("s")
	s.Lease = lease.ask
	e := simulator.New(simulator.Config{SimnetURL: url, WorkerID: "w"})
	defer func() { require.NoError(t, e.Close()) }()
	c, err := e.Open(ctx, s, func(worker.Event) {})
	require.NoError(t, err)
	_, data, err := (<-accepted).Read(ctx)
	require.Error(t, err, "it wrote %s", data)
	require.Eventually(t, func() bool { return c.State().Reason == "lease_lost" }, patience, time.Millisecond)
}

func ping(ctx context.Context, t *testing.T, ws *websocket.Conn, n int64) {
	t.Helper()
	write(ctx, t, ws, &simnet.Frame{Op: simnet.OpPing, N: n})
}

func write(ctx context.Context, t *testing.T, ws *websocket.Conn, f *simnet.Frame) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, simnet.AppendFrame(&out, f))
	require.NoError(t, ws.Write(ctx, websocket.MessageText, out.Bytes()))
}

func readFrame(ctx context.Context, t *testing.T, ws *websocket.Conn) simnet.Frame {
	t.Helper()
	_, data, err := ws.Read(ctx)
	require.NoError(t, err)
	var frames []simnet.Frame
	require.NoError(t, simnet.EachFrame(data, func(f *simnet.Frame) error {
		frames = append(frames, *f)
		return nil
	}))
	require.Len(t, frames, 1)
	return frames[0]
}
