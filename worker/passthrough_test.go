package worker

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// member is a conn that can be in groups: what it is asked, do answers.
type member struct {
	*conn
	Groups // the rest
	do     func(ctx context.Context) error
}

func (m *member) Group(ctx context.Context, in wire.GroupRef) (wire.Group, error) {
	return wire.Group{ID: in.Group}, m.do(ctx)
}

func (m *member) LeaveGroup(ctx context.Context, _ wire.GroupRef) (wire.Done, error) {
	return wire.Done{}, m.do(ctx)
}

func (b *bench) ask(ctx context.Context, epoch int64, call, data string) (any, error) {
	return b.n.Pass(ctx, "s1", call, wire.Passed{Epoch: epoch, Data: json.RawMessage(data)})
}

const aGroup = `{"group":"1@g.us"}`

// withGroups runs a test of a node whose session s1, at epoch 5, can be in groups.
func withGroups(t *testing.T, do func(ctx context.Context) error, test func(*bench)) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.wrap = func(c *conn) Conn { return &member{conn: c, do: do} }
	}, func(b *bench) {
		b.hold("s1", 5)
		test(b)
	})
}

func TestPass(t *testing.T) {
	withGroups(t, func(context.Context) error { return nil }, func(b *bench) {
		answer, err := b.ask(b.Context(), 5, wire.GetGroup.Name, aGroup)
		require.NoError(b, err)
		require.Equal(b, wire.Group{ID: "1@g.us"}, answer)
		for _, epoch := range []int64{4, 6} {
			_, err := b.ask(b.Context(), epoch, wire.GetGroup.Name, aGroup)
			b.refusedWith(wire.CodeStaleEpoch, err)
		}
		_, err = b.n.Pass(b.Context(), "s2", wire.GetGroup.Name, wire.Passed{Epoch: 5, Data: json.RawMessage(aGroup)})
		b.refusedWith(wire.CodeSessionNotFound, err)
		for _, name := range []string{"", "dance", "groups/", "GROUPS", "send"} {
			_, err := b.ask(b.Context(), 5, name, aGroup)
			b.refusedWith(wire.CodeNotFound, err)
		}
		for _, data := range []string{``, `[]`, `"x"`, `{"group":5}`, `{`} {
			_, err := b.ask(b.Context(), 5, wire.GetGroup.Name, data)
			b.refusedWith(wire.CodeInvalidRequest, err)
		}
		_, err = b.ask(b.Context(), 5, wire.ListLabels.Name, `{}`)
		b.refusedWith(wire.CodeUnsupported, err)
	})
}

// Every call has a name of its own, and somebody who carries it out.
func TestPassersAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range passers {
		require.NotEmpty(t, p.name)
		require.False(t, seen[p.name], p.name)
		seen[p.name] = true
		_, err := p.do(t.Context(), &conn{}, json.RawMessage(`{}`))
		require.ErrorIs(t, err, ErrUnsupported, p.name)
	}
	require.Len(t, passers, 18)
}

func TestPassTellsWhatWentWrong(t *testing.T) {
	for code, err := range map[string]error{
		wire.CodeNotConnected:  ErrNotConnected,
		wire.CodeLeaseLost:     ErrLeaseLost,
		wire.CodeUnsupported:   ErrUnsupported,
		wire.CodeGroupNotFound: wire.Refuse(wire.CodeGroupNotFound, "no such group"),
		wire.CodeRateLimited:   wire.Refuse(wire.CodeRateLimited, "slowly"),
		wire.CodeEngineFailed:  errors.New("talks of +6281234567890"),
	} {
		withGroups(t, func(context.Context) error { return err }, func(b *bench) {
			_, err := b.ask(b.Context(), 5, wire.GetGroup.Name, aGroup)
			b.refusedWith(code, err)
			require.NotContains(b, b.log.String(), "6281234567890")
		})
	}
}

func TestPassToASilentNetwork(t *testing.T) {
	withGroups(t, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, func(b *bench) {
		began := time.Now()
		_, err := b.ask(b.Context(), 5, wire.GetGroup.Name, aGroup)
		b.refusedWith(wire.CodeEngineTimeout, err)
		require.Equal(b, passTimeout, time.Since(began))
	})
}

// Without the lease nothing is asked.
func TestPassNeedsTheLease(t *testing.T) {
	var asked atomic.Int64
	withGroups(t, func(context.Context) error { asked.Add(1); return nil }, func(b *bench) {
		b.g.with(func() {
			b.g.onBeat = func(wire.Heartbeat) error { return errBroken }
			b.g.onRegister = func(wire.Register) error { return errBroken }
		})
		b.pass(time.Minute)
		_, err := b.ask(b.Context(), 5, wire.GetGroup.Name, aGroup)
		b.refusedWith(wire.CodeLeaseLost, err)
		require.Zero(b, asked.Load())
	})
}

// What changes something goes on when its caller has gone, and a release waits for it; what only reads does not.
func TestAReleaseWaitsForCallsThatChangeSomething(t *testing.T) {
	for name, waits := range map[string]bool{wire.LeaveGroup.Name: true, wire.GetGroup.Name: false} {
		began, finish := make(chan struct{}), make(chan struct{})
		var ended atomic.Bool
		withGroups(t, func(ctx context.Context) error {
			close(began)
			select {
			case <-finish:
				ended.Store(true)
			case <-ctx.Done():
			}
			return ctx.Err()
		}, func(b *bench) {
			// The bubble's own channels: those from outside would not let its clock pass.
			began, finish = make(chan struct{}), make(chan struct{})
			ctx, cancel := context.WithCancel(b.Context())
			answered := make(chan error, 1)
			go func() {
				_, err := b.ask(ctx, 5, name, aGroup)
				answered <- err
			}()
			<-began
			released := make(chan error, 1)
			go func() { released <- b.n.Release(b.Context(), "s1", 5) }()
			synctest.Wait()
			require.Equal(b, waits, len(released) == 0, name)
			_, err := b.ask(b.Context(), 5, wire.GetGroup.Name, aGroup)
			if waits {
				b.refusedWith(wire.CodeNotConnected, err)
			} else {
				b.refusedWith(wire.CodeSessionNotFound, err)
			}
			cancel()
			synctest.Wait()
			close(finish)
			require.NoError(b, <-released)
			err = <-answered
			require.Equal(b, waits, err == nil, "%s: %v", name, err)
			require.Equal(b, waits, ended.Load(), name)
		})
	}
}
