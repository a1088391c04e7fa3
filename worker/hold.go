package worker

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"kurir/wire"
)

// past is what remains of a session that is no longer held: enough to refuse whoever comes late.
type past struct {
	released   int64 // highest epoch that was released here
	generation int64 // highest that has sent
}

// pastSessions bounds the memory of sessions let go of. Forgetting one reopens only the window in which a create
// that was sent before the release is still on its way.
const pastSessions = 16384

// Create holds a session at an epoch. Term is the one under which the caller was let in. Another proxy takes another connection:
// the one that there is finishes its sends and is closed first.
func (n *Node) Create(ctx context.Context, term int64, c wire.CreateSession) (wire.SessionState, error) {
	unlock, err := n.locks.lock(ctx, c.SessionID)
	if err != nil {
		return wire.SessionState{}, err
	}
	defer unlock()

	t, old, err := n.reserve(term, c)
	if err != nil {
		return wire.SessionState{}, err
	}
	if old != nil {
		if old.epoch == c.Epoch && old.proxy == c.Proxy && old.live() && old.lease == t.lease {
			old.reject.Store(c.RejectCalls)
			return old.state(), nil
		}
		old.drain(ctx)
		if err := old.disconnect(context.WithoutCancel(ctx)); err != nil {
			n.log.WarnContext(ctx, "an older connection does not close", "session", old.id, "epoch", old.epoch, "error", redact(err))
			return wire.SessionState{}, wire.Refuse(wire.CodeEngineFailed, "the session's older connection does not close")
		}
		n.exchange(old)
	}
	return n.open(ctx, t, c)
}

// reserve decides whether the session may be created and returns the one that is held at this or a lower epoch;
// without one it reserves room, which open takes up.
func (n *Node) reserve(term int64, c wire.CreateSession) (*term, *session, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before, _ := n.past.Get(c.SessionID)
	old := n.sessions[c.SessionID]
	switch {
	case n.leaving, n.draining && (old == nil || old.epoch != c.Epoch):
		return nil, nil, wire.Refuse(wire.CodeFull, "the worker is shutting down")
	case n.term == nil || n.term.id != term:
		return nil, nil, wire.Refuse(wire.CodeStaleTerm, "another term is current here")
	case !n.term.lease.held():
		return nil, nil, wire.Refuse(wire.CodeLeaseLost, ErrLeaseLost.Error())
	case c.Epoch <= before.released:
		return nil, nil, wire.Refuse(wire.CodeStaleEpoch, "this epoch was released here")
	case old != nil && c.Epoch < old.epoch:
		return nil, nil, wire.Refuse(wire.CodeStaleEpoch, "a higher epoch is held here")
	case old == nil && len(n.sessions)+n.opening >= n.cfg.MaxSessions:
		return nil, nil, wire.Refuse(wire.CodeFull, "the worker has no room")
	}
	if old == nil {
		n.opening++
	}
	return n.term, old, nil
}

// exchange removes a closed session and keeps its room for the one that replaces it.
func (n *Node) exchange(old *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(old)
	n.opening++
}

// open connects a session for which room is reserved.
func (n *Node) open(ctx context.Context, t *term, c wire.CreateSession) (wire.SessionState, error) {
	n.mu.Lock()
	before, _ := n.past.Get(c.SessionID)
	n.mu.Unlock()
	s := newSession(c, t.lease, before.generation)

	held := false
	defer func() {
		if !held { // by an error or a panic of the engine
			n.mu.Lock()
			n.opening--
			n.mu.Unlock()
		}
	}()
	conn, err := n.engine.Open(ctx, Session{
		ID: c.SessionID, UserID: c.UserID, Name: c.SessionName, Epoch: c.Epoch, Proxy: c.Proxy, Lease: s.mayWrite,
		RejectCalls: s.reject.Load, Media: n.media(t, c.SessionID), Room: n.room,
	}, n.sink(s, t))
	if err != nil {
		n.log.WarnContext(ctx, "the engine does not open a session", "session", s.id, "epoch", s.epoch, "error", redact(err))
		return wire.SessionState{}, wire.Refuse(wire.CodeEngineFailed, "the engine could not open the session")
	}
	s.conn = conn

	n.mu.Lock()
	held = true
	n.opening--
	n.sessions[s.id] = s
	late := n.leaving || !t.lease.held() // whoever drops all sessions may have passed by already
	n.mu.Unlock()
	if late {
		if err := n.shut(ctx, s); err != nil { // it stays held, and is closed with the term
			n.log.WarnContext(ctx, "session of a lost lease not closed", "session", s.id, "error", err)
		}
		return wire.SessionState{}, wire.Refuse(wire.CodeLeaseLost, ErrLeaseLost.Error())
	}
	n.log.InfoContext(ctx, "session held", "session", s.id, "epoch", s.epoch)
	return s.state(), nil
}

// Release finishes the session's sends and disconnects it; the credentials stay. A nil error confirms that no epoch
// up to this one is held here, or ever will be.
func (n *Node) Release(ctx context.Context, sessionID string, epoch int64) error {
	unlock, err := n.locks.lock(ctx, sessionID)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := n.fence(sessionID, epoch)
	if err != nil || s == nil {
		return err
	}
	s.drain(ctx)
	return n.shut(ctx, s)
}

// Delete lets go of a session, after unlinking the device if logout is set. Epoch fences as in Release; 0 means
// whatever epoch is held.
func (n *Node) Delete(ctx context.Context, sessionID string, epoch int64, logout bool) error {
	unlock, err := n.locks.lock(ctx, sessionID)
	if err != nil {
		return err
	}
	defer unlock()
	s := n.session(sessionID)
	if s == nil && logout {
		return n.absent()
	}
	if s != nil && epoch == 0 {
		epoch = s.epoch
	}
	if s != nil && logout && epoch >= s.epoch {
		if err := n.logout(ctx, s); err != nil {
			return err
		}
	}
	if s, err = n.fence(sessionID, epoch); err != nil || s == nil {
		return err
	}
	s.drain(ctx)
	return n.shut(ctx, s)
}

// logout unlinks the session's device. After a failure the session goes on as before, so that it can be repeated.
func (n *Node) logout(ctx context.Context, s *session) error {
	if !s.lease.held() {
		return wire.Refuse(wire.CodeLeaseLost, ErrLeaseLost.Error())
	}
	s.drain(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.cfg.SendTimeout)
	defer cancel()
	err := s.conn.Logout(ctx)
	if err == nil {
		return nil
	}
	s.reopen()
	if known := refusal(err); known != nil {
		return known
	}
	n.log.WarnContext(ctx, "a device is not unlinked", "session", s.id, "epoch", s.epoch, "error", redact(err))
	return wire.Refuse(wire.CodeEngineFailed, "the engine could not unlink the device")
}

// fence remembers that every epoch up to this one is released and returns the session that has to go, if any.
func (n *Node) fence(sessionID string, epoch int64) (*session, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.sessions[sessionID]
	if s != nil && s.epoch > epoch {
		return nil, wire.Refuse(wire.CodeStaleEpoch, "a higher epoch is held here")
	}
	before, _ := n.past.Get(sessionID)
	before.released = max(before.released, epoch)
	n.past.Add(sessionID, before)
	return s, nil
}

// shut disconnects a session and, once that is certain, forgets it. Its caller holds the session's lock.
func (n *Node) shut(ctx context.Context, s *session) error {
	if err := s.disconnect(context.WithoutCancel(ctx)); err != nil {
		n.log.WarnContext(ctx, "a session does not close", "session", s.id, "epoch", s.epoch, "error", redact(err))
		return wire.Refuse(wire.CodeEngineFailed, "the session does not close")
	}
	n.mu.Lock()
	n.forget(s)
	n.mu.Unlock()
	n.log.InfoContext(ctx, "session let go of", "session", s.id, "epoch", s.epoch)
	return nil
}

// forget removes a closed session. Its caller holds n.mu.
func (n *Node) forget(s *session) {
	if n.sessions[s.id] != s {
		return
	}
	delete(n.sessions, s.id)
	before, _ := n.past.Get(s.id)
	before.generation = max(before.generation, s.seen())
	n.past.Add(s.id, before)
}

// letGo drops a session that the gateway has given to somebody else, unless it has been replaced meanwhile.
func (n *Node) letGo(ctx context.Context, s *session) {
	unlock, err := n.locks.lock(ctx, s.id)
	if err != nil {
		return
	}
	defer unlock()
	if n.session(s.id) != s {
		return
	}
	if _, err := n.fence(s.id, s.epoch); err != nil {
		return
	}
	s.drain(ctx)
	_ = n.shut(ctx, s) // logged; the next heartbeat reports it and is told again
}

// disconnectAll closes every session, side by side, and reports whether none is left. Sends in hand are waited for
// only if drain is set. The epochs do not count as released: the gateway may create them here again.
func (n *Node) disconnectAll(ctx context.Context, drain bool) bool {
	var g errgroup.Group
	g.SetLimit(128)
	for _, s := range n.held() {
		g.Go(func() error {
			wait, cancel := context.WithTimeout(ctx, drainTimeout+closeTimeout)
			defer cancel()
			unlock, err := n.locks.lock(wait, s.id)
			if err != nil {
				n.log.WarnContext(ctx, "a session is busy and not closed", "session", s.id, "epoch", s.epoch)
				return nil
			}
			defer unlock()
			if n.session(s.id) != s {
				return nil
			}
			if drain {
				s.drain(ctx)
			}
			_ = n.shut(ctx, s) // logged; the session stays held, and is tried again
			return nil
		})
	}
	_ = g.Wait() // the functions return none
	return n.empty()
}

// empty reports whether no session is connected, nor about to be.
func (n *Node) empty() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.sessions) == 0 && n.opening == 0
}

// held returns the sessions that may be connected.
func (n *Node) held() []*session {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]*session, 0, len(n.sessions))
	for _, s := range n.sessions {
		all = append(all, s)
	}
	return all
}

func (n *Node) session(id string) *session {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sessions[id]
}

// absent refuses a call for a session that is not held, telling a lapse of everything from a session unknown.
func (n *Node) absent() error {
	if t := n.current(); t == nil || !t.lease.held() {
		return wire.Refuse(wire.CodeLeaseLost, ErrLeaseLost.Error())
	}
	return wire.Refuse(wire.CodeSessionNotFound, "this worker does not hold the session")
}

// Status answers what the engine knows of a session.
func (n *Node) Status(_ context.Context, sessionID string) (wire.SessionState, error) {
	s := n.session(sessionID)
	if s == nil {
		return wire.SessionState{}, n.absent()
	}
	return s.state(), nil
}

// QR answers the QR that is to be scanned now.
func (n *Node) QR(_ context.Context, sessionID string) (wire.QRData, error) {
	s := n.session(sessionID)
	if s == nil {
		return wire.QRData{}, n.absent()
	}
	st := s.state()
	if st.Status == wire.StatusConnected {
		return wire.QRData{}, wire.Refuse(wire.CodeAlreadyLinked, "the session is linked")
	}
	var expires time.Time
	if st.QRExpiresAt != nil {
		expires = *st.QRExpiresAt
	}
	if st.QR == "" || !expires.IsZero() && !n.cfg.Now().Before(expires) {
		return wire.QRData{}, wire.Refuse(wire.CodeQRNotReady, "there is no QR to scan now")
	}
	return wire.QRData{QR: st.QR, ExpiresAt: expires}, nil
}

// refusal turns the engine's own errors into the protocol's, and others into nil.
func refusal(err error) error {
	switch {
	case errors.Is(err, ErrNotConnected):
		return wire.Refuse(wire.CodeNotConnected, ErrNotConnected.Error())
	case errors.Is(err, ErrLeaseLost):
		return wire.Refuse(wire.CodeLeaseLost, ErrLeaseLost.Error())
	case errors.Is(err, ErrUnsupported):
		return wire.Refuse(wire.CodeUnsupported, ErrUnsupported.Error())
	case errors.Is(err, ErrMediaUnavailable):
		return wire.Refuse(wire.CodeMediaUnavailable, ErrMediaUnavailable.Error())
	default:
		return nil
	}
}
