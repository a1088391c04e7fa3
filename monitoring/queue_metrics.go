package monitoring

import (
	"context"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// queueTTL is shorter than other sources': the figures are cheap, and an operator watches them while he acts.
const queueTTL = time.Second

// asynqQueues is the set in which asynq keeps the names of its queues. Each process writes it once per queue, so after a
// loss of Redis's data it stays empty, and with it the Inspector and the dashboard.
const asynqQueues = "asynq:queues"

var (
	redisUp      = desc("kurir_redis_up", "1 if Redis answered at this scrape; when it is 0, the queues' series are missing.")
	queueTasks   = desc("kurir_queue_tasks", "Tasks of a queue by state.", "queue", "state")
	queueLatency = desc("kurir_queue_latency_seconds", "Time that the oldest pending task of a queue has waited.", "queue")
	queuePaused  = desc("kurir_queue_paused", "1 if a queue is paused.", "queue")
	queueMemory  = desc("kurir_queue_memory_bytes", "Memory of Redis that a queue takes, by asynq's estimate.", "queue")
	queueDone    = desc("kurir_queue_processed_total", "Tasks that were run, failed ones too; starts anew when Redis loses its data.", "queue")
	queueFailed  = desc("kurir_queue_failed_total", "Tasks whose run failed; starts anew when Redis loses its data.", "queue")
)

// WatchQueues adds the figures of the named queues, as asynq's Inspector has them. It enters the names into asynq's set at
// each collection, which repairs it after a loss of Redis's data. close gives back the connections.
//
// asynq/x/metrics is not used: one dangling task ID costs it all figures, and it sees only the queues in that set.
func (m *Metrics) WatchQueues(opt asynq.RedisConnOpt, queues []string) (close func() error) {
	client, ok := opt.MakeRedisClient().(redis.UniversalClient)
	if !ok {
		panic(fmt.Sprintf("monitoring: %T makes no Redis client", opt)) // as asynq itself does
	}
	m.registry.MustRegister(newQueueCollector(client, queues))
	return client.Close
}

// queueCollector collects queue figures. When Redis is down or hangs, it reports kurir_redis_up 0 and nothing else; the
// scrape goes on.
type queueCollector struct {
	source *source[[]*asynq.QueueInfo]
}

func newQueueCollector(client redis.UniversalClient, queues []string) *queueCollector {
	inspector := asynq.NewInspectorFromRedisClient(client)
	members := make([]any, len(queues))
	for i, queue := range queues {
		members[i] = queue
	}
	c := &queueCollector{source: newSource(func(ctx context.Context) ([]*asynq.QueueInfo, error) {
		if err := client.Ping(ctx).Err(); err != nil {
			return nil, fmt.Errorf("ping Redis: %w", err)
		}
		if len(queues) == 0 {
			return nil, nil
		}
		if err := client.SAdd(ctx, asynqQueues, members...).Err(); err != nil {
			return nil, fmt.Errorf("enter the names of the queues: %w", err)
		}
		return inspect(inspector, queues)
	})}
	c.source.ttl = queueTTL
	return c
}

func inspect(inspector *asynq.Inspector, queues []string) ([]*asynq.QueueInfo, error) {
	infos := make([]*asynq.QueueInfo, 0, len(queues))
	for _, queue := range queues {
		info, err := inspector.GetQueueInfo(queue) // takes no context; the source bounds it
		if err != nil {
			return nil, fmt.Errorf("inspect queue %s: %w", queue, err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (c *queueCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{redisUp, queueTasks, queueLatency, queuePaused, queueMemory, queueDone, queueFailed} {
		ch <- d
	}
}

func (c *queueCollector) Collect(ch chan<- prometheus.Metric) {
	infos, err := c.source.get()
	if err != nil {
		ch <- prometheus.MustNewConstMetric(redisUp, prometheus.GaugeValue, 0)
		return
	}
	ch <- prometheus.MustNewConstMetric(redisUp, prometheus.GaugeValue, 1)
	for _, info := range infos {
		collectQueue(ch, info)
	}
}

func collectQueue(ch chan<- prometheus.Metric, info *asynq.QueueInfo) {
	for state, n := range map[string]int{
		"pending": info.Pending, "active": info.Active, "scheduled": info.Scheduled, "retry": info.Retry,
		"archived": info.Archived, "completed": info.Completed, "aggregating": info.Aggregating,
	} {
		ch <- prometheus.MustNewConstMetric(queueTasks, prometheus.GaugeValue, float64(n), info.Queue, state)
	}
	paused := 0.0
	if info.Paused {
		paused = 1
	}
	e := emitter{ch}
	e.gauge(queueLatency, info.Latency.Seconds(), info.Queue)
	e.gauge(queuePaused, paused, info.Queue)
	e.gauge(queueMemory, float64(info.MemoryUsage), info.Queue)
	e.counter(queueDone, float64(info.ProcessedTotal), info.Queue)
	e.counter(queueFailed, float64(info.FailedTotal), info.Queue)
}
