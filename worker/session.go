package worker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"kurir/wire"
)

const (
	drainTimeout = 5 * time.Second // for the sends in hand when a session is released
	closeTimeout = 5 * time.Second // for one attempt to disconnect
)

// session is one session held at one epoch, on one connection. It stays in Node.sessions until its connection is
// known to be closed, so that a heartbeat never denies a session that may still be connected.
type session struct {
	id    string
	epoch int64
	proxy string // by way of which it is connected, "" for none
	lease *lease // of the term in which it was opened; it never moves on to the next one
	conn  Conn   // set before the session is shared

	reject atomic.Bool // calls

	gone     chan struct{} // closed when disconnecting begins: from then on, no writes and no waiting for the outbox
	goneOnce sync.Once

	mu         sync.Mutex
	closing    bool // takes no more sends
	sends      int  // in hand, and calls that change something
	idle       chan struct{}
	generation int64 // highest seen
	recent     *outcomes
}

func newSession(c wire.CreateSession, l *lease, generation int64) *session {
	s := &session{
		id: c.SessionID, epoch: c.Epoch, proxy: c.Proxy, lease: l,
		gone: make(chan struct{}), generation: generation, recent: newOutcomes(),
	}
	s.reject.Store(c.RejectCalls)
	return s
}

// mayWrite is what the engine asks before every connect and write.
func (s *session) mayWrite() bool {
	select {
	case <-s.gone:
		return false
	default:
		return s.lease.held()
	}
}

// state is what the engine knows of the session.
func (s *session) state() wire.SessionState {
	st := s.conn.State()
	st.SessionID, st.Epoch = s.id, s.epoch
	return st
}

// live reports whether the session still takes sends.
func (s *session) live() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing && s.lease.held()
}

// join checks a send against the session's fences and returns its flight, and whether the caller has to fly it. A
// known outcome is a flight that has landed.
func (s *session) join(m wire.Send) (f *flight, lead bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case m.Epoch < s.epoch:
		return nil, false, wire.Refuse(wire.CodeStaleEpoch, fmt.Sprintf("the session is held at epoch %d", s.epoch))
	case m.Epoch > s.epoch:
		return nil, false, wire.Refuse(wire.CodeStaleEpoch,
			fmt.Sprintf("the session is still held at epoch %d: create it at %d first", s.epoch, m.Epoch))
	case m.Generation < s.generation:
		return nil, false, wire.Refuse(wire.CodeStaleGeneration, fmt.Sprintf("generation %d has sent already", s.generation))
	}
	s.generation = m.Generation
	if !s.recent.has(m.WhatsappID) { // else nothing new is written
		if !s.lease.held() {
			return nil, false, wire.Refuse(wire.CodeLeaseLost, ErrLeaseLost.Error())
		}
		if s.closing {
			return nil, false, wire.Refuse(wire.CodeNotConnected, "the session is being released")
		}
	}
	f, lead = s.recent.begin(m.WhatsappID)
	if lead {
		s.sends++
	}
	return f, lead, nil
}

// land ends a flight that join handed out.
func (s *session) land(id string, f *flight, r wire.SendResult, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent.end(id, f, r, err)
	s.finishLocked()
}

// drain refuses further sends and waits for those in hand, and for acknowledgements on their way, for drainTimeout at most and no
// longer than the lease.
func (s *session) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	s.finishSends(ctx)
	if c, ok := s.conn.(Settler); ok && s.lease.held() {
		c.Settle(ctx)
	}
}

func (s *session) finishSends(ctx context.Context) {
	s.mu.Lock()
	s.closing = true
	if s.sends == 0 {
		s.mu.Unlock()
		return
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	select {
	case <-idle:
	case <-s.lease.lost():
	case <-ctx.Done():
	}
}

// reopen takes sends again after a drain that led to nothing, unless the session is being disconnected.
func (s *session) reopen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.gone:
	default:
		s.closing = false
	}
}

// disconnect closes the connection and keeps the credentials. A nil error means that it is closed.
func (s *session) disconnect(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.goneOnce.Do(func() { close(s.gone) })
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- s.conn.Close(ctx) }()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("disconnect session %s: %w", s.id, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("disconnect session %s: %w", s.id, ctx.Err())
	}
}

// seen returns the highest generation that has sent.
func (s *session) seen() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation
}
