package worker

import (
	"kurir/wire"
)

const keptOutcomes = 512 // per session: more than a lane can have unsettled, some 50 KB when full

// outcomes remembers the last sends of a session by WhatsappID, so that a repeat is answered without the network
// and a repeat of one that is still on its way waits for it. Only what was sent is remembered: where nothing went out, or
// nobody knows, asking again is what is wanted. It is not safe for concurrent use; its session's mutex guards it.
type outcomes struct {
	known   map[string]wire.SendResult
	order   []string // of known, as a ring once it is full
	oldest  int
	flights map[string]*flight
}

// flight is a send on its way. Result and err are set before done is closed.
type flight struct {
	done   chan struct{}
	result wire.SendResult
	err    error
}

func newOutcomes() *outcomes {
	return &outcomes{known: map[string]wire.SendResult{}, flights: map[string]*flight{}}
}

// begin returns the flight of a message and whether the caller is the one who has to fly it.
func (o *outcomes) begin(id string) (f *flight, lead bool) {
	if f, ok := o.flights[id]; ok {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	if r, ok := o.known[id]; ok {
		f.result = r
		close(f.done)
		return f, false
	}
	o.flights[id] = f
	return f, true
}

// end lands a flight.
func (o *outcomes) end(id string, f *flight, r wire.SendResult, err error) {
	delete(o.flights, id)
	if err == nil && r.Outcome == wire.OutcomeSent {
		o.remember(id, r)
	}
	f.result, f.err = r, err
	close(f.done)
}

func (o *outcomes) remember(id string, r wire.SendResult) {
	if len(o.order) < keptOutcomes {
		o.order = append(o.order, id)
	} else {
		delete(o.known, o.order[o.oldest])
		o.order[o.oldest] = id
		o.oldest = (o.oldest + 1) % keptOutcomes
	}
	o.known[id] = r
}

// has reports whether the outcome of a message is known or on its way.
func (o *outcomes) has(id string) bool {
	_, known := o.known[id]
	_, flying := o.flights[id]
	return known || flying
}
