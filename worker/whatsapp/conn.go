package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker"
	"kurir/worker/whatsapp/ratchet"
)

// conn is one session's connection, over as many links as it takes. No event comes after Close or Logout has returned.
type conn struct {
	engine   *Engine
	session  worker.Session
	holder   *holder
	log      *slog.Logger
	out      worker.Sink
	ctx      context.Context // ends the connection at once
	cancel   context.CancelFunc
	done     chan struct{} // run has ended
	leaving  chan struct{} // closed when Close or Logout begins
	carriers carriers

	mu      sync.Mutex
	state   wire.SessionState
	link    *link // the present one, nil between two
	ready   bool  // it takes sends
	closing bool
	renew   bool        // the present link is to be followed by another at once
	inHand  tally       // sends and calls
	acks    tally       // acknowledgements on their way
	qrLimit *time.Timer // runs from the first QR code
	qrUntil time.Time   // when it runs out
	qrOver  bool        // it has run out

	unlinked bool // the device is no more

	recipients   *lru.Cache[string, types.JID] // looked up
	replacements replacements                  // of run's goroutine and its link's
	begun        bool                          // of run's goroutine: the session was claimed
	linkedOnce   bool                          // of run's goroutine: the session had a device

	ratchet *ratchet.Guard // over all links: the last one's writers may not have ended

	unlinking sync.Mutex // held while WhatsApp is asked to forget the device

	telling sync.Mutex // guards quiet; held while an event is passed on
	quiet   bool       // nothing is told any more
}

func newConn(e *Engine, s worker.Session, sink worker.Sink) *conn {
	c := &conn{engine: e, session: s, out: sink, done: make(chan struct{}), leaving: make(chan struct{}), ratchet: ratchet.New()}
	c.log = e.log.With("session", s.ID, "epoch", s.Epoch)
	c.holder = newHolder(e.pool, s.ID, s.Epoch)
	c.state = wire.SessionState{SessionID: s.ID, Epoch: s.Epoch, Status: wire.StatusInitializing}
	c.ctx, c.cancel = context.WithCancel(e.ctx)
	c.recipients, _ = lru.New[string, types.JID](recipientsKept) // fails only for a size below 1
	c.carriers = c.newCarriers()
	return c
}

// sink passes an event on, unless the connection has been closed: whatsmeow's own goroutines end some time after it.
func (c *conn) sink(e worker.Event) {
	c.telling.Lock()
	defer c.telling.Unlock()
	if !c.quiet {
		c.out(e)
	}
}

// guard keeps a panic of one session's to itself.
func (c *conn) guard(what string) {
	if p := recover(); p != nil {
		c.engine.panics.Add(1)
		c.log.Error("panic", "in", what, "panic", redact(fmt.Sprint(p)), "stack", string(debug.Stack()))
	}
}

// run is keep, which begins anew where it panics.
func (c *conn) run() {
	defer close(c.done)
	for !c.keep() && c.pause(c.engine.cfg.BackoffMax) {
	}
}

// keep keeps the session connected until it is closed or WhatsApp has ended it for good: then it is over.
func (c *conn) keep() (over bool) {
	defer c.guard("keeping a session connected")
	var hurried int
	for attempt := 0; ; attempt++ {
		c.takeRenewal() // what Reconnect asked for of a link that ended otherwise: the next one is new anyhow
		began := time.Now()
		wasReady, err := c.attempt()
		if hurried++; wasReady || time.Since(began) > hurry {
			hurried = 0
		}
		c.unlinking.Lock() // a logout in hand decides how it goes on
		closing := c.isClosing()
		c.unlinking.Unlock()
		if closing || c.ctx.Err() != nil {
			return true
		}
		var end *ending
		switch {
		case errors.As(err, &end):
			if end.unlinked {
				c.forget()
			}
			c.ended(end)
			c.log.Warn("the session's connection ended", "status", end.status, "reason", end.reason, "until", end.until)
			if end.until.IsZero() || !c.pause(time.Until(end.until)) {
				return true
			}
			attempt = -1
			continue
		case errors.Is(err, errAnew) && hurried < hurriesAllowed:
			attempt = -1
			continue
		case c.takeRenewal():
			c.setStatus(wire.StatusReconnecting, reasonAsked)
			attempt = -1
			continue
		case wasReady:
			attempt = 0
		}
		c.engine.reconnects.Add(1)
		c.log.Info("the session reconnects", "reason", reasonOf(err), "error", redact(err.Error()))
		c.setStatus(wire.StatusReconnecting, reasonOf(err))
		if !c.pause(c.backoff(attempt)) {
			return true
		}
	}
}

// A new connection that is wanted begins at once, but WhatsApp is not stormed if it wants one after the other.
const (
	hurry          = 10 * time.Second
	hurriesAllowed = 4
)

// attempt is connectOnce without its panics.
func (c *conn) attempt() (wasReady bool, err error) {
	err = errPanic
	defer c.guard("a connection")
	return c.connectOnce()
}

// pause reports false if the connection ended meanwhile.
func (c *conn) pause(d time.Duration) bool {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// Errors of a link that ended, with which the next one begins by itself.
var (
	errAnew        = errors.New("a new connection is wanted, after a pairing or for more QR codes")
	errUnreachable = errors.New("WhatsApp is not reachable")
	errProxy       = errors.New("WhatsApp is not reachable by way of the session's proxy")
	errLost        = errors.New("the connection broke")
	errStorage     = errors.New("the database does not answer")
	errRefused     = errors.New("WhatsApp refused the connection")
	errPanic       = errors.New("the connection panicked")
	errHungUp      = errors.New("hung up")
)

func reasonOf(err error) string {
	for _, known := range []struct {
		err    error
		reason string
	}{{worker.ErrLeaseLost, reasonLeaseLost}, {errUnreachable, reasonUnreachable}, {errProxy, reasonProxyFailed}, {errStorage, reasonStorage}, {errRefused, reasonRefused}} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	return reasonLost
}

// backoff doubles with every attempt; half of it is chance, so that a thousand sessions do not come back as one.
func (c *conn) backoff(attempt int) time.Duration {
	d := c.engine.cfg.BackoffMin << min(attempt, 20)
	if d > c.engine.cfg.BackoffMax || d <= 0 {
		d = c.engine.cfg.BackoffMax
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // spreads retries; nobody gains by guessing it
}

// setStatus changes the state and reports it, if it is a change.
func (c *conn) setStatus(status, reason string) { c.become(status, reason, nil) }

// ended is setStatus for what ends the connection.
func (c *conn) ended(e *ending) {
	if e.until.IsZero() {
		c.become(e.status, e.reason, nil)
		return
	}
	until := e.until.UTC()
	c.become(e.status, e.reason, &until)
}

// become tells what has changed: another reason of the same status is news, and so is another end of a ban, or none any more.
func (c *conn) become(status, reason string, until *time.Time) {
	c.mu.Lock()
	if c.state.Status == status && c.state.Reason == reason && until == nil && c.state.Until == nil {
		c.mu.Unlock()
		return
	}
	c.state.Status, c.state.Reason, c.state.Until = status, reason, until
	if status != wire.StatusQRRequired {
		c.state.QR, c.state.QRExpiresAt = "", nil
	}
	data := wire.StatusData{Status: status, Reason: reason, PhoneNumber: c.state.PhoneNumber, Until: until}
	c.mu.Unlock()
	c.sink(worker.Event{Type: wire.EventSessionStatus, Kind: wire.EventSessionStatus, Timestamp: time.Now().UTC(), Data: data})
}

func (c *conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// takeRenewal reports whether Reconnect ended the link that was there last.
func (c *conn) takeRenewal() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	renew := c.renew
	c.renew = false
	return renew
}

// State implements worker.Conn.
func (c *conn) State() wire.SessionState {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// enter counts a send or a call in hand on the link that takes them, until leave.
func (c *conn) enter() (l *link, leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.session.Lease():
		return nil, nil, worker.ErrLeaseLost
	case !c.ready:
		return nil, nil, worker.ErrNotConnected
	}
	c.inHand.enter()
	return c.link, c.inHand.leave, nil
}

// busy counts an acknowledgement on a link on its way, until leave. False: the link has ended.
func (c *conn) busy(l *link) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return nil, false
	}
	c.acks.enter()
	return c.acks.leave, true
}

// Settle implements worker.Settler.
func (c *conn) Settle(ctx context.Context) { c.acks.wait(ctx) }

// drain waits for what is in hand, for as long as ctx allows.
func (c *conn) drain(ctx context.Context) {
	c.inHand.wait(ctx)
	c.acks.wait(ctx)
}

// tally counts what is in hand.
type tally struct {
	mu    sync.Mutex
	count int
	none  chan struct{} // closed when nothing is in hand any more; nil unless somebody waits
}

func (t *tally) enter() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
}

func (t *tally) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count--
	if t.count == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
}

func (t *tally) wait(ctx context.Context) {
	t.mu.Lock()
	if t.count == 0 {
		t.mu.Unlock()
		return
	}
	if t.none == nil {
		t.none = make(chan struct{})
	}
	none := t.none
	t.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
}
