package simulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator/simnet"
)

// writeTimeout ends a link of which the network reads nothing, though it still talks.
const writeTimeout = 10 * time.Second

var (
	errUnreachable = errors.New("the simulated network is not reachable")
	errSilent      = errors.New("the simulated network is silent")
	errHungUp      = errors.New("hung up")
)

// link is one WebSocket of a connection. Whatever is to be written waits here for the writer, which takes all of it at
// once; so it is known of every send whether it may have left.
type link struct {
	c      *conn
	ws     *websocket.Conn
	ctx    context.Context
	cancel context.CancelCauseFunc
	wake   chan struct{}
	writer sync.WaitGroup
	intake *worker.Intake

	mu      sync.Mutex
	over    bool               // settled: no send is taken any more
	nextN   int64              // of sends
	pending map[int64]*pending // sends without a result
	sends   []*pending         // of those, not taken by the writer
	asked   map[int64]*asking  // questions without an answer, numbered with the sends
	asks    []*asking          // of those, not taken by the writer
	acks    []int64
	pongs   []int64
	typing  []*simnet.Typing
	rejects []string      // calls
	bye     bool          // log out
	end     bool          // hang up once all of this is written
	idle    chan struct{} // closed when pending runs empty; nil unless somebody waits
}

// pending is one send without a result.
type pending struct {
	n       int64
	m       *wire.Send
	written bool         // the writer has taken it: it may have left
	done    chan outcome // holds one
}

type outcome struct {
	result wire.SendResult
	err    error
}

// dial connects and logs in.
func dial(c *conn) (*link, error) {
	if !c.session.Lease() {
		return nil, worker.ErrLeaseLost
	}
	ctx, stop := context.WithTimeout(c.ctx, c.engine.cfg.DialTimeout)
	defer stop()
	ws, _, err := websocket.Dial(ctx, c.engine.url, nil) //nolint:bodyclose // the library: it never has to be closed
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	if !c.session.Lease() { // dialling takes time, and it is the login that takes the session over
		_ = ws.CloseNow()
		return nil, worker.ErrLeaseLost
	}
	ws.SetReadLimit(-1)
	l := &link{c: c, ws: ws, wake: make(chan struct{}, 1), pending: map[int64]*pending{}}
	l.ctx, l.cancel = context.WithCancelCause(c.ctx)
	l.intake = worker.NewIntake(l.ctx, c.session, c.sink, c.engine.log)
	hello := simnet.Frame{Op: simnet.OpHello, Hello: &simnet.Hello{
		SessionID: c.session.ID, Epoch: c.session.Epoch, Worker: c.engine.cfg.WorkerID,
	}}
	if err := l.writeFrames(&hello); err != nil {
		l.cancel(err)
		_ = ws.CloseNow()
		return nil, err
	}
	l.writer.Go(l.write)
	return l, nil
}

// read hands out frames until the link ends, and says why.
func (l *link) read(handle func(*simnet.Frame) error) error {
	silence := l.c.engine.cfg.Silence
	watch := time.AfterFunc(silence, func() { l.cancel(errSilent) })
	defer watch.Stop()
	var in bytes.Buffer
	for {
		_, r, err := l.ws.Reader(l.ctx)
		if err == nil {
			in.Reset()
			_, err = in.ReadFrom(r)
		}
		if err != nil {
			if cause := context.Cause(l.ctx); cause != nil {
				return cause
			}
			return err
		}
		watch.Stop() // as long as we take no frames, it is not the network that is silent
		if err := simnet.EachFrame(in.Bytes(), handle); err != nil {
			return err
		}
		watch.Reset(silence)
	}
}

// close ends the link and waits for its writer and its intake.
func (l *link) close() {
	l.cancel(errHungUp)
	l.intake.Close()
	_ = l.ws.CloseNow()
	l.writer.Wait()
}

// settle answers the sends that have no result: one that the writer never took did not leave, of the others nobody
// knows.
func (l *link) settle() {
	l.cancel(errHungUp)
	l.writer.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.settleAsks()
	for n, p := range l.pending {
		if p.written {
			p.done <- outcome{result: unknown()}
		} else {
			p.done <- outcome{err: worker.ErrNotConnected}
		}
		l.remove(n)
	}
}

// remove forgets a pending send. Callers hold l.mu.
func (l *link) remove(n int64) {
	delete(l.pending, n)
	if len(l.pending) == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

func unknown() wire.SendResult {
	return wire.SendResult{Outcome: wire.OutcomeUnknown, Error: "the network did not answer", Timestamp: time.Now().UTC()}
}

// send queues one message and waits for its result, for the end of the link or of ctx.
func (l *link) send(ctx context.Context, m *wire.Send) (wire.SendResult, error) {
	p := &pending{m: m, done: make(chan outcome, 1)}
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return wire.SendResult{}, worker.ErrNotConnected
	}
	l.nextN++
	p.n = l.nextN
	l.pending[p.n] = p
	l.sends = append(l.sends, p)
	l.mu.Unlock()
	l.kick()

	select {
	case o := <-p.done:
		return o.result, o.err
	case <-ctx.Done():
		return l.abandon(ctx, p)
	}
}

// abandon gives up waiting. A send that the writer has not taken is taken back.
func (l *link) abandon(ctx context.Context, p *pending) (wire.SendResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case o := <-p.done:
		return o.result, o.err
	default:
	}
	l.remove(p.n)
	if p.written {
		return unknown(), nil
	}
	p.m = nil // the writer skips it
	return wire.SendResult{}, fmt.Errorf("%w: %w", worker.ErrNotConnected, ctx.Err())
}

// result settles a send.
func (l *link) result(n int64, r *wire.SendResult) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.pending[n]; p != nil && r != nil {
		p.done <- outcome{result: *r}
		l.remove(n)
	}
}

// ack tells the network, while this link lives, that an event is stored. After its end the network delivers the event
// again, and that delivery has an ack of its own.
func (l *link) ack(n int64) {
	l.mu.Lock()
	l.acks = append(l.acks, n)
	l.mu.Unlock()
	l.kick()
}

func (l *link) pong(n int64) {
	l.mu.Lock()
	l.pongs = append(l.pongs, n)
	l.mu.Unlock()
	l.kick()
}

// show tells a chat what the session's user does.
func (l *link) show(t *simnet.Typing) {
	l.mu.Lock()
	l.typing = append(l.typing, t)
	l.mu.Unlock()
	l.kick()
}

// reject refuses a call.
func (l *link) reject(call string) {
	l.mu.Lock()
	l.rejects = append(l.rejects, call)
	l.mu.Unlock()
	l.kick()
}

// logout asks the network to forget the device. The network answers by ending the link.
func (l *link) logout() {
	l.mu.Lock()
	l.bye = true
	l.mu.Unlock()
	l.kick()
}

// drain waits until no send is without a result.
func (l *link) drain(ctx context.Context) {
	l.mu.Lock()
	if len(l.pending) == 0 {
		l.mu.Unlock()
		return
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

// hangUp lets the writer write what waits, acknowledgements above all, and close the WebSocket in order, so that the
// network knows of it before Close returns.
func (l *link) hangUp(ctx context.Context) {
	l.mu.Lock()
	l.end = true
	l.mu.Unlock()
	l.kick()
	select {
	case <-l.ctx.Done():
	case <-ctx.Done():
	}
}

func (l *link) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
