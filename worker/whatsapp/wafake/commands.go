package wafake

import (
	"fmt"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// connections are those of a number's linked devices. The caller has the lock.
func (s *Server) connections(number string) []*conn {
	var out []*conn
	if a := s.accounts[digits(number)]; a != nil {
		for _, d := range a.devices {
			if d.id != 0 && d.conn != nil {
				out = append(out, d.conn)
			}
		}
	}
	return out
}

// each does something to the connections of a number's linked devices, and returns how many there were.
func (s *Server) each(number string, do func(*conn)) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.connections(number)
	for _, c := range all {
		do(c)
	}
	return len(all)
}

// Drop breaks the connections of a number's linked devices. It returns how many there were, as those below do.
func (s *Server) Drop(number string) int {
	return s.each(number, func(c *conn) { s.end(c, "dropped"); c.close() })
}

// BlackHole makes the present connections of a number's linked devices swallow everything, both ways, without an end.
func (s *Server) BlackHole(number string) int {
	return s.each(number, func(c *conn) {
		c.outMu.Lock()
		defer c.outMu.Unlock()
		c.mute = true
	})
}

// Replace ends the connections of a number's linked devices as if another client had logged in with their keys.
func (s *Server) Replace(number string) int {
	return s.each(number, func(c *conn) { s.end(c, "replaced"); c.replaced() })
}

// Restart ends them as a network does that restarts.
func (s *Server) Restart(number string) int {
	return s.each(number, func(c *conn) { s.end(c, "dropped"); c.streamError("503") })
}

// Ban bans a number for a while and ends the connections of its linked devices. code is one of events.TempBanReason.
func (s *Server) Ban(number string, code int, lasts time.Duration) {
	s.refuse(number, &ban{reason: "402", code: strconv.Itoa(code), expire: strconv.Itoa(int(lasts.Seconds()))})
}

// Lock bans a number for good.
func (s *Server) Lock(number string) { s.refuse(number, &ban{reason: "403"}) }

// Expire refuses a number's logins since a token of theirs has run out, which linked devices do not have.
func (s *Server) Expire(number string) { s.refuse(number, &ban{reason: "413"}) }

// Pardon lets a banned number log in again.
func (s *Server) Pardon(number string) { s.refuse(number, nil) }

func (s *Server) refuse(number string, why *ban) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open(digits(number)).ban = why
	if why == nil {
		return
	}
	for _, c := range s.connections(number) {
		s.end(c, "banned")
		c.close()
	}
}

// Unlink removes a number's linked devices, as its phone does. A device that is connected is told so; one that isn't
// learns it at its next login.
func (s *Server) Unlink(number string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[digits(number)]
	if a == nil {
		return 0
	}
	removed := 0
	for id, d := range a.devices {
		if id != 0 {
			s.remove(d, node{Tag: "conflict", Attrs: attrs{"type": "device_removed"}})
			removed++
		}
	}
	return removed
}

// remove takes a device from its account, and tells it why if there is a reason. The caller has the lock.
func (s *Server) remove(d *device, why ...node) {
	delete(d.account.devices, d.id)
	if c := d.conn; c != nil {
		s.end(c, "unlinked")
		if len(why) > 0 {
			c.streamError("401", why...)
		}
		c.finish()
	}
	s.announceDevices(d.account)
}

// Devices are a number's linked devices, the first one first.
func (s *Server) Devices(number string) []types.JID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []types.JID
	if a := s.accounts[digits(number)]; a != nil {
		for _, id := range a.ids() {
			if id != 0 {
				out = append(out, a.devices[id].jid())
			}
		}
	}
	return out
}

// Call lets a number call another, and returns the call's ID.
func (s *Server) Call(from, to string, video bool) (string, error) {
	caller, err := s.Person(from)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	callee := s.accounts[digits(to)]
	if callee == nil {
		return "", fmt.Errorf("%s is nobody", to)
	}
	d := s.accounts[caller.Number].devices[0]
	id, kind := fmt.Sprintf("CALL%08X", len(d.account.rejected)+s.number()), "audio"
	if video {
		kind = "video"
	}
	for _, other := range callee.devices {
		s.deliver(other, node{
			Tag:   "call",
			Attrs: attrs{"id": s.id(), "from": d.jid().ToNonAD(), "t": now(), "platform": "android", "version": "2.24.1"},
			Content: []node{{
				Tag: "offer", Attrs: attrs{"call-id": id, "call-creator": d.jid()},
				Content: []node{{Tag: kind, Attrs: attrs{"enc": "opus", "rate": "16000"}}},
			}},
		})
	}
	return id, nil
}
