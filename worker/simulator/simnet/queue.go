package simnet

// eventQueue holds what a session's device has not acknowledged, in order. It performs no I/O and takes no lock.
//
// At most window events are under way on a connection; the rest wait here, so that a worker whose gateway is away
// does not fill its memory.
type eventQueue struct {
	items  []queued
	base   int64 // N of items[0]
	head   int   // items[:head] are settled
	next   int   // items[next:] have not gone out on this connection
	flying int   // sent on this connection and not acknowledged
}

type queued struct {
	event Event
	acked bool
}

const (
	window = 4096
	roomy  = 1024 // more settled items than this, and than others, are cleared away
)

// push appends an event and gives it its N.
func (q *eventQueue) push(e Event) {
	if q.base == 0 {
		q.base = 1
	}
	e.N = q.base + int64(len(q.items))
	q.items = append(q.items, queued{event: e})
}

// take returns the next event to send on this connection, nil if there is none or the window is full. It is good until
// the next push or ack.
func (q *eventQueue) take() *Event {
	for q.flying < window && q.next < len(q.items) {
		it := &q.items[q.next]
		q.next++
		if !it.acked {
			q.flying++
			return &it.event
		}
	}
	return nil
}

// ack settles event n. An n that is unknown or settled already is ignored.
func (q *eventQueue) ack(n int64) {
	i := n - q.base
	if i < 0 || i >= int64(len(q.items)) || q.items[i].acked {
		return
	}
	q.items[i] = queued{acked: true}
	if i < int64(q.next) {
		q.flying--
	}
	for q.head < len(q.items) && q.items[q.head].acked {
		q.head++
	}
	if q.head == len(q.items) || q.head > roomy && q.head > len(q.items)/2 {
		q.compact()
	}
}

// compact moves what is not settled to the front.
func (q *eventQueue) compact() {
	left := copy(q.items, q.items[q.head:])
	clear(q.items[left:])
	q.items = q.items[:left]
	q.base += int64(q.head)
	q.next = max(q.next-q.head, 0)
	q.head = 0
}

// rewind starts over for a new connection: everything that is not acknowledged goes out again.
func (q *eventQueue) rewind() { q.next, q.flying = q.head, 0 }

// forget drops everything; the numbering goes on.
func (q *eventQueue) forget() {
	q.head, q.flying = len(q.items), 0
	q.compact()
}

// unacked calls f with every event that is not acknowledged.
func (q *eventQueue) unacked(f func(Event)) {
	for i := range q.items[q.head:] {
		if it := &q.items[q.head+i]; !it.acked {
			f(it.event)
		}
	}
}
