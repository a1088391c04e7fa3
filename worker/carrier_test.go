package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// slowShelf gives contents byte by byte.
type slowShelf struct {
	shelf
	length int
	pause  time.Duration // before each byte
	err    error
	opens  atomic.Int64
}

func (s *slowShelf) Open(ctx context.Context, _ string) (io.ReadCloser, error) {
	s.opens.Add(1)
	return io.NopCloser(&trickle{ctx, s.length, s.pause}), s.err
}

type trickle struct {
	ctx   context.Context
	left  int
	pause time.Duration
}

func (r *trickle) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(r.pause):
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
	r.left--
	p[0] = 'x'
	return 1, nil
}

func counted(_ context.Context, _ *wire.Media, r io.Reader) (int, error) {
	b, err := io.ReadAll(r)
	return len(b), err
}

func carrierOf(ctx context.Context, s MediaStore, upload Upload[int]) *Carrier[int] {
	return NewCarrier(ctx, Session{ID: "s", Media: s}, upload, slog.New(slog.DiscardHandler))
}

// A medium that takes ten minutes is carried beside the sends: none of them takes long, none leaves doubt, and the last one sends.
func TestASlowMediumIsCarriedBesideTheSends(t *testing.T) {
	store := &slowShelf{length: 20, pause: 30 * time.Second}
	var carrier *Carrier[int]
	onBench(t, func(_ *gateway, e *engine, _ *Config) {
		e.send = func(ctx context.Context, _ *conn, m wire.Send) (wire.SendResult, error) {
			n, err := carrier.Get(ctx, m.WhatsappID, &wire.Media{ID: "m"})
			return wire.SendResult{Outcome: wire.OutcomeSent, Error: fmt.Sprint(n)}, err
		}
	}, func(b *bench) {
		carrier = carrierOf(b.Context(), store, counted)
		b.hold("s1", 1)
		began, asked := time.Now(), 0
		for {
			at := time.Now()
			r, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
			require.LessOrEqual(b, time.Since(at), carryWait)
			if asked++; err == nil {
				require.Equal(b, wire.SendResult{Outcome: wire.OutcomeSent, Error: "20", Timestamp: r.Timestamp}, r)
				break
			}
			b.refusedWith(wire.CodeMediaUnavailable, err)
			time.Sleep(20 * time.Second)
		}
		require.InDelta(b, 600, time.Since(began).Seconds(), 25)
		require.EqualValues(b, 1, store.opens.Load())
		require.Greater(b, asked, 20)
		carrier.Drop("A")
		require.Empty(b, carrier.carries)
		require.Empty(b, carrier.slots)
	})
}

func TestACarrierGivesUpWhatStandsStillOrIsNotWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		still := &slowShelf{length: 1, pause: 24 * time.Hour}
		c := carrierOf(t.Context(), still, counted)
		get := func(id string) error {
			_, err := c.Get(t.Context(), id, &wire.Media{ID: "m"})
			return err
		}
		for i := range carryAtOnce {
			require.ErrorIs(t, get(fmt.Sprint(i)), ErrMediaUnavailable)
		}
		at := time.Now()
		require.ErrorIs(t, get("one too many"), ErrMediaUnavailable)
		require.Zero(t, time.Since(at), "there is nothing to wait for")
		time.Sleep(carryStall)
		require.ErrorIs(t, get("0"), errStalled)
		require.ErrorIs(t, get("0"), ErrMediaUnavailable, "it is begun anew")
		require.EqualValues(t, carryAtOnce+1, still.opens.Load())

		synctest.Wait()
		still.length, still.pause = 1000, carryStall/2
		time.Sleep(carryForget)
		require.ErrorIs(t, get("wanted no more"), ErrMediaUnavailable)
		time.Sleep(carryForget)
		synctest.Wait()
		require.Empty(t, c.carries)
		require.Empty(t, c.slots)
	})
}

func TestACarrierTellsWhatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowShelf{length: 1, err: errors.New("away")}
		c := carrierOf(t.Context(), s, counted)
		_, err := c.Get(t.Context(), "a", &wire.Media{ID: "m"})
		require.ErrorIs(t, err, ErrMediaUnavailable)
		s.err = fmt.Errorf("%w: it was dropped", ErrMediaGone)
		_, err = c.Get(t.Context(), "a", &wire.Media{ID: "m"})
		require.ErrorIs(t, err, ErrMediaGone)
		require.NotErrorIs(t, err, ErrMediaUnavailable)
		s.err = nil
		n, err := c.Get(t.Context(), "a", &wire.Media{ID: "m"})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = carrierOf(t.Context(), nil, counted).Get(t.Context(), "a", &wire.Media{ID: "m"})
		require.ErrorIs(t, err, ErrMediaUnavailable)

		ctx, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		s.pause, s.length = time.Second, 2
		at := time.Now()
		_, err = c.Get(ctx, "b", &wire.Media{ID: "m"})
		require.ErrorIs(t, err, ErrMediaUnavailable)
		require.Equal(t, time.Second/2, time.Since(at), "the rest is left to the send")

		broken := carrierOf(t.Context(), &slowShelf{}, func(context.Context, *wire.Media, io.Reader) (int, error) { panic("boom") })
		_, err = broken.Get(t.Context(), "a", &wire.Media{ID: "m"})
		require.True(t, errors.Is(err, ErrMediaUnavailable) && strings.Contains(err.Error(), "boom"), "%v", err)
		c.Drop("a")
		c.Drop("b")
		broken.Drop("a")
	})
}
