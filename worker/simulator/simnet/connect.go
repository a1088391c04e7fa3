package simnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"kurir/wire"
)

// conn is one worker's connection for one session.
type conn struct {
	net    *Network
	s      *session
	ws     *websocket.Conn
	cancel context.CancelFunc // ends the connection abruptly
	worker string
	epoch  int64
	ready  bool          // under s.mu
	scan   chan struct{} // somebody scans the QR now
	slow   chan slowSend // sends that wait out the latency; nil until the first

	replaced atomic.Bool  // another login took over
	rival    atomic.Int64 // ... of another worker: the first ping after that, until one is answered; else 0
	over     atomic.Bool  // the network is hanging up

	mu    sync.Mutex
	out   bytes.Buffer // frames to write
	pings int64
	last  bool // hang up once out is written
	wake  chan struct{}
}

type slowSend struct {
	n   int64
	m   *wire.Send
	due time.Time
}

const helloTimeout = 10 * time.Second

// connect serves one WebSocket from login to its end.
func (n *Network) connect(w http.ResponseWriter, r *http.Request) {
	if !n.enter() {
		http.Error(w, "the simulated network is closing", http.StatusServiceUnavailable)
		return
	}
	defer n.wg.Done()
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	ws.SetReadLimit(-1)
	ctx, cancel := context.WithCancel(n.ctx)
	defer func() { _ = ws.CloseNow() }()
	defer cancel()

	hello, err := readHello(ctx, ws)
	if err != nil {
		n.log.Info("simulated network: no login", slog.Any("error", err))
		return
	}
	c := &conn{
		net: n, s: n.session(hello.SessionID, true), ws: ws, cancel: cancel,
		worker: hello.Worker, epoch: hello.Epoch,
		scan: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.write(ctx) })
	n.login(ctx, &wg, c)
	err = c.read(ctx)
	n.log.Debug("simulated network: connection ended", slog.String("session", c.s.id), slog.Any("error", err))
	cancel()
	n.leave(c)
	if c.slow != nil {
		close(c.slow)
	}
	wg.Wait()
}

func readHello(ctx context.Context, ws *websocket.Conn) (*Hello, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	_, data, err := ws.Read(ctx)
	if err != nil {
		return nil, err
	}
	var hello *Hello
	err = EachFrame(data, func(f *Frame) error {
		if hello == nil && f.Op == OpHello {
			hello = f.Hello
			return nil
		}
		return fmt.Errorf("frame %q before hello was answered", f.Op)
	})
	if err == nil && (hello == nil || hello.SessionID == "") {
		err = errors.New("no hello with a sessionId")
	}
	return hello, err
}

func (c *conn) read(ctx context.Context) error {
	var in bytes.Buffer
	for {
		_, r, err := c.ws.Reader(ctx)
		if err != nil {
			return err
		}
		in.Reset()
		if _, err := in.ReadFrom(r); err != nil {
			return err
		}
		err = EachFrame(in.Bytes(), c.handle)
		c.kick()
		if err != nil {
			return err
		}
	}
}

func (c *conn) handle(f *Frame) error {
	switch {
	case f.Op == OpPong:
		// An answer to an earlier ping may have been on its way while its sender hung up in good order.
		if first := c.rival.Load(); first > 0 && f.N >= first && c.rival.CompareAndSwap(first, 0) {
			c.net.doubles.Add(1)
		}
	case c.replaced.Load() || c.over.Load():
		// What comes after the end of a connection is not heard.
	case f.Op == OpSend && f.Send != nil:
		c.take(f.N, f.Send)
	case f.Op == OpAck:
		c.s.acknowledge(c, f.Ack)
	case f.Op == OpAsk && f.Ask != nil:
		c.net.answerAsk(c, f.N, f.Ask)
	case f.Op == OpTyping && f.Typing != nil:
		c.net.seeTyping(c.s, f.Typing)
	case f.Op == OpReject:
		c.net.refuseCall(c.s, f.Call)
	case f.Op == OpLogout:
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		c.net.forget(c.s)
	default:
		return fmt.Errorf("unknown frame %q", f.Op)
	}
	return nil
}

// take shows a message after the network's latency.
func (c *conn) take(n int64, m *wire.Send) {
	latency := time.Duration(c.net.settings.Load().SendLatency)
	if c.slow == nil {
		if latency <= 0 || !c.net.enter() {
			c.net.take(c, n, m)
			return
		}
		c.slow = make(chan slowSend, 1024)
		go c.takeSlowly()
	}
	select {
	case c.slow <- slowSend{n, m, time.Now().Add(latency)}:
	case <-c.net.ctx.Done():
	}
}

// takeSlowly takes sends in the order of their arrival, also those whose connection has broken meanwhile: they had
// reached the network.
func (c *conn) takeSlowly() {
	defer c.net.wg.Done()
	for s := range c.slow {
		select {
		case <-time.After(time.Until(s.due)):
			c.net.take(c, s.n, s.m)
			c.kick()
		case <-c.net.ctx.Done():
		}
	}
}

// queue adds a frame; kick sends what was queued, so that frames of one moment share a write.
func (c *conn) queue(f *Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queueLocked(f)
}

func (c *conn) queueLocked(f *Frame) {
	if c.last {
		return
	}
	if err := AppendFrame(&c.out, f); err != nil {
		c.net.log.Error("simulated network: encode a frame", slog.Any("error", err))
	}
}

func (c *conn) kick() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// ping asks the worker for a sign of life; it has to answer with the number.
func (c *conn) ping() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pingLocked()
}

func (c *conn) pingLocked() {
	c.pings++
	c.queueLocked(&Frame{Op: OpPing, N: c.pings})
}

// finish sends a last frame and hangs up.
func (c *conn) finish(op string) {
	c.over.Store(true)
	c.mu.Lock()
	c.queueLocked(&Frame{Op: op})
	c.last = true
	c.mu.Unlock()
	c.kick()
}

// replace tells the holder that by took over. The connection is heard no more, but pinged on for a while: an answer
// from another worker is the proof that two held the session.
func (c *conn) replace(by *conn) {
	c.replaced.Store(true)
	c.mu.Lock()
	if c.worker != by.worker {
		c.rival.Store(c.pings + 1)
	}
	c.queueLocked(&Frame{Op: OpReplaced})
	c.pingLocked()
	c.mu.Unlock()
	c.kick()
	time.AfterFunc(replacedGrace, c.cancel)
}

func (c *conn) write(ctx context.Context) {
	defer c.cancel()
	tick := time.NewTicker(c.net.pingEach)
	defer tick.Stop()
	var out bytes.Buffer
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-tick.C:
			c.ping()
		}
		if c.replaced.Load() {
			tick.Reset(min(c.net.pingEach, replacedPingInterval))
		}
		last := c.swap(&out)
		if err := c.writeMessage(ctx, out.Bytes()); err != nil {
			return
		}
		if last {
			_ = c.ws.Close(websocket.StatusNormalClosure, "")
			return
		}
	}
}

// swap trades the frames that wait for an empty buffer and reports whether they are the last.
func (c *conn) swap(empty *bytes.Buffer) (last bool) {
	empty.Reset()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out, *empty = *empty, c.out
	return c.last
}

func (c *conn) writeMessage(ctx context.Context, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, b)
}
