package embedded

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// eachRedis runs a test on miniredis, and on the real one where installed.
func eachRedis(t *testing.T, test func(t *testing.T, s *Servers)) {
	kinds := []string{Miniredis}
	if _, installed := Installed(t.Context()); installed != "" {
		kinds = append(kinds, RedisServer)
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			s := start(t, Config{Home: newHome(t), Redis: true, RedisKind: kind, Logger: slog.New(slog.DiscardHandler)})
			require.Contains(t, s.RedisKind, kind[:5])
			test(t, s)
		})
	}
}

func TestTTLsExpireByThemselves(t *testing.T) {
	eachRedis(t, func(t *testing.T, s *Servers) {
		client := redisAt(t, s.RedisURL)
		begin := time.Now()
		require.NoError(t, client.Set(t.Context(), "short", "1", 100*time.Millisecond).Err())
		require.NoError(t, client.Set(t.Context(), "long", "1", time.Hour).Err())
		require.Eventually(t, func() bool { return errors.Is(client.Get(t.Context(), "short").Err(), redis.Nil) }, deadline, 5*time.Millisecond)
		require.GreaterOrEqual(t, time.Since(begin), 100*time.Millisecond, "it should not expire early")
		ttl, err := client.PTTL(t.Context(), "long").Result()
		require.NoError(t, err)
		require.Less(t, ttl, time.Hour)
		require.Greater(t, ttl, 58*time.Minute)
	})
}

func TestAsynqRuns(t *testing.T) {
	eachRedis(t, func(t *testing.T, s *Servers) {
		opt, err := asynq.ParseRedisURI(s.RedisURL)
		require.NoError(t, err)
		client := asynq.NewClient(opt)
		defer client.Close()
		options := []asynq.Option{asynq.Retention(time.Minute), asynq.MaxRetry(1)}
		_, err = client.EnqueueContext(t.Context(), asynq.NewTask("now", []byte("id-1")), append(options, asynq.TaskID("one"))...)
		require.NoError(t, err)
		_, err = client.EnqueueContext(t.Context(), asynq.NewTask("now", []byte("id-1")), append(options, asynq.TaskID("one"))...)
		require.ErrorIs(t, err, asynq.ErrTaskIDConflict)
		_, err = client.EnqueueContext(t.Context(), asynq.NewTask("later", []byte("id-2")), append(options, asynq.ProcessIn(time.Second))...)
		require.NoError(t, err)

		seen := make(chan string, 10)
		server := asynq.NewServer(opt, asynq.Config{Concurrency: 2, Logger: quiet{}, TaskCheckInterval: 10 * time.Millisecond,
			DelayedTaskCheckInterval: 50 * time.Millisecond, ShutdownTimeout: time.Second})
		require.NoError(t, server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
			seen <- task.Type() + " " + string(task.Payload())
			return nil
		})))
		defer server.Shutdown()
		for _, want := range []string{"now id-1", "later id-2"} {
			select {
			case got := <-seen:
				require.Equal(t, want, got)
			case <-time.After(deadline):
				t.Fatalf("%q was not processed", want)
			}
		}
		inspector := asynq.NewInspector(opt)
		defer inspector.Close()
		require.Eventually(t, func() bool {
			q, err := inspector.GetQueueInfo("default")
			return err == nil && q.Completed == 2 && q.Active == 0
		}, deadline, 10*time.Millisecond)
	})
}

// quiet drops asynq's log.
type quiet struct{}

func (quiet) Debug(...any) {}
func (quiet) Info(...any)  {}
func (quiet) Warn(...any)  {}
func (quiet) Error(...any) {}
func (quiet) Fatal(...any) {}
