package wafake

import "time"

// faults is how the network fails those under test: the linked devices.
type faults struct {
	outdated   bool
	down       bool
	uploads    int
	lose       int
	loseAck    int
	breaks     int
	ackDelay   time.Duration
	refusals   int
	refuseCode string
	duplicates int
	keys       int
	devices    int
	grouped    bool
	holds      map[string][]node // by number: messages that are held back from its linked devices
}

// due takes one from a counter.
func due(counter *int) bool {
	if *counter == 0 {
		return false
	}
	*counter--
	return true
}

func (f *faults) refuse() string {
	if due(&f.refusals) {
		return f.refuseCode
	}
	return ""
}

func (f *faults) hold(d *device, n node) bool {
	held, on := f.holds[d.account.number]
	if !on || d.id == 0 {
		return false
	}
	f.holds[d.account.number] = append(held, n)
	return true
}

func (f *faults) duplicate(d *device) bool { return d.id != 0 && due(&f.duplicates) }

// with changes how the network fails.
func (s *Server) with(change func(*faults)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.faults)
}

// Lose lets the next messages vanish: they reach nobody and are not acknowledged.
func (s *Server) Lose(messages int) { s.with(func(f *faults) { f.lose = messages }) }

// LoseAck delivers the next messages and acknowledges none.
func (s *Server) LoseAck(messages int) { s.with(func(f *faults) { f.loseAck = messages }) }

// BreakBeforeAck delivers the next messages and drops the connection instead of acknowledging.
func (s *Server) BreakBeforeAck(messages int) { s.with(func(f *faults) { f.breaks = messages }) }

// DelayAcks acknowledges messages that much later from now on.
func (s *Server) DelayAcks(by time.Duration) { s.with(func(f *faults) { f.ackDelay = by }) }

// Refuse takes none of the next messages, and answers with an error code instead.
func (s *Server) Refuse(messages int, code string) {
	s.with(func(f *faults) { f.refusals, f.refuseCode = messages, code })
}

// RefuseKeys answers the next queries for the keys of who is to be written to for the first time with an error.
func (s *Server) RefuseKeys(queries int) { s.with(func(f *faults) { f.keys = queries }) }

// HideDevices names no devices in the answers to the next queries for people's devices.
func (s *Server) HideDevices(queries int) { s.with(func(f *faults) { f.devices = queries }) }

// Duplicate hands each of the next messages to the linked devices twice.
func (s *Server) Duplicate(messages int) { s.with(func(f *faults) { f.duplicates = messages }) }

// GroupReceipts tells receipts of groups in the form that can speak for several members at once, or no longer.
func (s *Server) GroupReceipts(yes bool) { s.with(func(f *faults) { f.grouped = yes }) }

// Down lets no client connect, from now on or no longer. Who is connected stays so.
func (s *Server) Down(yes bool) { s.with(func(f *faults) { f.down = yes }) }

// RefuseUploads takes none of the next media.
func (s *Server) RefuseUploads(media int) { s.with(func(f *faults) { f.uploads = media }) }

// Outdated refuses every login because of the client's version, from now on or no longer.
func (s *Server) Outdated(yes bool) { s.with(func(f *faults) { f.outdated = yes }) }

// Hold keeps messages from a number's linked devices until Release.
func (s *Server) Hold(number string) {
	s.with(func(f *faults) {
		if f.holds == nil {
			f.holds = map[string][]node{}
		}
		f.holds[digits(number)] = []node{}
	})
}

// Release hands out what Hold kept, the last first if reversed.
func (s *Server) Release(number string, reversed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.faults.holds[digits(number)]
	delete(s.faults.holds, digits(number))
	a := s.accounts[digits(number)]
	if a == nil {
		return
	}
	for i := range held {
		if reversed {
			i = len(held) - 1 - i
		}
		for _, d := range a.devices {
			if d.id != 0 && d.conn != nil && d.conn.active {
				d.conn.send(held[i])
			}
		}
	}
}
