package limits

import "time"

// Policy says how much of something may happen within a time. The window slides: it is cut into slots, and what happened in a
// slot is forgotten when the slot as a whole is older than the window. So in no span of Window, wherever it begins, is there
// more than Limit; and what was used comes back up to one slot later than it strictly could.
type Policy struct {
	Name   string // in metrics and in RateLimit headers
	Limit  int
	Window time.Duration
	Slots  int
	// Late is for how many slots more a count is kept, for what is counted at one moment and becomes a fact some time later.
	Late int
}

// Width is how long a slot is.
func (p Policy) Width() time.Duration { return p.Window / time.Duration(p.Slots) }

// Kept is how many slots are kept: those of the window, the one that has begun, and what comes late.
func (p Policy) Kept() int { return p.Slots + 1 + p.Late }

// Quota is what a policy says to a request for some more.
type Quota struct {
	Allowed bool
	Limit   int
	Left    int           // after it, if it was allowed; never negative
	Retry   time.Duration // until it would be allowed; 0 if it was
	Reset   time.Duration // until some of what is used comes back; 0 if nothing is
}

// Counter counts by a policy in memory. throttle/take.lua does the same in Redis; a test compares them.
type Counter struct {
	head  int64 // the latest slot that was counted in
	total int
	ring  []int
}

// SlotAt is the number of the slot that holds a moment.
func (p Policy) SlotAt(now time.Time) int64 { return now.UnixMilli() / p.Width().Milliseconds() }

// Take counts n more, if they fit. With n = 0 it only looks whether one more would fit. A clock that goes back stands still.
func (c *Counter) Take(p Policy, n int, now time.Time) Quota {
	c.advance(p, p.SlotAt(now))
	q := Quota{Limit: p.Limit, Allowed: c.total+max(n, 1) <= p.Limit}
	if q.Allowed && n > 0 {
		c.total += n
		c.ring[c.at(c.head)] += n
	}
	q.Left = max(p.Limit-c.total, 0)
	if c.total > 0 {
		q.Reset = c.freed(p, 1, now)
	}
	if !q.Allowed {
		q.Retry = c.freed(p, c.total+max(n, 1)-p.Limit, now)
	}
	return q
}

// Give takes back n of what was counted in a slot.
func (c *Counter) Give(n int, slot int64) {
	if len(c.ring) == 0 || slot > c.head || c.head-slot >= int64(len(c.ring)) {
		return
	}
	n = min(n, c.ring[c.at(slot)])
	c.ring[c.at(slot)] -= n
	c.total -= n
}

// Head is the slot that the last Take counted in.
func (c *Counter) Head() int64 { return c.head }

// Empty reports whether nothing is counted, as far as is known.
func (c *Counter) Empty() bool { return c.total == 0 }

func (c *Counter) at(slot int64) int { return int(slot % int64(len(c.ring))) }

// advance forgets the slots that have become too old.
func (c *Counter) advance(p Policy, slot int64) {
	if len(c.ring) != p.Kept() {
		*c = Counter{ring: make([]int, p.Kept()), head: slot}
	}
	for i := max(c.head+1, slot-int64(len(c.ring))+1); i <= slot; i++ {
		c.total -= c.ring[c.at(i)]
		c.ring[c.at(i)] = 0
	}
	c.head = max(c.head, slot)
}

// freed is how long it takes until need of what is used has come back. For more than can ever come back it is the whole
// window.
func (c *Counter) freed(p Policy, need int, now time.Time) time.Duration {
	width := p.Width().Milliseconds()
	for i, kept := c.head-int64(len(c.ring))+1, int64(len(c.ring)); i <= c.head; i++ {
		if i < 0 {
			continue
		}
		if need -= c.ring[c.at(i)]; need <= 0 {
			return time.Duration((i+kept)*width-now.UnixMilli()) * time.Millisecond
		}
	}
	return time.Duration((c.head+int64(len(c.ring)))*width-now.UnixMilli()) * time.Millisecond
}
