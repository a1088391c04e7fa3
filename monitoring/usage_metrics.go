package monitoring

import "github.com/prometheus/client_golang/prometheus"

// The outcomes of counting requests of tenants.
const (
	HitsCounted = "counted"
	HitsLost    = "lost" // PostgreSQL was away for too long
)

// usageMetrics count what is counted for tenants.
type usageMetrics struct {
	hits    *prometheus.CounterVec
	billed  prometheus.Counter
	waiting prometheus.Gauge
}

func newUsageMetrics(r *prometheus.Registry) usageMetrics {
	u := usageMetrics{
		hits: counter("kurir_usage_hits_total", "Requests of tenants that were counted for them, or lost to the count because the database was away for too long.", "outcome"),
		billed: prometheus.NewCounter(prometheus.CounterOpts{Name: "kurir_usage_messages_total",
			Help: "Sent messages that were counted for tenants."}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kurir_usage_hits_waiting",
			Help: "Requests of tenants that this process has yet to write down as counted."}),
	}
	r.MustRegister(u.hits, u.billed, u.waiting)
	for _, outcome := range []string{HitsCounted, HitsLost} {
		u.hits.WithLabelValues(outcome) // 0 from the start, so that a rate sees the first one
	}
	return u
}

// UsageHits counts n requests of tenants. outcome is HitsCounted or HitsLost.
func (m *Metrics) UsageHits(outcome string, n int64) {
	m.usage.hits.WithLabelValues(outcome).Add(float64(n))
}

// UsageWaiting says how many requests are not written down yet.
func (m *Metrics) UsageWaiting(n int64) { m.usage.waiting.Set(float64(n)) }

// MessagesBilled counts n sent messages that were counted for tenants.
func (m *Metrics) MessagesBilled(n int64) { m.usage.billed.Add(float64(n)) }
