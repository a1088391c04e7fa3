package ratchet_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"

	"kurir/worker/whatsapp/ratchet"
)

// keys are those of one session: a number that each turn raises by one.
type keys struct {
	store.NoopStore
	mu     sync.Mutex
	turned byte
}

func (k *keys) GetSession(context.Context, string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return []byte{k.turned}, nil
}

func (k *keys) PutSession(_ context.Context, _ string, session []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.turned = session[0]
	return nil
}

func (k *keys) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	session, err := k.GetSession(ctx, "")
	return map[string][]byte{addresses[0]: session}, err
}

func (k *keys) MigratePNToLID(ctx context.Context, _, _ types.JID) error {
	session, err := k.GetSession(ctx, "")
	if err != nil {
		return err
	}
	time.Sleep(time.Millisecond)
	return k.PutSession(ctx, "", []byte{session[0] + 1})
}

func (k *keys) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	return k.PutSession(ctx, "", sessions["a"])
}

// turns are the ways in which whatsmeow turns keys.
var turns = map[string]func(context.Context, *ratchet.Guard, store.SessionStore) error{
	"a message is sent": func(ctx context.Context, g *ratchet.Guard, s store.SessionStore) error {
		ctx, done := g.Encrypt(ctx)
		defer done()
		all, err := s.GetManySessions(ctx, []string{"a"})
		if err != nil {
			return err
		}
		time.Sleep(time.Millisecond) // others get their chance
		return s.PutManySessions(ctx, map[string][]byte{"a": {all["a"][0] + 1}})
	},
	"a message comes in": func(ctx context.Context, g *ratchet.Guard, s store.SessionStore) error {
		return g.Decrypt(ctx, func(ctx context.Context) error { return one(ctx, s) })
	},
	"a message is sent for the first time since a LID is known": func(ctx context.Context, g *ratchet.Guard, s store.SessionStore) error {
		ctx, done := g.Encrypt(ctx)
		defer done()
		if err := s.MigratePNToLID(ctx, types.EmptyJID, types.EmptyJID); err != nil {
			return err
		}
		all, err := s.GetManySessions(ctx, []string{"a"})
		if err != nil {
			return err
		}
		return s.PutManySessions(ctx, map[string][]byte{"a": {all["a"][0] + 1}})
	},
	"a LID comes in": func(ctx context.Context, _ *ratchet.Guard, s store.SessionStore) error {
		return s.MigratePNToLID(ctx, types.EmptyJID, types.EmptyJID)
	},
	"a message is sent again": func(ctx context.Context, _ *ratchet.Guard, s store.SessionStore) error { return one(ctx, s) },
}

func one(ctx context.Context, s store.SessionStore) error {
	session, err := s.GetSession(ctx, "a")
	if err != nil {
		return err
	}
	time.Sleep(time.Millisecond)
	return s.PutSession(ctx, "a", []byte{session[0] + 1})
}

func TestNoTurnIsUndone(t *testing.T) {
	t.Parallel()
	k, g := &keys{}, ratchet.New()
	s := g.Sessions(k)
	var all sync.WaitGroup
	for name, turn := range turns {
		for range 5 {
			all.Go(func() {
				for range 8 {
					if err := turn(t.Context(), g, s); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		}
	}
	all.Wait()
	require.EqualValues(t, 5*8*6, k.turned) // in one way a message turns them twice
}

// Who fails between reading and writing holds nobody up for good, and writes nothing late.
func TestWhoFailsHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	k, g := &keys{}, ratchet.New()
	s := g.Sessions(k)
	_, err := s.GetSession(t.Context(), "a")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, turns["a message comes in"](ctx, g, s), context.DeadlineExceeded)
	require.NoError(t, turns["a message comes in"](t.Context(), g, s))
	require.ErrorIs(t, s.PutSession(t.Context(), "a", []byte{0}), ratchet.ErrTooLate)

	with, done := g.Encrypt(t.Context())
	_, err = s.GetManySessions(with, []string{"a"})
	require.NoError(t, err)
	done() // nothing was encrypted
	done()
	require.NoError(t, turns["a message is sent again"](t.Context(), g, s))
	require.EqualValues(t, 2, k.turned)
}
