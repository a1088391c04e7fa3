package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"

	"kurir/egress"
	"kurir/worker"
	"kurir/worker/whatsapp/ratchet"
)

// connectTimeout is for WhatsApp to take a connection, and loginTimeout for the login that follows.
const (
	connectTimeout = 20 * time.Second
	loginTimeout   = time.Minute
)

// link is one connection to WhatsApp: a client of whatsmeow, which never connects a second time.
type link struct {
	c      *conn
	client *whatsmeow.Client
	device *store.Device
	linked bool // to a phone, when the link began
	people people
	buffer *buffer
	intake *worker.Intake
	login  login
	ctx    context.Context // ends with the link
	end    context.CancelCauseFunc
	socket context.Context // whatsmeow's, which ends after it has disconnected
	unplug context.CancelFunc
	over   chan struct{} // closed when nothing of it is left

	addressing sync.Map // of groups: do they name people by LID?
}

// connectOnce connects, and waits until the link ends. The error is never nil.
func (c *conn) connectOnce() (wasReady bool, err error) {
	if !c.session.Lease() {
		return false, worker.ErrLeaseLost
	}
	if c.engine.outdated.Load() {
		return false, endOutdated
	}
	l, err := c.open()
	if err != nil {
		return false, err
	}
	defer func() { wasReady = l.close() }()
	if err := c.hold(l); err != nil {
		return false, err
	}
	if err := l.connect(); err != nil {
		return false, err
	}
	<-l.ctx.Done()
	return false, context.Cause(l.ctx)
}

// close ends the link, and reports whether it took sends.
func (l *link) close() (wasReady bool) {
	defer close(l.over)
	l.end(errHungUp) // unless there is a reason already
	l.c.mu.Lock()
	wasReady = l.c.ready
	l.c.link, l.c.ready = nil, false
	l.c.mu.Unlock()
	l.disconnect()
	l.intake.Close()
	return wasReady
}

// remoteTimeout is for WhatsApp to close a connection that it has ended.
const remoteTimeout = 2 * time.Second

// settleTime is for whatsmeow to forget a socket that is closed already.
const settleTime = 20 * time.Millisecond

// disconnect lets one side alone close the socket: whatsmeow does not bear that both do at once, and a panic in its own
// goroutines would end the process. So its context goes on until then, and what WhatsApp ends, WhatsApp closes.
func (l *link) disconnect() {
	defer l.unplug()
	var end *ending
	if errors.As(context.Cause(l.ctx), &end) {
		late := time.Now().Add(remoteTimeout)
		for l.client.IsConnected() && time.Now().Before(late) {
			time.Sleep(time.Millisecond) // whatsmeow has nothing to wait for
		}
		time.Sleep(settleTime)
	}
	l.client.Disconnect()
}

// open claims the session and makes its client.
func (c *conn) open() (*link, error) {
	ctx, cancel := context.WithTimeout(c.ctx, connectTimeout)
	defer cancel()
	device, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	h, err := c.engine.httpClient(c.session)
	if err != nil {
		c.log.Error("the session's proxy cannot be used", "error", err)
		return nil, endProxy
	}
	l := &link{c: c, device: device, linked: device.ID != nil, over: make(chan struct{})}
	l.ctx, l.end = context.WithCancelCause(c.ctx)
	l.socket, l.unplug = context.WithCancel(context.WithoutCancel(c.ctx))
	l.intake = worker.NewIntake(l.ctx, c.session, c.sink, c.engine.log)
	if c.engine.prepare != nil {
		c.engine.prepare(device)
	}
	broken := func(err error) { l.end(err) }
	l.people = people{device, broken}
	if l.linked {
		device.MsgSecrets = messageSecrets{device.MsgSecrets, broken}
		l.buffer = &buffer{EventBuffer: device.EventBuffer, broken: broken, ratchet: c.ratchet}
		device.EventBuffer, device.SenderKeys = l.buffer, senderKeys{device.SenderKeys, broken}
		device.Sessions = c.ratchet.Sessions(ratchet.States(sessions{device.Sessions, broken}))
		device.Identities, device.PrivacyTokens = identities{device.Identities}, tokens{device.PrivacyTokens}
	}
	l.client = whatsmeow.NewClient(device, logger{c.log})
	l.client.SetPreLoginHTTPClient(h)
	l.client.SetWebsocketHTTPClient(h)
	l.client.SetMediaHTTPClient(&http.Client{Transport: mediaWay{h.Transport, c.engine.cfg.MediaMax}})
	l.configure()
	return l, nil
}

// load claims the session and reads its device, or makes one that is to be linked.
func (c *conn) load(ctx context.Context) (*store.Device, error) {
	jid, err := c.holder.claim(ctx)
	if errors.Is(err, errSuperseded) {
		return nil, endReplaced
	}
	if err == nil {
		err = c.engine.fillLIDs(ctx, !c.begun)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStorage, err)
	}
	c.begun = true
	devices := container(c.holder.db, logger{c.log}, c.engine.lids)
	var device *store.Device
	if !jid.IsEmpty() {
		if device, err = devices.GetDevice(ctx, jid); err != nil {
			return nil, fmt.Errorf("%w: %w", errStorage, err)
		}
	}
	switch {
	case device != nil:
		c.linkedOnce = true
		return device, nil
	case c.linkedOnce: // WhatsApp had no time to say so, or has given its address to another session
		return nil, endLoggedOut
	}
	return devices.NewDevice(), nil // also after a pairing that did not come to its end
}

// configure makes whatsmeow leave to us what is ours: when to connect, what is acknowledged, whose device it is.
func (l *link) configure() {
	cli := l.client
	cli.EnableAutoReconnect, cli.InitialAutoReconnect, cli.DisableLoginAutoReconnect = false, false, true
	cli.SynchronousAck, cli.EnableDecryptedEventBuffer = true, true
	cli.AutomaticMessageRerequestFromPhone = true
	cli.ManualHistorySyncDownload = true // no history is imported
	cli.BackgroundEventCtx = l.socket
	cli.RefreshCAT = func(context.Context) error { return errRefused } // whatsmeow calls it whether there is one or not
	cli.GetMessageForRetry = l.again
	cli.PrePairCallback = l.adopt
	cli.AddEventHandlerWithSuccessStatus(l.handle)
}

// connect returns when WhatsApp has taken the connection; the login goes on by itself.
func (l *link) connect() error {
	if !l.c.session.Lease() {
		return worker.ErrLeaseLost
	}
	slow := time.AfterFunc(connectTimeout, func() { l.end(l.c.unreachable(context.DeadlineExceeded)) })
	defer slow.Stop()
	given := context.AfterFunc(l.ctx, l.unplug)
	err := l.client.ConnectContext(l.socket)
	given()
	if err != nil {
		if errors.Is(err, worker.ErrLeaseLost) {
			return worker.ErrLeaseLost
		}
		return l.c.unreachable(err)
	}
	if l.linked {
		time.AfterFunc(loginTimeout, func() {
			if !l.client.IsLoggedIn() {
				l.end(l.c.unreachable(errNoLogin))
			}
		})
	}
	return nil
}

var errNoLogin = errors.New("no answer to the login")

// unreachable is why there is no connection. Of a proxy's failures it says what its owner can act on: it may have any words of its own.
func (c *conn) unreachable(err error) error {
	switch {
	case c.session.Proxy == "":
		return fmt.Errorf("%w: %w", errUnreachable, err)
	case errors.Is(err, errNoLogin):
		return fmt.Errorf("%w: %w", errProxy, err)
	}
	return fmt.Errorf("%w: %s", errProxy, egress.Explain(err))
}

// hold makes l the present link, unless nobody has scanned in time.
func (c *conn) hold(l *link) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.qrOver {
		return endQRTimeout
	}
	c.link = l
	return nil
}

// present is the link that there is, nil between two.
func (c *conn) present() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link
}

// lidsStale is how old the map of numbers and LIDs may be where a session was here all along. All of it is read each time, while
// nobody else can look anything up.
const lidsStale = 10 * time.Minute

// fillLIDs reads which numbers and LIDs belong together, as other workers may have learnt it: anew for a session that another one
// may have held before. A cache that is not filled would lose the device's number when it looks several up. Of those who ask at once, one reads.
func (e *Engine) fillLIDs(ctx context.Context, anew bool) error {
	turn := e.lidsAsked.Add(1)
	e.lidsMu.Lock()
	defer e.lidsMu.Unlock()
	if e.lidsFilled >= turn || !anew && time.Since(e.lidsRead) < lidsStale {
		return nil
	}
	upTo, at := e.lidsAsked.Load(), time.Now()
	if err := e.lids.FillCache(ctx); err != nil {
		return fmt.Errorf("read the numbers of LIDs: %w", err)
	}
	e.lidsFilled, e.lidsRead = upTo, at
	return nil
}

// adopt is called before a pairing is completed.
func (l *link) adopt(jid types.JID, _, _ string) bool {
	defer l.c.guard("a pairing")
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	if !l.c.session.Lease() {
		return false
	}
	if err := l.c.holder.adopt(ctx, jid); err != nil {
		l.c.log.Warn("a device is not linked: the database does not take it", "error", redact(err.Error()))
		return false
	}
	return true
}
