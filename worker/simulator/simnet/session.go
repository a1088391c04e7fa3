package simnet

import (
	"strings"
	"sync"
)

// session is what the network knows of one session: the device that it linked and who holds it now.
type session struct {
	id string

	mu       sync.Mutex
	linked   bool
	banned   bool
	number   string // of the linked phone; kept after unlinking, since the phone still exists
	salt     int    // numbers lost to bans
	conn     *conn  // its holder, nil if nobody
	epoch    int64  // of the last login
	topEpoch int64  // the highest of all logins
	messages int64  // shown
	events   eventQueue
	highest  map[string]int64 // by recipient: the highest lane position shown
	throttle throttle
	callers  map[string]string // by call: number of the phone that made it

	contacts map[string]string // names of the people whom the phone knows, by number; "" if it knows none
	pairing  *pairing          // a code that was asked for; nil if none
	paired   string            // number of the phone on which it was entered; "" after a scan
}

// knows adds a contact to the session's phone, and reports whether that is news. Callers hold s.mu.
func (s *session) knows(number, name string) bool {
	if strings.Contains(number, "@") {
		return false
	}
	was, known := s.contacts[number]
	if known && (name == "" || name == was) {
		return false
	}
	if s.contacts == nil {
		s.contacts = map[string]string{}
	}
	s.contacts[number] = name
	return true
}

// emit queues events for the device and sends what may go out now. A device that is not linked gets none.
func (s *session) emit(events ...Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emitLocked(events...)
}

func (s *session) emitLocked(events ...Event) {
	if !s.linked {
		return
	}
	for _, e := range events {
		s.events.push(e)
	}
	s.pump()
}

// pump sends the events that are due on the present connection. Callers hold s.mu.
func (s *session) pump() {
	if s.conn == nil || !s.conn.ready {
		return
	}
	sent := false
	for e := s.events.take(); e != nil; e = s.events.take() {
		s.conn.queue(&Frame{Op: OpEvent, Event: e})
		sent = true
	}
	if sent {
		s.conn.kick()
	}
}

// welcome makes c ready and delivers again what was not acknowledged. Callers hold s.mu.
func (s *session) welcome(c *conn) {
	c.ready = true
	c.queue(&Frame{Op: OpReady, PhoneNumber: "+" + s.number})
	s.events.rewind()
	s.pump()
	c.kick()
}

// acknowledge takes c's word for these events, if c is still the holder.
func (s *session) acknowledge(c *conn, ns []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c {
		return
	}
	for _, n := range ns {
		s.events.ack(n)
	}
	s.pump()
}

// rises records that a message of this lane position was shown to recipient and reports whether the order held.
// Position 0 is not judged. Callers hold s.mu.
func (s *session) rises(recipient string, seq int64) bool {
	if seq == 0 {
		return true
	}
	if seq < s.highest[recipient] {
		return false
	}
	if s.highest == nil {
		s.highest = map[string]int64{}
	}
	s.highest[recipient] = seq
	return true
}
