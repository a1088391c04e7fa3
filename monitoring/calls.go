package monitoring

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// callBuckets are seconds. 50 ms is the brief's bound for a query.
var callBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}

// operations are the first words of statements that have a label of their own.
var operations = map[string]bool{"select": true, "with": true, "insert": true, "update": true, "delete": true, "begin": true,
	"commit": true, "rollback": true, "batch": true}

// callMetrics time what the process asks of PostgreSQL and Redis.
type callMetrics struct {
	queries       *prometheus.HistogramVec
	queryFailures prometheus.Counter
	commands      prometheus.Histogram
	failures      prometheus.Counter
}

func newCallMetrics(r *prometheus.Registry) callMetrics {
	c := callMetrics{
		queries: histogram("kurir_database_query_duration_seconds",
			"Time from sending a statement to PostgreSQL to having read its answer, waits for locks included, by the statement's first word.", callBuckets, "operation"),
		queryFailures: plainCounter("kurir_database_query_failures_total",
			"Statements that PostgreSQL refused or did not answer in time."),
		commands: plainHistogram("kurir_redis_command_duration_seconds",
			"Time from a command or pipeline to Redis to its answer.", callBuckets),
		failures: plainCounter("kurir_redis_command_failures_total",
			"Commands and pipelines that Redis refused or did not answer in time."),
	}
	r.MustRegister(c.queries, c.queryFailures, c.commands, c.failures)
	return c
}

// Query records a statement to PostgreSQL. operation is its first word in lower case, or batch.
func (m *Metrics) Query(operation string, took time.Duration, failed bool) {
	if !operations[operation] {
		operation = "other"
	}
	m.calls.queries.WithLabelValues(operation).Observe(took.Seconds())
	if failed {
		m.calls.queryFailures.Inc()
	}
}

// WatchRedisClient adds the figures of a client: its pool, and how long its commands take.
func (m *Metrics) WatchRedisClient(client redis.UniversalClient) {
	client.AddHook(redisHook{m.calls})
	m.registry.MustRegister(redisPool{client})
}

// redisHook times commands.
type redisHook struct{ calls callMetrics }

func (h redisHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (h redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmd)
		h.done(cmd, began, err)
		return err
	}
}

func (h redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		began := time.Now()
		err := next(ctx, cmds)
		if len(cmds) > 0 {
			h.done(cmds[0], began, err)
		}
		return err
	}
}

// done counts a call, by its first command. The client's own words when it connects are left out: it asks for what an older
// Redis refuses. That there is nothing under a key, or that a script has to be sent in full first, is no failure.
func (h redisHook) done(first redis.Cmder, began time.Time, err error) {
	switch first.Name() {
	case "hello", "auth", "client", "select", "readonly", "blmove": // the last waits for a task to come
		return
	}
	h.calls.commands.Observe(time.Since(began).Seconds())
	if err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "NOSCRIPT") {
		h.calls.failures.Inc()
	}
}
