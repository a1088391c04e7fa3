package wafake

import (
	"maps"
	"slices"

	"go.mau.fi/whatsmeow/types"
)

// pending is a stanza that a device has not acknowledged. It goes out again at the device's next login.
type pending struct{ node node }

func clone(a attrs) attrs {
	if a == nil {
		return attrs{}
	}
	return maps.Clone(a)
}

// deliver keeps a stanza for a device until it acknowledges it, and hands it out if the device is there. The caller has
// the lock.
func (s *Server) deliver(d *device, n node) {
	d.queue = append(d.queue, &pending{n})
	if d.conn == nil || !d.conn.active {
		return
	}
	if n.Tag == "message" && s.faults.hold(d, n) {
		return
	}
	d.conn.send(n)
	if n.Tag == "message" && s.faults.duplicate(d) {
		d.conn.send(n)
	}
}

// settled forgets the first stanza of a kind and ID that waits for a device. The caller has the lock.
func (d *device) settled(tag, id string, participant types.JID) {
	for i, p := range d.queue {
		if p.node.Tag != tag || text(&p.node, "id") != id {
			continue
		}
		if from := address(&p.node, "participant"); !participant.IsEmpty() && !from.IsEmpty() && from.User != participant.User {
			continue
		}
		d.queue = slices.Delete(d.queue, i, i+1)
		return
	}
}

// handleAck takes a client's acknowledgement of a stanza.
func (s *Server) handleAck(c *conn, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.device != nil {
		c.device.settled(text(n, "class"), text(n, "id"), address(n, "participant"))
	}
}

// Waiting is how many stanzas a device has not acknowledged.
func (s *Server) Waiting(device types.JID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.device(device); d != nil {
		return len(d.queue)
	}
	return 0
}
