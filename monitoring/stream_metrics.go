package monitoring

import "github.com/prometheus/client_golang/prometheus"

// streamMetrics count event streams.
type streamMetrics struct {
	open   prometheus.Gauge
	closed *prometheus.CounterVec
}

func newStreamMetrics(r *prometheus.Registry) streamMetrics {
	s := streamMetrics{
		open:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "kurir_event_streams", Help: "Event streams that are open at this process."}),
		closed: counter("kurir_event_streams_closed_total", "Event streams that ended, by why: client_gone, slow_client, revoked, shutdown and so on.", "why"),
	}
	r.MustRegister(s.open, s.closed)
	return s
}

// StreamOpened counts an event stream that began.
func (m *Metrics) StreamOpened() { m.streams.open.Inc() }

// StreamClosed counts an event stream that ended.
func (m *Metrics) StreamClosed(why string) {
	m.streams.open.Dec()
	m.streams.closed.WithLabelValues(why).Inc()
}
