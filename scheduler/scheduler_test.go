package scheduler

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/jobs"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// TestATickIsEnqueuedOnce runs three schedulers, and a server that completes tasks as fast as they come: a tick that has
// run already must not be enqueued again by a scheduler that is late.
func TestATickIsEnqueuedOnce(t *testing.T) {
	client := embeddedtest.RedisClient(t)

	var mu sync.Mutex
	runs := map[string]int{}
	server := asynq.NewServerFromRedisClient(client, asynq.Config{Queues: map[string]int{jobs.QueueTicks: 1}, Concurrency: 4,
		TaskCheckInterval: 10 * time.Millisecond, LogLevel: asynq.ErrorLevel})
	require.NoError(t, server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		mu.Lock()
		defer mu.Unlock()
		runs[task.Type()+" "+string(task.Payload())]++
		return nil
	})))
	t.Cleanup(server.Shutdown)

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 3 {
		s := New(Config{ProbeInterval: time.Second}, jobs.NewQueue(client, slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
		running.Go(func() { _ = s.Run(ctx) })
	}
	sweeps := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for task := range runs {
			if strings.HasPrefix(task, jobs.KindSweep+" ") {
				n++
			}
		}
		return n
	}
	require.Eventually(t, func() bool { return sweeps() >= 3 }, 20*time.Second, 20*time.Millisecond)
	stop()
	running.Wait()
	mu.Lock()
	defer mu.Unlock()
	for task, n := range runs {
		require.Equal(t, 1, n, "runs of %s", task)
	}
}

func TestEntriesAreAligned(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 7, 123, time.UTC)
	require.Equal(t, time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC), aligned(10*time.Second).Next(now))
	require.Equal(t, time.Date(2026, 3, 1, 12, 0, 20, 0, time.UTC), aligned(10*time.Second).Next(time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)))
	kinds := map[string]bool{}
	for _, e := range entries(Config{ProbeInterval: 30 * time.Second}) {
		require.NotEmpty(t, e.why)
		require.GreaterOrEqual(t, e.every, time.Second)
		require.False(t, kinds[e.kind], "%s stands twice", e.kind)
		kinds[e.kind] = true
	}
}
