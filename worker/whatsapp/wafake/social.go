package wafake

import (
	"go.mau.fi/whatsmeow/types"
)

// social is what an account shows of itself and what it looks at.
type social struct {
	available bool
	watchers  map[*device]bool // who has asked for the account's presence
	typing    []string         // what the account was shown of others' typing
	rejected  []string         // the calls that were refused
	picture   []byte
	pictureID string
}

func (s *Server) handlePresence(c *conn, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.device == nil {
		return
	}
	a := c.device.account
	switch text(n, "type") {
	case "subscribe":
		whom := s.account(address(n, "to"))
		if whom == nil {
			return
		}
		if whom.watchers == nil {
			whom.watchers = map[*device]bool{}
		}
		whom.watchers[c.device] = true
		c.send(whom.presence(address(n, "to")))
	case "available", "unavailable":
		if name := text(n, "name"); name != "" {
			a.name = name
		}
		s.show(a, text(n, "type") == "available")
	}
}

func (a *account) presence(known types.JID) node {
	at := attrs{"from": known.ToNonAD()}
	if !a.available {
		at["type"], at["last"] = "unavailable", now()
	}
	return node{Tag: "presence", Attrs: at}
}

// show changes an account's presence and tells who looks. The caller has the lock.
func (s *Server) show(a *account, available bool) {
	a.available = available
	for d := range a.watchers {
		if d.conn != nil {
			d.conn.send(a.presence(a.jid()))
		}
	}
}

// silence makes an account unavailable that has no device left. The caller has the lock.
func (s *Server) silence(a *account) {
	for _, d := range a.devices {
		if d.conn != nil {
			return
		}
	}
	if a.available {
		s.show(a, false)
	}
}

func (s *Server) handleChatState(c *conn, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	children := n.GetChildren()
	if c.device == nil || len(children) == 0 {
		return
	}
	to := address(n, "to")
	var whom []*account
	out := node{Tag: "chatstate", Attrs: attrs{}, Content: n.Content}
	if g := s.groups[to]; g != nil {
		out.Attrs["from"], out.Attrs["participant"] = to, c.device.account.jid()
		for _, m := range g.members {
			whom = append(whom, m.account)
		}
	} else if a := s.account(to); a != nil {
		same, _ := c.device.as(to)
		out.Attrs["from"] = same.ToNonAD()
		whom = []*account{a}
	}
	state := children[0].Tag
	if text(&children[0], "media") == "audio" {
		state = "recording"
	}
	for _, a := range whom {
		if a == c.device.account {
			continue
		}
		a.typing = append(a.typing, state)
		for _, d := range a.devices {
			if d.conn != nil {
				d.conn.send(out)
			}
		}
	}
}

// Typing is what a number was shown of others' typing, in order: "composing", "recording", "paused".
func (s *Server) Typing(number string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.accounts[digits(number)]; a != nil {
		return append([]string{}, a.typing...)
	}
	return nil
}

func (s *Server) handleCall(c *conn, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reject := child(n, "reject")
	if a := s.account(address(n, "to")); a != nil && reject.Tag != "" {
		a.rejected = append(a.rejected, text(&reject, "call-id"))
	}
	c.send(node{Tag: "ack", Attrs: attrs{"class": "call", "id": text(n, "id"), "from": address(n, "to"), "type": reject.Tag}})
}

// Rejected is how often a call of a number was refused.
func (s *Server) Rejected(number, call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	times := 0
	if a := s.accounts[digits(number)]; a != nil {
		for _, id := range a.rejected {
			if id == call {
				times++
			}
		}
	}
	return times
}

// SetPicture gives a number a profile picture.
func (s *Server) SetPicture(number string, jpeg []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.open(digits(number))
	a.picture, a.pictureID = jpeg, s.id()
}
