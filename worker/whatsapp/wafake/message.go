package wafake

import (
	"fmt"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// handleMessage takes a message that a device sends, hands it to every device that it is for, and acknowledges it.
func (s *Server) handleMessage(c *conn, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.device == nil {
		return
	}
	s.witness.sent(c, n)
	if c.underTest() {
		if code := s.faults.refuse(); code != "" {
			c.send(messageAck(n, attrs{"error": code}))
			return
		}
		if due(&s.faults.lose) {
			return
		}
	}
	if code := s.route(c.device, n); code != "" {
		c.send(messageAck(n, attrs{"error": code}))
		return
	}
	if c.underTest() {
		switch {
		case due(&s.faults.breaks):
			s.end(c, "dropped")
			c.close()
			return
		case due(&s.faults.loseAck):
			return
		case s.faults.ackDelay > 0:
			ack := messageAck(n, nil)
			time.AfterFunc(s.faults.ackDelay, func() { c.send(ack) })
			return
		}
	}
	c.send(messageAck(n, nil))
}

// underTest tells whether the faults are for a connection. They are not for the people's phones and companions.
func (c *conn) underTest() bool { return !strings.HasPrefix(c.from, personLabel) }

func messageAck(n *node, more attrs) node {
	a := attrs{"class": "message", "id": text(n, "id"), "from": address(n, "to"), "t": now()}
	for key, value := range more {
		a[key] = value
	}
	return node{Tag: "ack", Attrs: a}
}

// route hands a message on. It returns the code of an error, or "". The caller has the lock.
func (s *Server) route(from *device, n *node) string {
	to := address(n, "to")
	if to.Server == types.GroupServer {
		return s.routeGroup(from, to, n)
	}
	if s.account(to) == nil {
		return "404"
	}
	if to.Device != 0 || child(n, "participants").Tag == "" {
		if d := s.device(to); d != nil && d != from { // a resend for one device, or one for the own phone, unless it is that
			s.deliver(d, direct(from, to, d, n, sealed(n)))
		}
		return ""
	}
	for _, one := range recipients(n) {
		if d := s.device(address(&one, "jid")); d != nil {
			s.deliver(d, direct(from, address(&one, "jid"), d, n, sealed(&one)))
		}
	}
	return ""
}

// direct is a message of a chat of two as one device gets it, which the sender knows under an address.
func direct(from *device, known types.JID, to *device, n *node, enc []node) node {
	hidden := from.account.hidden && to.account != from.account
	if hidden {
		known = from.lid()
	}
	same, other := from.as(known)
	a := envelope(from, n)
	a["from"] = same
	suffix := "lid"
	if same.Server == types.HiddenUserServer {
		suffix = "pn"
	}
	switch {
	case to.account == from.account:
		recipient := address(n, "to").ToNonAD()
		if r := address(n, "recipient"); !r.IsEmpty() {
			recipient = r
		}
		if category := text(n, "category"); category == "" {
			a["recipient"] = recipient
		}
	case !hidden:
		a["sender_"+suffix] = other.ToNonAD()
	}
	return node{Tag: "message", Attrs: a, Content: append(enc, companions(n, enc)...)}
}

// envelope is what a message says of itself to everybody.
func envelope(from *device, n *node) attrs {
	a := attrs{"id": text(n, "id"), "t": now(), "type": text(n, "type"), "notify": from.account.name}
	for _, key := range []string{"edit", "category"} {
		if value := text(n, key); value != "" {
			a[key] = value
		}
	}
	return a
}

func recipients(n *node) []node {
	list := child(n, "participants")
	return list.GetChildrenByTag("to")
}

func sealed(n *node) []node { return n.GetChildrenByTag("enc") }

// companions are the children of a message that every device gets; the identity only where a session begins.
func companions(n *node, enc []node) []node {
	var out []node
	for _, child := range n.GetChildren() {
		switch child.Tag {
		case "meta", "biz", "bot":
			out = append(out, child)
		case "device-identity":
			for _, e := range enc {
				if text(&e, "type") == "pkmsg" {
					out = append(out, child)
				}
			}
		}
	}
	return out
}

// Publish lets a channel write to those who follow it, and returns the message's ID. It is not encrypted.
func (s *Server) Publish(channel types.JID, m *waE2E.Message, followers ...string) (types.MessageID, error) {
	plain, err := proto.Marshal(m)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fmt.Sprintf("CHANNEL%08X", s.number())
	for _, number := range followers {
		a := s.accounts[digits(number)]
		if a == nil {
			return "", fmt.Errorf("%s is nobody", number)
		}
		for _, d := range a.devices {
			s.deliver(d, node{
				Tag:     "message",
				Attrs:   attrs{"from": channel, "id": id, "server_id": s.number() + 99, "t": now(), "type": "text"},
				Content: []node{{Tag: "plaintext", Content: plain}},
			})
		}
	}
	return id, nil
}
