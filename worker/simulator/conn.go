package simulator

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator/simnet"
)

// Reasons of a session's status.
const (
	reasonUnreachable = "unreachable"     // the network does not answer
	reasonLost        = "connection_lost" // it did, and the connection broke
	reasonAsked       = "reconnect_requested"
	reasonLeaseLost   = "lease_lost"
	reasonReplaced    = "replaced" // another login of the session took over
	reasonLoggedOut   = "logged_out"
	reasonBanned      = "banned"
	reasonQRTimeout   = "qr_timeout"
	reasonClosed      = "closed"
)

// conn is one session's connection, over as many links as it takes. Its events come from the goroutine of run, one after
// the other, but for messages that had to wait for a medium; none comes after Close or Logout has returned.
type conn struct {
	engine  *Engine
	session worker.Session
	sink    worker.Sink
	ctx     context.Context // ends the connection at once
	cancel  context.CancelFunc
	done    chan struct{} // run has ended
	leaving chan struct{} // closed when Close or Logout begins
	carrier *worker.Carrier[simnet.Medium]

	mu      sync.Mutex
	state   wire.SessionState
	link    *link // the present one, nil between two
	ready   bool  // it takes sends
	closing bool
	renew   bool        // the present link is to be followed by another at once
	qrLimit *time.Timer // runs from the first QR code
	qrOver  bool        // it has run out
}

func newConn(e *Engine, s worker.Session, sink worker.Sink) *conn {
	c := &conn{engine: e, session: s, sink: sink, done: make(chan struct{}), leaving: make(chan struct{})}
	c.state = wire.SessionState{SessionID: s.ID, Epoch: s.Epoch, Status: wire.StatusInitializing}
	c.ctx, c.cancel = context.WithCancel(e.ctx)
	c.carrier = worker.NewCarrier(c.ctx, s, e.checked, e.log)
	return c
}

// errLinkOver is why a link ended for good; run does not connect again.
type errLinkOver struct{ status, reason string }

func (e *errLinkOver) Error() string { return "the network ended the connection: " + e.reason }

// run keeps the session connected until it is closed or the network has ended it for good.
func (c *conn) run() {
	defer close(c.done)
	for attempt := 0; ; attempt++ {
		wasReady, err := c.connectOnce()
		if c.isClosing() || c.ctx.Err() != nil {
			return
		}
		var over *errLinkOver
		if errors.As(err, &over) {
			c.setStatus(over.status, over.reason)
			return
		}
		if wasReady {
			attempt = 0
		}
		if c.takeRenewal() {
			c.setStatus(wire.StatusReconnecting, reasonAsked)
			attempt = -1
			continue
		}
		c.engine.log.Debug("simulator: connection ended", slog.String("session", c.session.ID), slog.Any("error", err))
		c.setStatus(wire.StatusReconnecting, reasonOf(err))
		select {
		case <-time.After(c.backoff(attempt)):
		case <-c.ctx.Done():
			return
		}
	}
}

func reasonOf(err error) string {
	switch {
	case errors.Is(err, worker.ErrLeaseLost):
		return reasonLeaseLost
	case errors.Is(err, errUnreachable):
		return reasonUnreachable
	default:
		return reasonLost
	}
}

// backoff doubles with every attempt; half of it is chance, so that a thousand sessions do not come back as one.
func (c *conn) backoff(attempt int) time.Duration {
	d := c.engine.cfg.BackoffMin << min(attempt, 20)
	if d > c.engine.cfg.BackoffMax || d <= 0 {
		d = c.engine.cfg.BackoffMax
	}
	return d/2 + rand.N(d/2+1)
}

// connectOnce connects, and reads until the link ends. The error is never nil.
func (c *conn) connectOnce() (wasReady bool, err error) {
	l, err := dial(c)
	if err != nil {
		return false, err
	}
	defer l.close()
	if err := c.hold(l); err != nil {
		return false, err
	}
	err = l.read(func(f *simnet.Frame) error { return c.handle(l, f) })
	c.mu.Lock()
	wasReady = c.ready
	c.link, c.ready = nil, false
	c.mu.Unlock()
	l.intake.Close()
	l.settle()
	return wasReady, err
}

var errQRTimeout = &errLinkOver{wire.StatusDisconnected, reasonQRTimeout}

// hold makes l the present link, unless nobody has scanned in time.
func (c *conn) hold(l *link) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.qrOver {
		return errQRTimeout
	}
	c.link = l
	return nil
}

// giveUpQR ends a session that nobody has scanned.
func (c *conn) giveUpQR() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.qrOver = true
	if c.link != nil {
		c.link.cancel(errQRTimeout)
	}
}

// handle takes one frame of the network, on the goroutine of run.
func (c *conn) handle(l *link, f *simnet.Frame) error {
	switch f.Op {
	case simnet.OpQR:
		c.showQR(f.QR)
	case simnet.OpLinked:
		c.linked(f.PhoneNumber)
	case simnet.OpReady:
		c.linked(f.PhoneNumber)
		c.takeSends()
	case simnet.OpResult:
		l.result(f.N, f.Result)
	case simnet.OpAnswer:
		l.answer(f.N, f.Answer)
	case simnet.OpEvent:
		c.pass(l, f.Event)
	case simnet.OpPing:
		l.pong(f.N)
	case simnet.OpReplaced:
		return &errLinkOver{wire.StatusDisconnected, reasonReplaced}
	case simnet.OpLoggedOut:
		return &errLinkOver{wire.StatusDisconnected, reasonLoggedOut}
	case simnet.OpBanned:
		return &errLinkOver{wire.StatusError, reasonBanned}
	default:
		c.engine.log.Warn("simulator: unknown frame", slog.String("op", f.Op))
	}
	return nil
}

func (c *conn) showQR(qr *simnet.QR) {
	if qr == nil {
		return
	}
	c.mu.Lock()
	c.state.QR, c.state.QRExpiresAt = qr.Code, &qr.ExpiresAt
	if c.qrLimit == nil {
		c.qrLimit = time.AfterFunc(c.engine.cfg.QRTimeout, c.giveUpQR)
	}
	c.mu.Unlock()
	c.setStatus(wire.StatusQRRequired, "")
	c.sink(worker.Event{
		Type: wire.EventSessionQR, Kind: wire.EventSessionQR, Timestamp: time.Now().UTC(),
		Data: wire.QRData{QR: qr.Code, ExpiresAt: qr.ExpiresAt},
	})
}

func (c *conn) linked(number string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.PhoneNumber = number
	if c.qrLimit != nil {
		c.qrLimit.Stop()
		c.qrLimit = nil
	}
}

func (c *conn) takeSends() {
	c.mu.Lock()
	c.ready = !c.closing && !c.renew
	c.mu.Unlock()
	c.setStatus(wire.StatusConnected, "")
}

// setStatus changes the state and reports it, if it is a change.
func (c *conn) setStatus(status, reason string) {
	c.mu.Lock()
	if c.state.Status == status && c.state.Reason == reason {
		c.mu.Unlock()
		return
	}
	c.state.Status, c.state.Reason = status, reason
	if status != wire.StatusQRRequired {
		c.state.QR, c.state.QRExpiresAt = "", nil
	}
	data := wire.StatusData{Status: status, Reason: reason, PhoneNumber: c.state.PhoneNumber}
	c.mu.Unlock()
	c.sink(worker.Event{Type: wire.EventSessionStatus, Kind: wire.EventSessionStatus, Timestamp: time.Now().UTC(), Data: data})
}

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// State implements worker.Conn.
func (c *conn) State() wire.SessionState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Send implements worker.Conn.
func (c *conn) Send(ctx context.Context, m wire.Send) (wire.SendResult, error) {
	l, err := c.taking()
	switch {
	case err != nil:
		return wire.SendResult{}, err
	case !simnet.Sends(m.Type):
		return wire.SendResult{}, worker.ErrUnsupported
	}
	if r, err := c.carry(ctx, &m); err != nil {
		return wire.SendResult{}, err
	} else if r != nil {
		return *r, nil
	}
	if err := c.typing(ctx, l, &m); err != nil {
		return wire.SendResult{}, err
	}
	if l, err = c.taking(); err != nil { // time has passed
		return wire.SendResult{}, err
	}
	r, err := l.send(ctx, &m)
	if err == nil && (r.Outcome == wire.OutcomeSent || r.Outcome == wire.OutcomeFailed) {
		c.carrier.Drop(m.WhatsappID) // else the message comes again
	}
	return r, err
}

// taking is the link that takes sends now.
func (c *conn) taking() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.session.Lease():
		return nil, worker.ErrLeaseLost
	case !c.ready:
		return nil, worker.ErrNotConnected
	}
	return c.link, nil
}
