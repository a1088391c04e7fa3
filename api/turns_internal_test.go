package api

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/monitoring"
)

const soon = 20 * time.Second

// However many requests with passwords of one account are under way, they take one of the places; another account gets its own.
func TestPasswordsOfAnAccountTakeTurns(t *testing.T) {
	t.Parallel()
	a := &API{hashing: make(chan struct{}, 2)}
	held, err := a.hashSlot(t.Context(), "many")
	require.NoError(t, err)
	var group sync.WaitGroup
	var inside, most atomic.Int64
	for range 80 {
		group.Go(func() {
			release, err := a.hashSlot(t.Context(), "many")
			if err == nil {
				most.Store(max(most.Load(), inside.Add(1)))
				inside.Add(-1)
				release()
			}
		})
	}
	require.Eventually(t, func() bool { return a.turns.Users("many") == 81 }, soon, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for range 3 {
		release, err := a.hashSlot(ctx, "another")
		require.NoError(t, err)
		release()
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, err = a.hashSlot(gone, "many")
	require.ErrorIs(t, err, errBusy)
	held()
	group.Wait()
	require.EqualValues(t, 1, most.Load())
	require.Zero(t, a.turns.Len(), "nothing is kept of those who have gone")
	require.Empty(t, a.hashing)
}

// Requests of a user that poll are few; the next one asks once. What others wait for is not touched by that.
func TestWaitsOfAUserAreBounded(t *testing.T) {
	t.Parallel()
	w := newWaiter(nil)
	user, other := uuid.New(), uuid.New()
	var polled atomic.Int64
	var group sync.WaitGroup
	poll := func() {
		first := sync.OnceFunc(func() { polled.Add(1) })
		group.Go(func() {
			ok, err := w.until(t.Context(), user, time.Hour, func() (bool, error) { first(); return false, nil })
			if ok || err != nil {
				t.Error(ok, err)
			}
		})
	}
	for range pollsPerUser {
		poll()
	}
	require.Eventually(t, func() bool { return polled.Load() == pollsPerUser }, soon, time.Millisecond)
	asked := 0
	ok, err := w.until(t.Context(), user, time.Hour, func() (bool, error) { asked++; return false, nil })
	require.Equal(t, []any{false, nil, 1}, []any{ok, err, asked}, "answered at once")
	ok, err = w.until(t.Context(), user, time.Hour, func() (bool, error) { return true, nil })
	require.Equal(t, []any{true, nil}, []any{ok, err}, "what is so already is told")
	ok, err = w.until(t.Context(), other, time.Hour, func() (bool, error) { asked++; return asked == 3, nil })
	require.Equal(t, []any{true, nil, 3}, []any{ok, err, asked})

	for range waitsPerUser {
		_, ok := w.enter(waits{user: user})
		require.True(t, ok)
	}
	require.Empty(t, w.message(t.Context(), user, uuid.New(), time.Hour))
	require.Empty(t, w.waiting)
	close(w.stop)
	group.Wait()
	require.Equal(t, map[waits]int{{user: user}: waitsPerUser}, w.of)
}

// All who ask for health within a second have one report.
func TestReadinessIsShared(t *testing.T) {
	t.Parallel()
	var ran atomic.Int64
	r := &readiness{checks: []monitoring.Check{{Name: "x", Func: func(context.Context) error {
		if ran.Add(1) > 1 {
			return errors.New("down")
		}
		return nil
	}}}}
	began := time.Now()
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() { r.ask() })
	}
	group.Wait()
	require.LessOrEqual(t, ran.Load(), int64(time.Since(began)/readinessKept)+1)
	require.Eventually(t, func() bool { return !r.ask().Ready() }, soon, time.Millisecond, "it is not kept for long")
}
