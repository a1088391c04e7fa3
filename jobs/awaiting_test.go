package jobs

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
)

// asking counts how often a server asks for a task.
type asking struct {
	redis.UniversalClient
	n atomic.Int64
}

func (a *asking) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if strings.HasSuffix(keys[0], ":pending") {
		a.n.Add(1)
	}
	return a.UniversalClient.EvalSha(ctx, sha, keys, args...)
}

// A server that has nothing to do waits in Redis, and takes what comes.
func TestAnEmptyQueueIsWaitedAt(t *testing.T) {
	client := embeddedtest.RedisClient(t)
	ctx, stop := context.WithCancel(t.Context())
	asked := &asking{UniversalClient: client}
	server := asynq.NewServerFromRedisClient(awaitQueue(asked, "empty", ctx.Done()), asynq.Config{Queues: map[string]int{"empty": 1},
		Concurrency: 4, TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel})
	done := make(chan string, 10)
	require.NoError(t, server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		done <- string(task.Payload())
		return nil
	})))
	t.Cleanup(func() {
		stop()
		server.Shutdown()
	})
	queue := asynq.NewClientFromRedisClient(client)
	for _, text := range []string{"a", "b", "c"} {
		_, err := queue.Enqueue(asynq.NewTask("x", []byte(text)), asynq.Queue("empty"))
		require.NoError(t, err)
		require.Equal(t, text, <-done)
	}
	before := asked.n.Load()
	time.Sleep(2 * time.Second)
	require.Less(t, asked.n.Load()-before, int64(20)) // asynq pauses for 1 ms between two
	require.Zero(t, client.LLen(t.Context(), "asynq:{empty}:pending").Val())
}
