package throttle

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"kurir/limits"
)

// Memory counts in this process alone. It keeps a bounded number of counters, those used last.
type Memory struct {
	now func() time.Time

	mu       sync.Mutex
	counters *simplelru.LRU[string, *limits.Counter]
}

// NewMemory keeps at most so many counters.
func NewMemory(most int) *Memory {
	counters, err := simplelru.NewLRU[string, *limits.Counter](max(most, 1), nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Memory{now: time.Now, counters: counters}
}

// Take is Redis.Take. A counter is never missing.
func (m *Memory) Take(_ context.Context, asks ...Ask) ([]Taken, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	taken := make([]Taken, len(asks))
	for i, a := range asks {
		c, ok := m.counters.Get(a.Key)
		if !ok {
			c = &limits.Counter{}
		}
		q := c.Take(a.Policy, a.N, now)
		if !ok && q.Allowed && a.N > 0 {
			m.counters.Add(a.Key, c)
		}
		taken[i] = Taken{Ask: a, Quota: q, Slot: c.Head()}
	}
	return taken, nil
}

// Clear is Redis.Clear.
func (m *Memory) Clear(_ context.Context, keys ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		m.counters.Remove(key)
	}
	return nil
}
