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

// A worker whose lease has lapsed gives the network no sign of life: another may hold the session by now.
func TestWithoutLeaseNoPingIsAnswered(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	accepted := make(chan *websocket.Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err == nil {
			accepted <- ws
			<-ctx.Done()
		}
	}))
	defer srv.Close()
	defer cancel()

	var lease atomic.Bool
	var refusals atomic.Int64
	lease.Store(true)
	s := session("s")
	s.Lease = func() bool {
		ok := lease.Load()
		if !ok {
			refusals.Add(1)
		}
		return ok
	}
	e := simulator.New(simulator.Config{SimnetURL: srv.URL, WorkerID: "w"})
	defer func() { require.NoError(t, e.Close()) }()
	_, err := e.Open(ctx, s, func(worker.Event) {})
	require.NoError(t, err)
	ws := <-accepted
	require.Equal(t, simnet.OpHello, readFrame(ctx, t, ws).Op)

	ping(ctx, t, ws, 1)
	require.EqualValues(t, 1, readFrame(ctx, t, ws).N)
	lease.Store(false)
	ping(ctx, t, ws, 2)
	require.Eventually(t, func() bool { return refusals.Load() > 0 }, patience, time.Millisecond)
	lease.Store(true)
	ping(ctx, t, ws, 3)
	pong := readFrame(ctx, t, ws)
	require.Equal(t, simnet.OpPong, pong.Op)
	require.EqualValues(t, 3, pong.N)
}

func ping(ctx context.Context, t *testing.T, ws *websocket.Conn, n int64) {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, simnet.AppendFrame(&out, &simnet.Frame{Op: simnet.OpPing, N: n}))
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
