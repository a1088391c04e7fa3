package whatsapp

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"

	"kurir/wire"
	"kurir/worker"
)

// How long WhatsApp takes a QR code, the first one and those after it, and a pairing code.
const (
	firstCode   = 60 * time.Second
	laterCode   = 20 * time.Second
	pairingCode = 160 * time.Second
)

// login is what a link shows while it is not linked.
type login struct {
	codes []string
	next  *time.Timer
}

// showCodes shows QR codes one after the other. When there is none left, a new connection brings more.
func (l *link) showCodes(codes []string) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.c.qrLimit == nil {
		l.c.qrLimit = time.AfterFunc(l.c.engine.cfg.QRTimeout, l.c.giveUpQR)
	}
	l.login.codes = codes
	if l.login.next != nil {
		l.login.next.Stop()
	}
	go l.turn(firstCode)
}

// turn shows the next code.
func (l *link) turn(lasts time.Duration) {
	defer l.c.guard("the QR codes")
	c := l.c
	c.mu.Lock()
	if c.link != l || l.ctx.Err() != nil {
		c.mu.Unlock()
		return
	}
	if len(l.login.codes) == 0 {
		c.mu.Unlock()
		l.end(errAnew) // nothing is wrong: the next link begins at once
		return
	}
	code, until := l.login.codes[0], time.Now().Add(lasts).UTC()
	l.login.codes = l.login.codes[1:]
	c.state.QR, c.state.QRExpiresAt = code, &until
	l.login.next = time.AfterFunc(lasts, func() { l.turn(laterCode) })
	c.mu.Unlock()
	c.setStatus(wire.StatusQRRequired, "")
	c.sink(worker.Event{
		Type: wire.EventSessionQR, Kind: wire.EventSessionQR, Timestamp: time.Now().UTC(),
		Data: wire.QRData{QR: code, ExpiresAt: until},
	})
}

// giveUpQR ends a session that nobody has scanned.
func (c *conn) giveUpQR() {
	defer c.guard("giving up")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.qrOver = true
	if c.link != nil {
		c.link.end(endQRTimeout)
	}
}

// linked notes whose session it is.
func (c *conn) linked(number string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.PhoneNumber = "+" + number
	if c.qrLimit != nil {
		c.qrLimit.Stop()
		c.qrLimit = nil
	}
}

// loggedIn takes sends from now on.
func (l *link) loggedIn() {
	c := l.c
	c.linked(l.people.own().User)
	c.mu.Lock()
	if c.link != l {
		c.mu.Unlock()
		return
	}
	c.ready = !c.closing && !c.renew
	c.mu.Unlock()
	c.setStatus(wire.StatusConnected, "")
}

// PairingCode implements worker.Pairer.
func (c *conn) PairingCode(ctx context.Context, in wire.Pairing) (out wire.PairingCode, err error) {
	c.mu.Lock()
	l, ready, state := c.link, c.ready, c.state
	c.mu.Unlock()
	switch {
	case !c.session.Lease():
		return out, worker.ErrLeaseLost
	case ready && state.PhoneNumber != "":
		return out, wire.Refuse(wire.CodeAlreadyLinked, "the session is linked")
	case l == nil || state.Status != wire.StatusQRRequired:
		return out, wire.Refuse(wire.CodeQRNotReady, "the session does not wait for a phone")
	}
	code, err := l.client.PairPhone(ctx, strings.TrimPrefix(in.PhoneNumber, "+"), true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	switch {
	case errors.Is(err, whatsmeow.ErrPhoneNumberTooShort), errors.Is(err, whatsmeow.ErrPhoneNumberIsNotInternational):
		return out, wire.Refuse(wire.CodeInvalidRequest, "expected a number with its country code, in digits")
	case err != nil:
		return out, refusal(err)
	}
	return wire.PairingCode{Code: code, ExpiresAt: time.Now().Add(pairingCode).UTC()}, nil
}
