package jobs

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

func TestCrowd(t *testing.T) {
	c := newCrowd(8)
	require.Equal(t, 2, cap(c))
	require.Equal(t, 1, cap(newCrowd(1)))

	require.False(t, c.watch(t.Context(), time.Hour, func(context.Context) { require.Empty(t, c) }), "quick work needs no place")
	inside := make(chan struct{})
	leave := make(chan struct{})
	cuts := make(chan bool)
	for range 2 {
		go func() {
			cuts <- c.watch(t.Context(), 0, func(ctx context.Context) {
				<-inside
				<-leave
				if ctx.Err() != nil {
					t.Error("who has a place is not cut off")
				}
			})
		}()
	}
	inside <- struct{}{}
	inside <- struct{}{}
	require.Eventually(t, func() bool { return len(c) == 2 }, 20*time.Second, time.Millisecond)
	require.True(t, c.watch(t.Context(), 0, func(ctx context.Context) { <-ctx.Done() }), "there is no place left")
	require.False(t, c.enter())
	close(leave)
	require.False(t, <-cuts)
	require.False(t, <-cuts)
	require.Empty(t, c, "places are given back")
}

// Lanes whose endpoints hang get a quarter of the slots. The rest pause, without an attempt, and get their turn.
func TestHangingEndpointsDoNotTakeAllSlots(t *testing.T) {
	b := newHookBench(t)
	b.crowd = newCrowd(4)
	require.True(t, b.crowd.enter()) // another lane has the one place
	arrived := make(chan struct{}, 10)
	b.answer = func(_ int64, _ http.ResponseWriter, r *http.Request) int {
		arrived <- struct{}{}
		<-r.Context().Done()
		return 500
	}
	b.emit(b.session, 1)
	pause := func() bool {
		_, err := b.lanes.drain(t.Context(), b.hook, "WEBHOOK", b.round)
		require.NoError(t, err)
		require.Equal(t, "1 PENDING 0", b.states(), "waiting spends no attempt")
		return modelstest.Scalar[bool](t, b.db, `SELECT next_due_at > now() + interval '2 seconds' AND holder IS NULL FROM lanes WHERE id = $1`, b.hook)
	}
	require.True(t, pause(), "it is cut off where it waits")
	<-arrived
	require.True(t, pause(), "and from then on asks first")
	require.Empty(t, arrived)

	b.crowd.leave()
	b.answer = func(int64, http.ResponseWriter, *http.Request) int { return 204 }
	b.exec(`UPDATE lanes SET next_due_at = now() WHERE id = $1`, b.hook)
	b.drain(b.hook)
	require.Equal(t, "1 DELIVERED 1", b.states())
	width, _ := b.widths.Get(b.hook)
	require.False(t, width.Slow(), "it has recovered")
	require.Empty(t, b.crowd)
}
