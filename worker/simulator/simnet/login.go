package simnet

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"
)

// login makes c the holder of its session, as WhatsApp does it: the new login replaces the old one, whoever it is.
func (n *Network) login(ctx context.Context, wg *sync.WaitGroup, c *conn) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.epoch < s.topEpoch {
		n.doubles.Add(1)
		n.log.Warn("simulated network: an older holder logged in", slog.String("session", s.id),
			slog.String("worker", c.worker), slog.Int64("epoch", c.epoch), slog.Int64("highest", s.topEpoch))
	}
	s.epoch, s.topEpoch = c.epoch, max(c.epoch, s.topEpoch)
	if s.conn != nil {
		s.conn.replace(c)
	}
	s.conn = c
	switch {
	case s.banned:
		s.conn = nil
		c.finish(OpBanned)
	case s.linked:
		s.welcome(c)
	default:
		wg.Go(func() { n.offerQR(ctx, c) })
	}
}

// leave ends c's hold, unless somebody else has it already.
func (n *Network) leave(c *conn) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.conn == c {
		c.s.conn = nil
	}
}

// offerQR shows one code after the other until somebody scans one.
func (n *Network) offerQR(ctx context.Context, c *conn) {
	var scan <-chan time.Time // nil: nobody comes by himself
	if d := time.Duration(n.settings.Load().ScanDelay); d >= 0 {
		scan = time.After(d)
	}
	for {
		code := QR{Code: "SIMULATED@" + c.s.id + "," + rand.Text(), ExpiresAt: time.Now().Add(n.qrInterval).UTC()}
		c.queue(&Frame{Op: OpQR, QR: &code})
		c.kick()
		select {
		case <-ctx.Done():
			return
		case <-time.After(n.qrInterval):
			continue
		case <-scan:
		case <-c.scan:
		}
		n.link(c)
		return
	}
}

// link gives the session its device and number.
func (n *Network) link(c *conn) {
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || s.linked {
		return
	}
	s.linked = true
	if s.number, s.paired = s.paired, ""; s.number != "" {
		n.phones.get(s.number).owner.Store(s)
	} else {
		s.number = n.phones.allot(s, s.salt)
	}
	n.journal.add(entry{Op: opLink, Session: s.id, Number: s.number})
	c.queue(&Frame{Op: OpLinked, PhoneNumber: "+" + s.number})
	s.welcome(c)
}

// forget unlinks the device and hangs up. Callers hold s.mu.
func (n *Network) forget(s *session) {
	if s.banned {
		s.salt++ // the next device has another number
	}
	s.linked, s.banned = false, false
	s.events.forget()
	n.journal.add(entry{Op: opUnlink, Session: s.id})
	s.hangUp(OpLoggedOut)
}

// hangUp ends the present connection with a last word. Callers hold s.mu.
func (s *session) hangUp(op string) {
	if s.conn != nil {
		s.conn.finish(op)
		s.conn = nil
	}
}
