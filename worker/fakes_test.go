package worker

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// engine is scripted: it does what its functions say, and connected sessions simply are.
type engine struct {
	mu    sync.Mutex
	conns []*conn                            // in order of opening
	renew func(context.Context, *conn) error // Reconnect; nil: the engine's connections have none
	open  func(context.Context, Session) error
	send  func(context.Context, *conn, wire.Send) (wire.SendResult, error)
	shut  func(context.Context, *conn) error // Close
	leave func(context.Context, *conn) error // Logout
	wrap  func(*conn) Conn                   // gives connections more abilities
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
	if e.renew != nil {
		return &renewable{c}, nil
	}
	if e.wrap != nil {
		return e.wrap(c), nil
	}
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

// renewable is a conn that can reconnect.
type renewable struct{ *conn }

func (r *renewable) Reconnect(ctx context.Context) error { return r.e.renew(ctx, r.conn) }

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

// logbook keeps what a node logs.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// bench is a node that runs in a synctest bubble, where time passes only while everybody waits.
type bench struct {
	*testing.T
	g    *gateway
	e    *engine
	n    *Node
	log  *logbook
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
		b := &bench{T: t, g: newGateway(), e: &engine{}, log: &logbook{}}
		cfg := testConfig()
		cfg.Logger = slog.New(slog.NewTextHandler(b.log, nil))
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

// outage lets the gateway be unreachable for this long.
func (b *bench) outage(d time.Duration) {
	b.g.with(func() {
		b.g.onBeat = func(wire.Heartbeat) error { return errBroken }
		b.g.onRegister = func(wire.Register) error { return errBroken }
	})
	b.pass(d)
	b.g.with(func() { b.g.onBeat, b.g.onRegister = nil, nil })
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
