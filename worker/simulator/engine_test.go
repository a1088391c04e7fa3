package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker"
	"kurir/worker/enginetest"
	"kurir/worker/simulator"
	"kurir/worker/simulator/simnet"
)

const patience = 20 * time.Second

func TestConformance(t *testing.T) {
	n := start(t, simnet.Config{ScanDelay: -1})
	var engines atomic.Int64
	enginetest.Run(t, func(*testing.T) (worker.Engine, enginetest.Network) {
		e := simulator.New(simulator.Config{
			SimnetURL: n.url, WorkerID: fmt.Sprintf("worker-%d", engines.Add(1)), BackoffMin: 10 * time.Millisecond,
		})
		return e, n
	})
	r := n.net.Report()
	require.Zero(t, r.Duplicates)
	require.Zero(t, r.Reordered)
}

func TestAnUnscannedSessionGivesUp(t *testing.T) {
	n := start(t, simnet.Config{ScanDelay: -1})
	e := simulator.New(simulator.Config{SimnetURL: n.url, WorkerID: "w", QRTimeout: 50 * time.Millisecond})
	defer func() { require.NoError(t, e.Close()) }()
	var statuses sinkOfStatuses
	c, err := e.Open(context.Background(), session("s"), statuses.sink)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.State().Reason == "qr_timeout" }, patience, time.Millisecond)
	require.Equal(t, wire.StatusDisconnected, c.State().Status)
	require.Empty(t, c.State().QR)
	require.NoError(t, c.Logout(context.Background()), "there is nothing to forget")
	require.Equal(t, []string{"qr_required", "disconnected"}, statuses.list())
}

func TestSessionsSurviveARestartOfTheNetwork(t *testing.T) {
	cfg := simnet.Config{StatePath: filepath.Join(t.TempDir(), "journal")}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	stop := serve(t, cfg, listener)
	e := simulator.New(simulator.Config{SimnetURL: "http://" + address, WorkerID: "w", BackoffMin: 10 * time.Millisecond})
	defer func() { require.NoError(t, e.Close()) }()
	var statuses sinkOfStatuses
	c, err := e.Open(context.Background(), session("s"), statuses.sink)
	require.NoError(t, err)
	connected := func() bool { return c.State().Status == wire.StatusConnected }
	require.Eventually(t, connected, patience, time.Millisecond)

	stop()
	require.Eventually(t, func() bool { return c.State().Status == wire.StatusReconnecting }, patience, time.Millisecond)
	_, err = c.Send(context.Background(), wire.Send{WhatsappID: "A", To: "6281"})
	require.ErrorIs(t, err, worker.ErrNotConnected)
	listener, err = net.Listen("tcp", address)
	require.NoError(t, err)
	stop = serve(t, cfg, listener)
	defer stop()
	require.Eventually(t, connected, patience, time.Millisecond)
	require.Equal(t, []string{"qr_required", "connected", "reconnecting", "connected"}, statuses.list())
}

func TestOpenAfterCloseIsRefused(t *testing.T) {
	e := simulator.New(simulator.Config{SimnetURL: "http://127.0.0.1:1"})
	var statuses sinkOfStatuses
	c, err := e.Open(context.Background(), session("s"), statuses.sink)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.State().Reason == "unreachable" }, patience, time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Logout(ctx), worker.ErrNotConnected)
	require.NoError(t, e.Close())
	_, err = e.Open(context.Background(), session("s"), statuses.sink)
	require.Error(t, err)
}

// BenchmarkSend measures Conn.Send to its result over 50 sessions, 20 at a time each, receipts included.
func BenchmarkSend(b *testing.B) {
	const sessions, abreast = 50, 20
	n := start(b, simnet.Config{})
	e := simulator.New(simulator.Config{SimnetURL: n.url, WorkerID: "bench"})
	defer func() { require.NoError(b, e.Close()) }()
	conns := make([]worker.Conn, sessions)
	for i := range conns {
		c, err := e.Open(context.Background(), session(fmt.Sprint(i)), func(e worker.Event) {
			if e.Ack != nil {
				e.Ack()
			}
		})
		require.NoError(b, err)
		require.Eventually(b, func() bool { return c.State().Status == wire.StatusConnected }, patience, time.Millisecond)
		conns[i] = c
	}
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range sessions * abreast {
		wg.Go(func() {
			for j := next.Add(1); j <= int64(b.N); j = next.Add(1) {
				m := wire.Send{
					MessageID: fmt.Sprint(j), WhatsappID: fmt.Sprint(j), To: fmt.Sprintf("62899%07d1", j%1000),
					Type: "text", Message: "a message of ordinary length, as people write them",
				}
				if r, err := conns[i%sessions].Send(context.Background(), m); err != nil || r.Outcome != wire.OutcomeSent {
					b.Errorf("send: %+v, %v", r, err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sends/s")
}

func session(id string) worker.Session {
	return worker.Session{ID: id, Epoch: 1, Lease: func() bool { return true }}
}

type sinkOfStatuses struct {
	mu       sync.Mutex
	statuses []string
}

func (s *sinkOfStatuses) sink(e worker.Event) {
	if d, ok := e.Data.(wire.StatusData); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.statuses = append(s.statuses, d.Status)
	}
}

func (s *sinkOfStatuses) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.statuses...)
}

// farSide is enginetest.Network over the control endpoints.
type farSide struct {
	net *simnet.Network
	url string
}

func start(t testing.TB, cfg simnet.Config) *farSide {
	t.Helper()
	n, err := simnet.New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(n.Handler())
	t.Cleanup(func() {
		require.NoError(t, n.Close())
		srv.Close()
	})
	return &farSide{net: n, url: srv.URL}
}

// serve runs a network until stop.
func serve(t *testing.T, cfg simnet.Config, listener net.Listener) (stop func()) {
	t.Helper()
	n, err := simnet.New(cfg)
	require.NoError(t, err)
	srv := &http.Server{Handler: n.Handler(), ReadHeaderTimeout: patience}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(listener) // ends with ErrServerClosed
	}()
	return func() {
		require.NoError(t, srv.Close())
		<-done
		require.NoError(t, n.Close())
	}
}

func (f *farSide) post(t *testing.T, path string, body, answer any) {
	t.Helper()
	j, err := json.Marshal(body)
	require.NoError(t, err)
	resp, err := http.Post(f.url+path, "application/json", bytes.NewReader(j))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "POST %s: %s", path, text)
	if answer != nil {
		require.NoError(t, json.Unmarshal(text, answer))
	}
}

func (f *farSide) Scan(t *testing.T, session string) {
	f.post(t, "/sessions/"+session+"/scan", nil, nil)
}
func (f *farSide) Drop(t *testing.T, session string) {
	f.post(t, "/sessions/"+session+"/drop", nil, nil)
}
func (f *farSide) Unlink(t *testing.T, session string) {
	f.post(t, "/sessions/"+session+"/unlink", nil, nil)
}
func (f *farSide) Ban(t *testing.T, session string) { f.post(t, "/sessions/"+session+"/ban", nil, nil) }

func (f *farSide) Receive(t *testing.T, session, from, text string) string {
	t.Helper()
	var answer struct{ WhatsappID string }
	f.post(t, "/inject/message", map[string]any{"sessionId": session, "from": from, "text": text}, &answer)
	return answer.WhatsappID
}

func (f *farSide) LoseAnswer(t *testing.T) {
	f.post(t, "/config", map[string]any{"loseAnswerNext": 1}, nil)
}

func (f *farSide) Slow(t *testing.T, latency time.Duration) {
	f.post(t, "/config", map[string]any{"sendLatency": latency.String()}, nil)
}
