package monitoring

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// watchQueues is WatchQueues without the cache, so that each scrape asks Redis.
func watchQueues(t *testing.T, addr string, queues ...string) *Metrics {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	collector := newQueueCollector(client, queues)
	collector.source.ttl = 0
	collector.source.timeout = 500 * time.Millisecond
	m := New("1")
	m.registry.MustRegister(collector)
	return m
}

func enqueue(t *testing.T, addr, queue string, n int) {
	t.Helper()
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: addr})
	defer func() { _ = client.Close() }()
	for range n {
		_, err := client.Enqueue(asynq.NewTask("message:send", []byte(`{}`)), asynq.Queue(queue))
		require.NoError(t, err)
	}
}

func TestQueueFigures(t *testing.T) {
	server := miniredis.RunT(t)
	enqueue(t, server.Addr(), "messages", 3)
	m := watchQueues(t, server.Addr(), "control", "messages")

	got := scrape(t, m)
	assert.Contains(t, got, `kurir_redis_up 1`)
	assert.Contains(t, got, `kurir_queue_tasks{queue="messages",state="pending"} 3`)
	assert.Contains(t, got, `kurir_queue_tasks{queue="control",state="pending"} 0`, "a queue that nobody has used yet")
	assert.Contains(t, got, `kurir_queue_latency_seconds{queue="messages"}`)
	assert.Contains(t, got, `kurir_queue_paused{queue="messages"} 0`)
	assert.Contains(t, got, `kurir_queue_processed_total{queue="messages"} 0`)

	inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: server.Addr()})
	defer func() { _ = inspector.Close() }()
	require.NoError(t, inspector.PauseQueue("messages"))
	assert.Contains(t, scrape(t, m), `kurir_queue_paused{queue="messages"} 1`)
}

func TestQueueFiguresAfterAFlush(t *testing.T) {
	server := miniredis.RunT(t)
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: server.Addr()})
	defer func() { _ = client.Close() }()
	_, err := client.Enqueue(asynq.NewTask("a", nil), asynq.Queue("messages"))
	require.NoError(t, err)
	m := watchQueues(t, server.Addr(), "messages")
	require.Contains(t, scrape(t, m), `kurir_queue_tasks{queue="messages",state="pending"} 1`)

	server.FlushAll()
	_, err = client.Enqueue(asynq.NewTask("a", nil), asynq.Queue("messages"))
	require.NoError(t, err)
	require.False(t, server.Exists(asynqQueues), "asynq writes the set once per process; else our repair is not needed")

	assert.Contains(t, scrape(t, m), `kurir_queue_tasks{queue="messages",state="pending"} 1`)
	names, err := server.SMembers(asynqQueues)
	require.NoError(t, err)
	assert.Equal(t, []string{"messages"}, names, "the dashboard sees the queue again")
}

func TestQueueFiguresWhenRedisIsDown(t *testing.T) {
	server := miniredis.RunT(t)
	m := watchQueues(t, server.Addr(), "messages")
	require.Contains(t, scrape(t, m), "kurir_redis_up 1")

	server.Close()
	got := scrape(t, m)
	assert.Contains(t, got, "kurir_redis_up 0")
	assert.NotContains(t, got, "kurir_queue_")
	assert.Contains(t, got, "kurir_build_info", "the rest of the scrape")

	require.NoError(t, server.Restart())
	assert.Contains(t, scrape(t, m), "kurir_redis_up 1")
}

func TestQueueFiguresWhenRedisHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	m := watchQueues(t, listener.Addr().String(), "messages")
	start := time.Now()
	assert.Contains(t, scrape(t, m), "kurir_redis_up 0")
	assert.Less(t, time.Since(start), 3*time.Second)
}

func TestQueueFiguresWithoutQueues(t *testing.T) {
	m := watchQueues(t, miniredis.RunT(t).Addr())
	assert.Contains(t, scrape(t, m), "kurir_redis_up 1")
}

var _ prometheus.Collector = (*queueCollector)(nil)
