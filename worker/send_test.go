package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func TestSendFences(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 3)
		send := func(id string, epoch, generation int64) error {
			_, err := b.n.Send(b.Context(), "s1", message(id, epoch, generation))
			return err
		}
		require.NoError(b, send("A", 3, 5))
		b.refusedWith(wire.CodeStaleEpoch, send("B", 2, 5))
		b.refusedWith(wire.CodeStaleEpoch, send("B", 4, 5))
		b.refusedWith(wire.CodeStaleGeneration, send("B", 3, 4))
		b.refusedWith(wire.CodeStaleGeneration, send("A", 3, 4))
		require.NoError(b, send("B", 3, 6))
		b.refusedWith(wire.CodeStaleGeneration, send("C", 3, 5))
		require.Equal(b, 2, c.sends())

		b.hold("s1", 4)
		b.refusedWith(wire.CodeStaleGeneration, send("C", 4, 5))
		require.NoError(b, b.n.Release(b.Context(), "s1", 4))
		b.refusedWith(wire.CodeSessionNotFound, send("C", 4, 6))
		b.hold("s1", 5)
		b.refusedWith(wire.CodeStaleGeneration, send("C", 5, 5))
		require.NoError(b, send("C", 5, 6))
	})
}

func TestSendOutcomes(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name   string
		result wire.SendResult
		err    error
		want   wire.SendResult // outcome and code
		code   string          // of the refusal
		again  bool            // whether a repeat reaches the engine
	}{
		{name: "sent", result: wire.SendResult{Outcome: wire.OutcomeSent}, want: wire.SendResult{Outcome: wire.OutcomeSent}},
		{name: "failed", result: wire.SendResult{Outcome: wire.OutcomeFailed, Code: "not_on_whatsapp"},
			want: wire.SendResult{Outcome: wire.OutcomeFailed, Code: "not_on_whatsapp"}, again: true},
		{name: "unknown", result: wire.SendResult{Outcome: wire.OutcomeUnknown}, want: wire.SendResult{Outcome: wire.OutcomeUnknown}, again: true},
		{name: "not connected", err: fmt.Errorf("now: %w", ErrNotConnected), code: wire.CodeNotConnected, again: true},
		{name: "its medium", err: fmt.Errorf("%w: the store is away", ErrMediaUnavailable), code: wire.CodeMediaUnavailable, again: true},
		{name: "lease", err: ErrLeaseLost, code: wire.CodeLeaseLost, again: true},
		{name: "unsupported", err: ErrUnsupported, code: wire.CodeUnsupported, again: true},
		{name: "any other error leaves doubt", err: errors.New("eof"),
			want: wire.SendResult{Outcome: wire.OutcomeUnknown, Code: wire.CodeEngineFailed}, again: true},
		{name: "an outcome that does not exist", result: wire.SendResult{Outcome: "maybe"},
			want: wire.SendResult{Outcome: wire.OutcomeUnknown, Code: wire.CodeEngineFailed}, again: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBench(t, func(_ *gateway, e *engine, _ *Config) {
				e.send = func(context.Context, *conn, wire.Send) (wire.SendResult, error) {
					r := c.result
					r.Timestamp = at
					return r, c.err
				}
			}, func(b *bench) {
				conn := b.hold("s1", 1)
				for try := 1; try <= 2; try++ {
					r, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
					if c.code != "" {
						b.refusedWith(c.code, err)
					} else {
						require.NoError(b, err)
						require.Equal(b, c.want, wire.SendResult{Outcome: r.Outcome, Code: r.Code})
					}
					if try == 2 && c.again {
						require.Equal(b, 2, conn.sends())
					} else {
						require.Equal(b, 1, conn.sends())
					}
				}
			})
		})
	}
}

func TestAPanicOfTheEngineLeavesDoubt(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(context.Context, *conn, wire.Send) (wire.SendResult, error) { panic("boom") }
	}, func(b *bench) {
		b.hold("s1", 1)
		r, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
		require.NoError(b, err)
		require.Equal(b, wire.OutcomeUnknown, r.Outcome)
	})
}

func TestConcurrentRepeatsAreSentOnce(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(context.Context, *conn, wire.Send) (wire.SendResult, error) {
			time.Sleep(time.Second)
			return wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: time.Now()}, nil
		}
	}, func(b *bench) {
		c := b.hold("s1", 1)
		results := make([]wire.SendResult, 20)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() {
				r, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
				if err == nil {
					results[i] = r
				}
			})
		}
		wg.Wait()
		require.Equal(b, 1, c.sends())
		for _, r := range results {
			require.Equal(b, wire.OutcomeSent, r.Outcome)
			require.Equal(b, results[0], r)
		}
		require.Equal(b, int64(1), b.n.Stats().Sent)
		require.Equal(b, int64(19), b.n.Stats().Repeats)
	})
}

// The caller gives up; the send goes on, and the next attempt learns what became of it.
func TestASendOutlivesItsCaller(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(ctx context.Context, _ *conn, _ wire.Send) (wire.SendResult, error) {
			time.Sleep(2 * time.Second)
			if ctx.Err() != nil {
				return wire.SendResult{}, ctx.Err()
			}
			return wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: time.Now()}, nil
		}
	}, func(b *bench) {
		c := b.hold("s1", 1)
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		_, err := b.n.Send(ctx, "s1", message("A", 1, 1))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		r, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
		require.NoError(b, err)
		require.Equal(b, wire.OutcomeSent, r.Outcome)
		require.Equal(b, 1, c.sends())
	})
}

// While a session is released, a repeat of a send in hand waits for it: a refusal would belie what happens.
func TestARepeatDuringReleaseLearnsTheOutcome(t *testing.T) {
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(context.Context, *conn, wire.Send) (wire.SendResult, error) {
			time.Sleep(2 * time.Second)
			return wire.SendResult{Outcome: wire.OutcomeSent}, nil
		}
	}, func(b *bench) {
		b.hold("s1", 1)
		go func() { _, _ = b.n.Send(b.Context(), "s1", message("A", 1, 1)) }()
		synctest.Wait()
		go func() { _ = b.n.Release(b.Context(), "s1", 1) }()
		synctest.Wait()
		r, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
		require.NoError(b, err)
		require.Equal(b, wire.OutcomeSent, r.Outcome)
	})
}

func TestOutcomesAreBounded(t *testing.T) {
	o := newOutcomes()
	id := func(i int) string { return fmt.Sprintf("3EB0%04d", i) }
	for i := range 3 * keptOutcomes {
		f, lead := o.begin(id(i))
		require.True(t, lead)
		o.end(id(i), f, wire.SendResult{Outcome: wire.OutcomeSent, Code: id(i)}, nil)
	}
	require.Len(t, o.known, keptOutcomes)
	require.Len(t, o.order, keptOutcomes)
	for i := range 3 * keptOutcomes {
		require.Equal(t, i >= 2*keptOutcomes, o.has(id(i)), i)
	}
	f, lead := o.begin(id(3*keptOutcomes - 1))
	require.False(t, lead)
	<-f.done
	require.Equal(t, id(3*keptOutcomes-1), f.result.Code)
}

func TestRedact(t *testing.T) {
	require.Equal(t, "send to …890@s.whatsapp.net: code 479 after 30000…000", redact(errors.New("send to 6281234567890@s.whatsapp.net: code 479 after 30000…000")))
}
