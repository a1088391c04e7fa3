package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func (b *bench) command(name, data string) (any, error) {
	return b.n.Command(b.Context(), wire.Command{Command: name, Data: json.RawMessage(data)})
}

func TestPing(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.hold("s1", 1)
		answer, err := b.command("ping", "")
		require.NoError(b, err)
		require.Equal(b, b.n.Health(b.Context()), answer)
		_, err = b.command("dance", "")
		b.refusedWith(wire.CodeUnsupported, err)
	})
}

func TestLogLevel(t *testing.T) {
	var level slog.LevelVar
	onBench(t, func(_ *gateway, _ *engine, c *Config) { c.LogLevel = &level }, func(b *bench) {
		answer, err := b.command("log_level", `{"level":"debug"}`)
		require.NoError(b, err)
		require.Equal(b, wire.LogLevel{Level: "debug"}, answer)
		require.Equal(b, slog.LevelDebug, level.Level())
		for _, bad := range []string{``, `{}`, `null`, `"debug"`, `{"level":"loud"}`, `{"level":"DEBUG"}`, `{"level":7}`} {
			_, err := b.command("log_level", bad)
			b.refusedWith(wire.CodeInvalidRequest, err)
		}
		require.Equal(b, slog.LevelDebug, level.Level())
	})
	onBench(t, nil, func(b *bench) {
		_, err := b.command("log_level", `{"level":"debug"}`)
		b.refusedWith(wire.CodeUnsupported, err)
	})
}

func TestReconnect(t *testing.T) {
	var now, most, all atomic.Int64
	onBench(t, func(_ *gateway, e *engine, c *Config) {
		c.MaxSessions = 100
		e.renew = func(_ context.Context, c *conn) error {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second)
			now.Add(-1)
			all.Add(1)
			if c.s.ID == "s7" {
				return errors.New("it did not work")
			}
			return nil
		}
	}, func(b *bench) {
		answer, err := b.command("reconnect", "")
		require.NoError(b, err)
		require.Equal(b, wire.Reconnected{}, answer)
		for i := range 40 {
			b.hold(fmt.Sprint("s", i), 1)
		}
		answer, err = b.command("reconnect", "")
		require.NoError(b, err)
		require.Equal(b, wire.Reconnected{Sessions: 39}, answer)
		require.EqualValues(b, 40, all.Load())
		require.EqualValues(b, reconnectsAtOnce, most.Load())
		require.Len(b, b.e.connected(), 40, "sessions and epochs stay")
	})
}

func TestReconnectNeedsEngineAndLease(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.hold("s1", 1)
		_, err := b.command("reconnect", "")
		b.refusedWith(wire.CodeUnsupported, err)
		b.outage(13 * time.Second)
		_, err = b.command("reconnect", "")
		b.refusedWith(wire.CodeLeaseLost, err)
	})
}

// A lapse has to disconnect in time, whatever a reconnect is waiting for.
func TestReconnectDoesNotOutliveTheLease(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.renew = func(ctx context.Context, _ *conn) error { <-ctx.Done(); return ctx.Err() }
	}, func(b *bench) {
		c := b.hold("s1", 1)
		b.g.with(func() {
			b.g.onBeat = func(wire.Heartbeat) error { return errBroken }
			b.g.onRegister = func(wire.Register) error { return errBroken }
		})
		b.pass(11 * time.Second)
		done := make(chan wire.Reconnected, 1)
		go func() {
			answer, err := b.n.reconnectAll(b.Context())
			require.NoError(b, err)
			done <- answer
		}()
		synctest.Wait()
		b.pass(time.Second)
		require.True(b, c.closed())
		require.Equal(b, wire.Reconnected{}, <-done)
	})
}
