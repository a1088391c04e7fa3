package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// gateway is a gateway in memory. It keeps one worker's term and lease as the protocol demands, and its hooks,
// where set, stand before that: a *wire.Error refuses, another error breaks the connection.
type gateway struct {
	lease, heartbeat time.Duration

	mu         sync.Mutex
	term       int64
	secret     string
	until      time.Time // of the lease
	drop       []string
	onRegister func(wire.Register) error
	onBeat     func(wire.Heartbeat) error
	onEvents   func(wire.EventBatch) error
	lose       func(wire.EventBatch) bool // take the batch but lose the answer

	registers []wire.Register
	beats     []wire.Heartbeat
	stored    []wire.Event // as accepted, in order
	next      int64
	batches   int
}

func newGateway() *gateway {
	return &gateway{lease: 12 * time.Second, heartbeat: 3 * time.Second}
}

var errBroken = errors.New("connection broken")

func (g *gateway) with(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *gateway) register(r wire.Register) (any, error) {
	g.registers = append(g.registers, r)
	if g.onRegister != nil {
		if err := g.onRegister(r); err != nil {
			return nil, err
		}
	}
	if time.Now().Before(g.until) {
		return nil, wire.Refuse(wire.CodeWorkerLive, "live")
	}
	g.term++
	g.secret = "secret-" + string(rune('a'+g.term))
	g.until = time.Now().Add(g.lease)
	g.next = 1
	return wire.Registered{
		WorkerID: r.WorkerID, Status: "registered", Term: g.term, Secret: g.secret,
		LeaseMs: g.lease.Milliseconds(), HeartbeatMs: g.heartbeat.Milliseconds(),
	}, nil
}

func (g *gateway) admit(secret string, term int64) error {
	if secret != g.secret {
		return wire.Refuse(wire.CodeUnauthenticated, "secret")
	}
	if term != g.term {
		return wire.Refuse(wire.CodeStaleTerm, "term")
	}
	return nil
}

func (g *gateway) beat(secret string, h wire.Heartbeat) (any, error) {
	if g.onBeat != nil {
		if err := g.onBeat(h); err != nil {
			return nil, err
		}
	}
	if err := g.admit(secret, h.Term); err != nil {
		return nil, err
	}
	g.beats = append(g.beats, h)
	g.until = time.Now().Add(g.lease)
	if h.Status == "offline" {
		g.until = time.Time{}
		g.secret = ""
	}
	return wire.HeartbeatAnswer{LeaseMs: g.lease.Milliseconds(), Drop: g.drop}, nil
}

func (g *gateway) events(secret string, b wire.EventBatch) (any, error) {
	g.batches++
	if g.onEvents != nil {
		if err := g.onEvents(b); err != nil {
			return nil, err
		}
	}
	if err := g.admit(secret, b.Term); err != nil {
		return nil, err
	}
	for i, e := range b.Events {
		if e.Seq != b.Events[0].Seq+int64(i) {
			return nil, wire.Refuse(wire.CodeInvalidRequest, "seqs are not consecutive")
		}
		if e.Seq == g.next {
			g.stored = append(g.stored, e)
			g.next++
		}
	}
	if g.lose != nil && g.lose(b) {
		return nil, errBroken
	}
	return wire.EventBatchAnswer{Next: g.next}, nil
}

// RoundTrip lets a client reach the gateway without a network, which a synctest bubble needs. As over a network, a
// client that gives up does not keep the gateway from acting.
func (g *gateway) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	type answer struct {
		res *http.Response
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		res, err := g.answer(r, body)
		answered <- answer{res, err}
	}()
	select {
	case a := <-answered:
		return a.res, a.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func (g *gateway) answer(r *http.Request, body []byte) (*http.Response, error) {
	secret := r.Header.Get(wire.HeaderSecret)
	g.mu.Lock()
	defer g.mu.Unlock()
	var data any
	var err error
	switch path := strings.TrimPrefix(r.URL.Path, "/api/v1/admin/workers"); {
	case path == "/register":
		data, err = g.register(decoded[wire.Register](body))
	case strings.HasSuffix(path, "/heartbeat"):
		data, err = g.beat(secret, decoded[wire.Heartbeat](body))
	case strings.HasSuffix(path, "/events"):
		data, err = g.events(secret, decoded[wire.EventBatch](body))
	}
	w := httptest.NewRecorder()
	var refusal *wire.Error
	switch {
	case errors.As(err, &refusal):
		w.WriteHeader(refusal.Status)
		_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": refusal.Code, "error": refusal.Message})
	case err != nil:
		return nil, err
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "data": data})
	}
	return w.Result(), nil
}

// ServeHTTP is the same over a network.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	res, err := g.RoundTrip(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer res.Body.Close()
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body)
}

func decoded[T any](b []byte) T {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		panic(err)
	}
	return v
}

func (g *gateway) lastBeat() wire.Heartbeat {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.beats[len(g.beats)-1]
}

func (g *gateway) storedIDs() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []string
	for _, e := range g.stored {
		ids = append(ids, e.EventID)
	}
	return ids
}

// engine is scripted: it does what its functions say, and connected sessions simply are.
type engine struct {
	mu    sync.Mutex
	conns []*conn // in order of opening
	open  func(context.Context, Session) error
	send  func(context.Context, *conn, wire.Send) (wire.SendResult, error)
	shut  func(context.Context, *conn) error // Close
	leave func(context.Context, *conn) error // Logout
	twice []string                           // sessions that were opened while open
}

func (*engine) Name() string { return "scripted" }
func (*engine) Close() error { return nil }

func (e *engine) Open(ctx context.Context, s Session, sink Sink) (Conn, error) {
	if e.open != nil {
		if err := e.open(ctx, s); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		if c.s.ID == s.ID && !c.closed() {
			e.twice = append(e.twice, s.ID)
		}
	}
	c := &conn{e: e, s: s, sink: sink}
	c.st = wire.SessionState{Status: wire.StatusConnected}
	e.conns = append(e.conns, c)
	return c, nil
}

// last is the connection opened last.
func (e *engine) last() *conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conns[len(e.conns)-1]
}

func (e *engine) connected() (ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		if !c.closed() {
			ids = append(ids, c.s.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

type conn struct {
	e    *engine
	s    Session
	sink Sink

	mu        sync.Mutex
	st        wire.SessionState
	closes    int
	loggedOut bool
	sent      []wire.Send
}

func (c *conn) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closes > 0 || c.loggedOut
}

func (c *conn) State() wire.SessionState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st
}

func (c *conn) set(st wire.SessionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.st = st
}

func (c *conn) Send(ctx context.Context, m wire.Send) (wire.SendResult, error) {
	if !c.s.Lease() {
		return wire.SendResult{}, ErrLeaseLost
	}
	c.mu.Lock()
	c.sent = append(c.sent, m)
	c.mu.Unlock()
	if c.e.send != nil {
		return c.e.send(ctx, c, m)
	}
	return wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: time.Now().UTC()}, nil
}

func (c *conn) sends() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sent)
}

func (c *conn) Close(ctx context.Context) error {
	if c.e.shut != nil {
		if err := c.e.shut(ctx, c); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.closes++
	c.mu.Unlock()
	c.sink(Event{Type: wire.EventSessionStatus, Data: wire.StatusData{Status: wire.StatusDisconnected}})
	return nil
}

func (c *conn) Logout(ctx context.Context) error {
	if c.e.leave != nil {
		if err := c.e.leave(ctx, c); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loggedOut = true
	return nil
}

// receive has the network deliver a message; acked, where given, takes its ID once it is acknowledged.
func (c *conn) receive(id string, acked func(string)) {
	e := Event{
		Type: wire.EventMessageReceived, Kind: "message", Message: id,
		Data: wire.ReceivedData{WhatsappID: id, Type: "text", Message: "hello"},
	}
	if acked != nil {
		e.Ack = func() { acked(id) }
	}
	c.sink(e)
}

// pipe is a listener without a network.
type pipe struct{ closed chan struct{} }

func (p *pipe) Accept() (net.Conn, error) { <-p.closed; return nil, net.ErrClosed }
func (p *pipe) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}
func (*pipe) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9} }

// bench is a node that runs in a synctest bubble, where time passes only while everybody waits.
type bench struct {
	*testing.T
	g    *gateway
	e    *engine
	n    *Node
	stop func() // ends Run and waits for it
}

func testConfig() Config {
	return Config{
		GatewayURL: "http://gateway", Token: "tok", ID: "w1", MaxSessions: 3, Version: "test",
		Logger: slog.New(slog.DiscardHandler),
		Usage:  func(context.Context) Usage { return Usage{CPU: 12, Memory: 34} },
	}
}

// onBench runs a test in a bubble. Prepare, where set, changes what the node is made of.
func onBench(t *testing.T, prepare func(*gateway, *engine, *Config), test func(*bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, g: newGateway(), e: &engine{}}
		cfg := testConfig()
		cfg.HTTPClient = &http.Client{Transport: b.g}
		cfg.Listener = &pipe{closed: make(chan struct{})}
		if prepare != nil {
			prepare(b.g, b.e, &cfg)
		}
		b.n = New(cfg, b.e)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- b.n.Run(ctx) }()
		var once sync.Once
		b.stop = func() {
			once.Do(func() {
				cancel()
				require.NoError(t, <-ended)
			})
		}
		defer b.stop()
		synctest.Wait()
		test(b)
		require.Empty(t, b.e.twice, "opened while open")
	})
}

// pass lets the bubble's clock run, and everybody finish what is due by then.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) term() int64 {
	id, _ := b.n.Credentials()
	return id
}

func (b *bench) create(id string, epoch int64) (wire.SessionState, error) {
	return b.n.Create(b.Context(), b.term(), wire.CreateSession{SessionID: id, Epoch: epoch})
}

func (b *bench) hold(id string, epoch int64) *conn {
	b.Helper()
	_, err := b.create(id, epoch)
	require.NoError(b, err)
	return b.e.last()
}

func message(whatsappID string, epoch, generation int64) wire.Send {
	return wire.Send{MessageID: "m", WhatsappID: whatsappID, Epoch: epoch, Generation: generation, To: "x", Type: "text"}
}

func (b *bench) refusedWith(code string, err error) {
	b.Helper()
	require.Equal(b, code, wire.Code(err), "%v", err)
}
