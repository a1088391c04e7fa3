package monitoring

import "github.com/prometheus/client_golang/prometheus"

// limitMetrics count what limits did.
type limitMetrics struct {
	limited   *prometheus.CounterVec
	unchecked *prometheus.CounterVec
	recounts  prometheus.Counter
}

func newLimitMetrics(r *prometheus.Registry) limitMetrics {
	m := limitMetrics{
		limited:   counter("kurir_rate_limited_total", "Requests that were refused by a limit, by which.", "limit"),
		unchecked: counter("kurir_limit_unchecked_total", "Requests that a limit could not look at, because Redis did not answer: they were let in, or, for logins, counted in memory.", "limit"),
		recounts: prometheus.NewCounter(prometheus.CounterOpts{Name: "kurir_message_recounts_total",
			Help: "Counts of a user's messages that were made from PostgreSQL: after an hour without any, or because Redis had lost them."}),
	}
	r.MustRegister(m.limited, m.unchecked, m.recounts)
	return m
}

// KnownLimits shows limits from the start, so that a rate sees the first refusal.
func (m *Metrics) KnownLimits(names []string) {
	for _, name := range names {
		m.limits.limited.WithLabelValues(name)
		m.limits.unchecked.WithLabelValues(name)
	}
}

// RateLimited counts a request that a limit refused.
func (m *Metrics) RateLimited(limit string) { m.limits.limited.WithLabelValues(limit).Inc() }

// LimitUnchecked counts a request that a limit could not look at.
func (m *Metrics) LimitUnchecked(limit string) { m.limits.unchecked.WithLabelValues(limit).Inc() }

// MessagesRecounted counts a count that was made from PostgreSQL.
func (m *Metrics) MessagesRecounted() { m.limits.recounts.Inc() }
