// Package ratchet keeps apart who turns the keys that a device shares with another one: encrypting a message and decrypting one
// both read these keys, turn them on, and write them back. whatsmeow does either without regard to the other. Where they meet, one is
// undone, the next message is encrypted under a key that was used before, and phones drop it as one that they have: it is lost,
// and counts as delivered. States keeps the keys of one conversation from being turned by a message of another one.
package ratchet

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// Guard is of one device. Whoever turns its keys has it to himself meanwhile.
type Guard struct {
	free chan struct{}

	mu    sync.Mutex
	stray *time.Timer // runs while somebody has it of whom we are not told when he ends
}

// New makes a Guard.
func New() *Guard {
	g := &Guard{free: make(chan struct{}, 1)}
	g.free <- struct{}{}
	return g
}

func (g *Guard) take(ctx context.Context) error {
	select {
	case <-g.free:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Guard) give() { g.free <- struct{}{} }

// turn is one encryption or decryption of which we know the end.
type turn struct {
	guard *Guard
	held  bool
}

type turnKey struct{}

func turnOf(ctx context.Context) *turn {
	t, _ := ctx.Value(turnKey{}).(*turn)
	return t
}

func (t *turn) begin(ctx context.Context) error {
	if t.held {
		return nil
	}
	err := t.guard.take(ctx)
	t.held = err == nil
	return err
}

func (t *turn) end() {
	if t.held {
		t.held = false
		t.guard.give()
	}
}

// Decrypt does something that decrypts. It is for store.EventBuffer's DoDecryptionTxn, which does nothing else.
func (g *Guard) Decrypt(ctx context.Context, do func(context.Context) error) error {
	t := &turn{guard: g}
	if err := t.begin(ctx); err != nil {
		return err
	}
	defer t.end()
	return do(context.WithValue(ctx, turnKey{}, (*turn)(nil)))
}

// Encrypt is a context for Client.SendMessage, whose caller calls done when that has returned. The Guard is held from when the keys
// are read until they are written, and not until the network has answered.
func (g *Guard) Encrypt(ctx context.Context) (with context.Context, done func()) {
	t := &turn{guard: g}
	return context.WithValue(ctx, turnKey{}, t), t.end
}

// Sessions are a device's keys under the Guard.
func (g *Guard) Sessions(inner store.SessionStore) store.SessionStore { return &sessions{inner, g} }

type sessions struct {
	store.SessionStore
	guard *Guard
}

// GetManySessions implements store.SessionStore. It is the first step of SendMessage's encryption.
func (s *sessions) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	if t := turnOf(ctx); t != nil {
		if err := t.begin(ctx); err != nil {
			return nil, err
		}
	}
	return s.SessionStore.GetManySessions(ctx, addresses)
}

// PutManySessions implements store.SessionStore. It is the last step of SendMessage's encryption, if anything was encrypted.
func (s *sessions) PutManySessions(ctx context.Context, changed map[string][]byte) error {
	if t := turnOf(ctx); t != nil {
		defer t.end()
	}
	return s.SessionStore.PutManySessions(ctx, changed)
}

// MigratePNToLID implements store.SessionStore: keys that were kept under somebody's number are kept under his LID from now on. In the
// middle of an encryption, they would be written back under the number.
func (s *sessions) MigratePNToLID(ctx context.Context, pn, lid types.JID) error {
	t := turnOf(ctx)
	if strays(ctx) {
		t = &turn{guard: s.guard}
		defer t.end()
	}
	if t != nil { // else a decryption, which has begun
		if err := t.begin(ctx); err != nil {
			return err
		}
	}
	return s.SessionStore.MigratePNToLID(ctx, pn, lid)
}

// strayTime is for one who encrypts by himself, as whatsmeow does for a phone that could not read a message, to write what he has
// read. It is long over when he has failed in between.
const strayTime = time.Second

// strays reports whether whoever has this context is one of those.
func strays(ctx context.Context) bool {
	_, told := ctx.Value(turnKey{}).(*turn)
	return !told
}

// GetSession implements store.SessionStore.
func (s *sessions) GetSession(ctx context.Context, address string) ([]byte, error) {
	if !strays(ctx) {
		return s.SessionStore.GetSession(ctx, address)
	}
	if err := s.guard.take(ctx); err != nil {
		return nil, err
	}
	session, err := s.SessionStore.GetSession(ctx, address)
	if err != nil {
		s.guard.give()
		return nil, err
	}
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	var own *time.Timer
	own = time.AfterFunc(strayTime, func() {
		s.guard.mu.Lock()
		defer s.guard.mu.Unlock()
		if s.guard.stray == own {
			s.guard.stray = nil
			s.guard.give()
		}
	})
	s.guard.stray = own
	return session, nil
}

// ErrTooLate says that others may have turned the keys since they were read.
var ErrTooLate = errors.New("the keys were read too long ago")

// PutSession implements store.SessionStore.
func (s *sessions) PutSession(ctx context.Context, address string, session []byte) error {
	if !strays(ctx) {
		return s.SessionStore.PutSession(ctx, address, session)
	}
	s.guard.mu.Lock()
	own := s.guard.stray
	s.guard.stray = nil
	s.guard.mu.Unlock()
	if own == nil {
		return ErrTooLate
	}
	own.Stop()
	defer s.guard.give()
	return s.SessionStore.PutSession(ctx, address, session)
}
