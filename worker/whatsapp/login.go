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

// How long WhatsApp takes a QR code, the first one and those after it. A pairing code it takes as long as the connection shows QR
// codes, which is 160 seconds; pairingCode is what one lasts at least.
const (
	firstCode   = 60 * time.Second
	laterCode   = 20 * time.Second
	pairingCode = 2 * time.Minute
)

// login is what a link shows while it is not linked.
type login struct {
	codes []string
	next  *time.Timer
	until time.Time // when the last one is over; zero: there are none yet
}

// showCodes shows QR codes one after the other. When there is none left, a new connection brings more.
func (l *link) showCodes(codes []string) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.c.qrLimit == nil {
		l.c.qrLimit, l.c.qrUntil = time.AfterFunc(l.c.engine.cfg.QRTimeout, l.c.giveUpQR), time.Now().Add(l.c.engine.cfg.QRTimeout)
	}
	l.login.codes, l.login.until = codes, time.Now().Add(firstCode+time.Duration(len(codes)-1)*laterCode)
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
	l, until, err := c.pairable(ctx)
	if err != nil {
		return out, err
	}
	code, err := l.client.PairPhone(ctx, strings.TrimPrefix(in.PhoneNumber, "+"), true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	switch {
	case errors.Is(err, whatsmeow.ErrPhoneNumberTooShort), errors.Is(err, whatsmeow.ErrPhoneNumberIsNotInternational):
		return out, wire.Refuse(wire.CodeInvalidRequest, "expected a number with its country code, in digits")
	case err != nil:
		return out, refusal(err)
	}
	return wire.PairingCode{Code: code, ExpiresAt: until.UTC()}, nil
}

const pairingPoll = 20 * time.Millisecond

// pairable is a link that shows codes for long enough, and until when; if the present one does not, one that begins anew. The session
// does not give up before its end.
func (c *conn) pairable(ctx context.Context) (*link, time.Time, error) {
	tick := time.NewTicker(pairingPoll)
	defer tick.Stop()
	for renewed := false; ; {
		l, until, err := c.showing(&renewed)
		if l != nil || err != nil {
			return l, until, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, until, wire.Refuse(wire.CodeQRNotReady, "the session does not wait for a phone yet")
		}
	}
}

// showing is one look for pairable: nil is to be repeated.
func (c *conn) showing(renewed *bool) (*link, time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, until := c.link, time.Time{}
	if l != nil && l.ctx.Err() == nil {
		until = l.login.until
	}
	switch {
	case !c.session.Lease():
		return nil, until, worker.ErrLeaseLost
	case c.ready && c.state.PhoneNumber != "":
		return nil, until, wire.Refuse(wire.CodeAlreadyLinked, "the session is linked")
	case c.state.Status != wire.StatusQRRequired, c.state.PhoneNumber != "", c.qrOver:
		return nil, until, wire.Refuse(wire.CodeQRNotReady, "the session does not wait for a phone")
	case until.IsZero():
		return nil, until, nil // it is between two links
	case time.Until(until) < pairingCode && !*renewed:
		*renewed = true
		c.state.QR, c.state.QRExpiresAt = "", nil
		l.end(errAnew)
		return nil, until, nil
	}
	if until.After(c.qrUntil) {
		c.qrUntil = until
		c.qrLimit.Reset(time.Until(until))
	}
	return l, until, nil
}
