package wafake

import (
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// arrive lets a device log in, or shows QR codes to one that is not linked.
func (s *Server) arrive(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	phone := c.who.payload.GetUsername() != 0 && c.who.payload.GetDevice() == 0
	if s.faults.outdated && !phone {
		s.turnAway(c, attrs{"reason": "405"})
		return
	}
	if c.who.payload.GetUsername() == 0 {
		s.showCodes(c)
		return
	}
	number := strconv.FormatUint(c.who.payload.GetUsername(), 10)
	d := s.device(types.JID{User: number, Device: uint16(c.who.payload.GetDevice()), Server: types.DefaultUserServer}) //nolint:gosec // 16 bits by the protocol
	switch {
	case d == nil || d.static != c.who.static:
		s.turnAway(c, attrs{"reason": "401"})
		return
	case d.account.ban != nil && !phone:
		s.turnAway(c, d.account.ban.failure())
		return
	}
	if old := d.conn; old != nil {
		s.end(old, "replaced")
		old.replaced()
	}
	c.device, d.conn, d.from = d, c, c.from
	c.login = s.witness.login(d.jid(), c.from)
	c.send(node{Tag: "success", Attrs: attrs{
		"t": now(), "props": "1", "location": "wafake", "lid": d.lid(), "display_name": d.account.name,
	}})
}

func (b *ban) failure() attrs {
	a := attrs{"reason": b.reason}
	if b.code != "" {
		a["code"] = b.code
	}
	if b.expire != "" {
		a["expire"] = b.expire
	}
	return a
}

// turnAway refuses a login. The caller has the lock.
func (s *Server) turnAway(c *conn, why attrs) {
	who := types.JID{
		User:   strconv.FormatUint(c.who.payload.GetUsername(), 10),
		Device: uint16(c.who.payload.GetDevice()), //nolint:gosec // 16 bits by the protocol
		Server: types.DefaultUserServer,
	}
	at := time.Now()
	s.witness.refused = append(s.witness.refused, Login{Device: who, Client: c.from, From: at, To: at, End: why["reason"].(string)})
	c.send(node{Tag: "failure", Attrs: why})
	c.finish()
}

// streamError ends a connection and says why.
func (c *conn) streamError(code string, children ...node) {
	a := attrs{}
	if code != "" {
		a["code"] = code
	}
	c.send(node{Tag: "stream:error", Attrs: a, Content: children})
	c.finish()
}

func (c *conn) replaced() {
	c.streamError("", node{Tag: "conflict", Attrs: attrs{"type": "replaced"}})
}

// activate hands out what waits, and from now on all that comes. The caller has the lock.
func (s *Server) activate(c *conn) {
	if c.active || c.device == nil || c.device.conn != c {
		return
	}
	c.active = true
	waiting := c.device.queue
	count := map[string]int{}
	for _, p := range waiting {
		count[p.node.Tag]++
	}
	c.send(node{Tag: "ib", Attrs: attrs{"from": types.ServerJID}, Content: []node{{Tag: "offline_preview", Attrs: attrs{
		"count": len(waiting), "message": count["message"], "receipt": count["receipt"], "notification": count["notification"], "appdata": 0, "call": count["call"],
	}}}})
	for i, p := range waiting {
		n := p.node
		n.Attrs = clone(n.Attrs)
		n.Attrs["offline"] = strconv.Itoa(i)
		c.send(n)
	}
	c.send(node{Tag: "ib", Attrs: attrs{"from": types.ServerJID}, Content: []node{{Tag: "offline", Attrs: attrs{"count": len(waiting)}}}})
}

// gone notes that a connection is over.
func (s *Server) gone(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pairing, c)
	s.end(c, "closed")
	if c.link != nil {
		c.link.settle(errDropped)
	}
}

// end takes a connection from its device. The caller has the lock.
func (s *Server) end(c *conn, why string) {
	if c.device != nil && c.device.conn == c {
		c.device.conn = nil
		s.silence(c.device.account)
	}
	if c.login != nil {
		c.login.over(why)
	}
}
