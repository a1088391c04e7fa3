package monitoring

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// sourceTimeout bounds how long a scrape waits for one source of figures.
	sourceTimeout = 2 * time.Second
	// sourceTTL is how long a result is good: several scrapers cost one query.
	sourceTTL = 5 * time.Second
)

var errSourceTimeout = errors.New("timed out")

// source asks for figures at most once at a time and once per TTL, and never keeps a scrape for longer than the timeout,
// even when fetch ignores its context: a hanging call is waited for by the next scrapes, not doubled.
type source[T any] struct {
	fetch   func(context.Context) (T, error)
	ttl     time.Duration
	timeout time.Duration
	now     func() time.Time

	mu      sync.Mutex
	value   T
	err     error
	expires time.Time
	done    chan struct{} // closed when the running fetch ends; nil: none is running
}

func newSource[T any](fetch func(context.Context) (T, error)) *source[T] {
	return &source[T]{fetch: fetch, ttl: sourceTTL, timeout: sourceTimeout, now: time.Now}
}

func (s *source[T]) get() (T, error) {
	s.mu.Lock()
	if s.now().Before(s.expires) {
		defer s.mu.Unlock()
		return s.value, s.err
	}
	if s.done == nil {
		s.done = make(chan struct{})
		go s.run(s.done)
	}
	done := s.done
	s.mu.Unlock()

	timer := time.NewTimer(s.timeout)
	defer timer.Stop()
	select {
	case <-done:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.value, s.err
	case <-timer.C:
		var none T
		return none, errSourceTimeout
	}
}

func (s *source[T]) run(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	value, err := s.fetch(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.err, s.expires, s.done = value, err, s.now().Add(s.ttl), nil
	close(done)
}
