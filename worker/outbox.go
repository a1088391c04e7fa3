package worker

import (
	"context"
	"fmt"
	"sync"

	"kurir/wire"
)

const (
	batchEvents = 500     // most events of one batch
	batchBytes  = 1 << 20 // most data of one batch, unless it is a single event
)

// outbox is the queue of events that the gateway has not acknowledged, in the order in which they happened. It is
// memory only: what was not acknowledged to the gateway was not acknowledged to the network either, which delivers
// it again. Seqs belong to a term, so an event has one only by its place in the queue: first is that of queue[0].
type outbox struct {
	limit int           // events that may wait before add blocks
	done  chan struct{} // closed when the node has stopped
	wake  chan struct{} // holds one element when there may be something to send

	mu       sync.Mutex
	term     *term // nil while the worker has none
	queue    []entry
	pressing int // how many of the queue are no receipts
	flushing int // how many wait for the queue to be empty
	first    int64
	offered  int64         // highest Seq that was in a batch of this term
	room     chan struct{} // closed and replaced when the queue gets shorter or the term changes
}

type entry struct {
	event wire.Event
	ack   func() // may be nil
	term  *term  // in which it happened
}

func newOutbox(limit int) *outbox {
	return &outbox{limit: limit, done: make(chan struct{}), wake: make(chan struct{}, 1), room: make(chan struct{})}
}

// add appends an event. It blocks while the outbox is full, and reports false, without having kept the event, if
// the session or the node goes meanwhile: whoever disconnects must not wait for the gateway.
func (o *outbox) add(e entry, gone <-chan struct{}) bool {
	o.mu.Lock()
	for len(o.queue) >= o.limit {
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-gone:
			return false
		case <-o.done:
			return false
		}
		o.mu.Lock()
	}
	o.queue = append(o.queue, e)
	o.pressing += pressing(e)
	patient := o.isPatient()
	first := len(o.queue) == 1
	o.mu.Unlock()
	if first || !patient {
		o.rouse()
	}
	return true
}

// begin starts a term. Messages that wait are facts from any term and get Seqs of this one; events about sessions
// of an earlier term say nothing any more and go.
func (o *outbox) begin(t *term) {
	o.mu.Lock()
	kept := make([]entry, 0, len(o.queue))
	o.pressing = 0
	for _, e := range o.queue {
		if e.term == t || !aboutSession(e.event.Type) {
			kept = append(kept, e)
			o.pressing += pressing(e)
		}
	}
	o.term, o.queue, o.first, o.offered = t, kept, 1, 0
	o.announce()
	o.mu.Unlock()
	o.rouse()
}

// suspend ends the term; events wait for the next one.
func (o *outbox) suspend() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.term = nil
	o.announce()
}

// batch copies the head of the queue, at most most events, and gives them their Seqs.
func (o *outbox) batch(most int) (*term, []wire.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.term == nil || !o.term.lease.held() {
		return nil, nil
	}
	var events []wire.Event
	bytes := 0
	for i := range o.queue[:min(most, len(o.queue))] {
		e := o.queue[i].event
		if bytes += len(e.Data); len(events) > 0 && bytes > batchBytes {
			break
		}
		e.Seq = o.first + int64(i)
		events = append(events, e)
	}
	o.offered = max(o.offered, o.first+int64(len(events))-1)
	return o.term, events
}

// settle takes the gateway's answer: every event below next is stored. It returns the entries in question, whose
// acks the caller calls in order. An error says that the gateway's count cannot be met within this term.
func (o *outbox) settle(t *term, next int64) ([]entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.term != t {
		return nil, nil // sent again in the new term; the gateway knows by their data those that it has
	}
	if next < o.first || next > o.offered+1 {
		return nil, fmt.Errorf("%w: it expects %d, %d to %d were possible", errOutOfStep, next, o.first, o.offered+1)
	}
	return o.shift(int(next - o.first)), nil
}

// skip removes the first event unacknowledged.
func (o *outbox) skip(t *term, seq int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.term != t || o.first != seq || len(o.queue) == 0 {
		return
	}
	// The gateway still expects this Seq, so the next event takes it over.
	o.shift(1)
	o.first = seq
	o.offered = seq - 1
}

// shift removes the first k entries. Its caller holds o.mu.
func (o *outbox) shift(k int) []entry {
	if k == 0 {
		return nil
	}
	gone := append([]entry(nil), o.queue[:k]...)
	for _, e := range gone {
		o.pressing -= pressing(e)
	}
	clear(o.queue[:k])
	o.queue = o.queue[k:]
	o.first += int64(k)
	o.announce()
	return gone
}

// flush waits until every event that is in the outbox now has been acknowledged, or the term or ctx ends.
func (o *outbox) flush(ctx context.Context) {
	o.mu.Lock()
	defer o.mu.Unlock()
	t, end := o.term, o.first+int64(len(o.queue))
	o.flushing++
	defer func() { o.flushing-- }()
	o.rouse()
	for t != nil && o.term == t && o.first < end {
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-t.lease.lost():
			t = nil
		case <-ctx.Done():
			t = nil
		}
		o.mu.Lock()
	}
}

// patient reports whether all that waits can wait for more: it is receipts, no full batch of them, and nobody waits for the outbox to be empty.
func (o *outbox) patient() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.isPatient()
}

// isPatient is patient for a caller who holds o.mu.
func (o *outbox) isPatient() bool {
	return len(o.queue) > 0 && len(o.queue) < batchEvents && o.pressing == 0 && o.flushing == 0
}

// pressing is 1 for an event that others must not hold up.
func pressing(e entry) int {
	if e.event.Type == wire.EventMessageReceipt {
		return 0
	}
	return 1
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

func (o *outbox) rouse() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// announce wakes those who wait for room. Its caller holds o.mu.
func (o *outbox) announce() {
	close(o.room)
	o.room = make(chan struct{})
}

func aboutSession(eventType string) bool {
	return eventType == wire.EventSessionStatus || eventType == wire.EventSessionQR
}
