package jobs

import (
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"kurir/monitoring"
)

// connOf lets a Redis client that is there already serve where asynq asks for a way to connect.
type connOf struct{ client redis.UniversalClient }

func (c connOf) MakeRedisClient() any { return c.client }

// Dashboard is asynqmon over the queues of a Redis, with charts from the Prometheus at a URL, if there is one.
func Dashboard(client redis.UniversalClient, rootPath string, readOnly bool, prometheus string) *monitoring.Dashboard {
	return monitoring.Queues(asynq.RedisConnOpt(connOf{client}), rootPath, readOnly, prometheus)
}

// WatchQueues adds the figures of our queues to the metrics.
func WatchQueues(m *monitoring.Metrics, client redis.UniversalClient) {
	m.WatchQueues(connOf{client}, Queues()) // what it returns would close the client, which is the caller's
}
