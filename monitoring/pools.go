package monitoring

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Pool is a pool of connections to PostgreSQL. Waits and Waited count from the start of the process.
type Pool struct {
	Max, InUse, Idle int
	Waits            int64         // times that nothing was idle
	Waited           time.Duration // in all of them together
}

// WatchPool adds the gauges of a pool of connections to PostgreSQL, by the pool's name. stat reads figures in memory and is
// asked at every scrape.
func (m *Metrics) WatchPool(name string, stat func() Pool) {
	of := func(metric, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(metric, help, labels, prometheus.Labels{"pool": name})
	}
	m.registry.MustRegister(&pool{
		stat:   stat,
		conns:  of("kurir_database_connections", "Connections of this process to PostgreSQL by state.", "state"),
		max:    of("kurir_database_connections_max", "Connections to PostgreSQL that this process may open."),
		waits:  of("kurir_database_waits_total", "Times that a query had to wait for a connection."),
		waited: of("kurir_database_wait_seconds_total", "Time that queries waited for connections."),
	})
}

type pool struct {
	stat                      func() Pool
	conns, max, waits, waited *prometheus.Desc
}

func (p *pool) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{p.conns, p.max, p.waits, p.waited} {
		ch <- d
	}
}

func (p *pool) Collect(ch chan<- prometheus.Metric) {
	s, e := p.stat(), emitter{ch}
	e.gauge(p.conns, float64(s.InUse), "in_use")
	e.gauge(p.conns, float64(s.Idle), "idle")
	e.gauge(p.max, float64(s.Max))
	e.counter(p.waits, float64(s.Waits))
	e.counter(p.waited, s.Waited.Seconds())
}

var (
	redisConns  = desc("kurir_redis_connections", "Connections of this process to Redis by state.", "state")
	redisOpened = desc("kurir_redis_connections_opened_total", "Times that a command found no idle connection to Redis.")
	redisLate   = desc("kurir_redis_pool_timeouts_total", "Times that a command waited for a connection to Redis in vain.")
)

// redisPool is a client's own pool.
type redisPool struct{ client redis.UniversalClient }

func (redisPool) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{redisConns, redisOpened, redisLate} {
		ch <- d
	}
}

func (p redisPool) Collect(ch chan<- prometheus.Metric) {
	s, e := p.client.PoolStats(), emitter{ch}
	e.gauge(redisConns, float64(s.TotalConns-min(s.IdleConns, s.TotalConns)), "in_use")
	e.gauge(redisConns, float64(s.IdleConns), "idle")
	e.counter(redisOpened, float64(s.Misses))
	e.counter(redisLate, float64(s.Timeouts))
}
