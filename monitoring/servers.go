package monitoring

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Postgres is what PostgreSQL tells of itself. The counters are of the database since its statistics were reset.
type Postgres struct {
	Size, Dead, Live                                                     int64          // bytes; rows
	Connections                                                          map[string]int // of all clients, by state
	ConnectionsMax                                                       int
	OldestTransaction                                                    time.Duration
	TransactionAge                                                       int64 // IDs since the oldest that is not frozen
	Commits, Rollbacks, Deadlocks, BlocksRead, BlocksHit, TemporaryBytes int64
}

// connectionStates have a series each, with or without connections.
var connectionStates = []string{"active", "idle", "idle_in_transaction"}

var (
	pgSize       = desc("kurir_postgres_size_bytes", "Size of the database.")
	pgRows       = desc("kurir_postgres_rows", "Rows of all tables by PostgreSQL's estimate: live, or dead and waiting for vacuum.", "state")
	pgConns      = desc("kurir_postgres_connections", "Connections of all clients to PostgreSQL by state.", "state")
	pgMax        = desc("kurir_postgres_connections_max", "Connections that PostgreSQL takes.")
	pgOldest     = desc("kurir_postgres_oldest_transaction_seconds", "Age of the oldest transaction that is open.")
	pgAge        = desc("kurir_postgres_transaction_id_age", "Transaction IDs since the oldest that is not frozen; PostgreSQL stops before 2 billion.")
	pgEnds       = desc("kurir_postgres_transactions_total", "Transactions by how they ended.", "outcome")
	pgDeadlocks  = desc("kurir_postgres_deadlocks_total", "Deadlocks that PostgreSQL has broken.")
	pgBlocks     = desc("kurir_postgres_blocks_total", "Blocks that were read: hit in PostgreSQL's memory, or asked of the operating system.", "source")
	pgTemporary  = desc("kurir_postgres_temporary_bytes_total", "Bytes that queries wrote to disk for want of memory.")
	redisFigures = []redisFigure{
		{"used_memory", desc("kurir_redis_memory_bytes", "Memory that Redis uses."), prometheus.GaugeValue},
		{"maxmemory", desc("kurir_redis_memory_max_bytes", "Memory that Redis may use; 0: as much as there is."), prometheus.GaugeValue},
		{"connected_clients", desc("kurir_redis_clients", "Connections of all clients to Redis."), prometheus.GaugeValue},
		{redisKeys, desc("kurir_redis_keys", "Keys in the database of Redis."), prometheus.GaugeValue},
		{"total_commands_processed", desc("kurir_redis_commands_total", "Commands that Redis has run, for whichever client."), prometheus.CounterValue},
		{"evicted_keys", desc("kurir_redis_evicted_keys_total", "Keys that Redis has dropped for want of memory, tasks among them; none, with maxmemory-policy noeviction."), prometheus.CounterValue},
	}
)

// WatchPostgres adds the figures of the database. fetch is asked as in WatchLanes.
func (m *Metrics) WatchPostgres(fetch func(context.Context) (Postgres, error)) {
	m.registry.MustRegister(&watched[Postgres]{
		source: newSource(fetch),
		up:     sourceUp("postgres"),
		descs:  []*prometheus.Desc{pgSize, pgRows, pgConns, pgMax, pgOldest, pgAge, pgEnds, pgDeadlocks, pgBlocks, pgTemporary},
		emit:   emitPostgres,
	})
}

func emitPostgres(p Postgres, e emitter) {
	e.gauge(pgSize, float64(p.Size))
	e.gauge(pgRows, float64(p.Live), "live")
	e.gauge(pgRows, float64(p.Dead), "dead")
	e.byLabel(pgConns, p.Connections, connectionStates)
	e.gauge(pgMax, float64(p.ConnectionsMax))
	e.gauge(pgOldest, p.OldestTransaction.Seconds())
	e.gauge(pgAge, float64(p.TransactionAge))
	e.counter(pgEnds, float64(p.Commits), "committed")
	e.counter(pgEnds, float64(p.Rollbacks), "rolled_back")
	e.counter(pgDeadlocks, float64(p.Deadlocks))
	e.counter(pgBlocks, float64(p.BlocksHit), "memory")
	e.counter(pgBlocks, float64(p.BlocksRead), "system")
	e.counter(pgTemporary, float64(p.TemporaryBytes))
}

// redisFigure is a line of INFO, or redisKeys. One that a server does not have is left out.
type redisFigure struct {
	name string
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// redisKeys stands for the answer to DBSIZE among the lines of INFO.
const redisKeys = "dbsize"

// WatchRedisServer adds what Redis tells of itself; of a cluster, the sums over its masters.
func (m *Metrics) WatchRedisServer(client redis.UniversalClient) {
	descs := make([]*prometheus.Desc, len(redisFigures))
	for i, f := range redisFigures {
		descs[i] = f.desc
	}
	m.registry.MustRegister(&watched[map[string]float64]{
		source: newSource(func(ctx context.Context) (map[string]float64, error) { return askRedis(ctx, client) }),
		up:     sourceUp("redis"),
		descs:  descs,
		emit: func(figures map[string]float64, e emitter) {
			for _, f := range redisFigures {
				if v, ok := figures[f.name]; ok {
					e.send(f.desc, f.kind, v)
				}
			}
		},
	})
}

func askRedis(ctx context.Context, client redis.UniversalClient) (map[string]float64, error) {
	figures, mu := map[string]float64{}, sync.Mutex{}
	ask := func(ctx context.Context, server redis.Cmdable) error {
		info, err := server.Info(ctx).Result()
		if err != nil {
			return fmt.Errorf("ask Redis for its figures: %w", err)
		}
		keys, err := server.DBSize(ctx).Result()
		if err != nil {
			return fmt.Errorf("ask Redis for its keys: %w", err)
		}
		mu.Lock()
		defer mu.Unlock()
		figures[redisKeys] += float64(keys)
		for line := range strings.Lines(info) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if v, err := strconv.ParseFloat(value, 64); err == nil && name != redisKeys {
				figures[name] += v
			}
		}
		return nil
	}
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return figures, cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return ask(ctx, c) })
	}
	return figures, ask(ctx, client)
}
