package monitoring

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The kinds of lane.
const (
	LaneMessages = "messages"
	LaneWebhooks = "webhooks"
)

// Lane is how far the lanes of one kind are behind.
type Lane struct {
	Depth int           // rows that are due
	Age   time.Duration // since the oldest of them was due; 0 if none is
}

// Fleet is what the workers hold.
type Fleet struct {
	Workers  map[string]int // by status
	Sessions map[string]int // by status
	Assigned int            // sessions that occupy room at workers
	Capacity int            // room at workers that are online
}

// Pool is a database pool. Waits and Waited count from the start of the process.
type Pool struct {
	Max, InUse, Idle int
	Waits            int64         // times that nothing was idle
	Waited           time.Duration // in all of them together
}

var (
	laneDepth = desc("kurir_lane_depth", "Rows of all lanes of a kind that are due.", "kind")
	laneAge   = desc("kurir_lane_age_seconds", "Time since the oldest row that is due was due.", "kind")

	workers  = desc("kurir_workers", "Workers by status.", "status")
	sessions = desc("kurir_sessions", "Sessions by status, deleted ones left out.", "status")
	assigned = desc("kurir_worker_sessions_assigned", "Sessions that occupy room at workers.")
	capacity = desc("kurir_worker_sessions_max", "Sessions that the workers online can hold.")

	poolConns  = desc("kurir_database_connections", "Connections of this process by state.", "state")
	poolMax    = desc("kurir_database_connections_max", "Connections that this process may open.")
	poolWaits  = desc("kurir_database_waits_total", "Times that a query had to wait for a connection.")
	poolWaited = desc("kurir_database_wait_seconds_total", "Time that queries waited for connections.")
)

// WatchLanes adds the gauges of the lanes. fetch returns the figures by kind, LaneMessages and LaneWebhooks; it is asked at a
// scrape, at most each 5 s, and has 2 s.
func (m *Metrics) WatchLanes(fetch func(context.Context) (map[string]Lane, error)) {
	m.registry.MustRegister(&watched[map[string]Lane]{
		source: newSource(fetch),
		up:     sourceUp("lanes"),
		descs:  []*prometheus.Desc{laneDepth, laneAge},
		emit: func(lanes map[string]Lane, gauge gaugeFunc) {
			for kind, lane := range lanes {
				gauge(laneDepth, float64(lane.Depth), kind)
				gauge(laneAge, lane.Age.Seconds(), kind)
			}
		},
	})
}

// WatchFleet adds the gauges of workers and sessions. fetch is asked as in WatchLanes.
func (m *Metrics) WatchFleet(fetch func(context.Context) (Fleet, error)) {
	m.registry.MustRegister(&watched[Fleet]{
		source: newSource(fetch),
		up:     sourceUp("fleet"),
		descs:  []*prometheus.Desc{workers, sessions, assigned, capacity},
		emit: func(f Fleet, gauge gaugeFunc) {
			for status, n := range f.Workers {
				gauge(workers, float64(n), status)
			}
			for status, n := range f.Sessions {
				gauge(sessions, float64(n), status)
			}
			gauge(assigned, float64(f.Assigned))
			gauge(capacity, float64(f.Capacity))
		},
	})
}

// WatchPool adds the gauges of the database pool. stat reads figures in memory and is asked at every scrape.
func (m *Metrics) WatchPool(stat func() Pool) { m.registry.MustRegister(pool(stat)) }

// gaugeFunc sends one sample of a gauge.
type gaugeFunc func(d *prometheus.Desc, value float64, labels ...string)

// watched is a collector over a source. When the source fails, its series are missing, since old figures would lie, and
// kurir_source_up says so.
type watched[T any] struct {
	source *source[T]
	up     *prometheus.Desc
	descs  []*prometheus.Desc
	emit   func(T, gaugeFunc)
}

func (w *watched[T]) Describe(ch chan<- *prometheus.Desc) {
	ch <- w.up
	for _, d := range w.descs {
		ch <- d
	}
}

func (w *watched[T]) Collect(ch chan<- prometheus.Metric) {
	value, err := w.source.get()
	if err != nil {
		ch <- prometheus.MustNewConstMetric(w.up, prometheus.GaugeValue, 0)
		return
	}
	ch <- prometheus.MustNewConstMetric(w.up, prometheus.GaugeValue, 1)
	w.emit(value, func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	})
}

type pool func() Pool

func (pool) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolConns, poolMax, poolWaits, poolWaited} {
		ch <- d
	}
}

func (stat pool) Collect(ch chan<- prometheus.Metric) {
	p := stat()
	ch <- prometheus.MustNewConstMetric(poolConns, prometheus.GaugeValue, float64(p.InUse), "in_use")
	ch <- prometheus.MustNewConstMetric(poolConns, prometheus.GaugeValue, float64(p.Idle), "idle")
	ch <- prometheus.MustNewConstMetric(poolMax, prometheus.GaugeValue, float64(p.Max))
	ch <- prometheus.MustNewConstMetric(poolWaits, prometheus.CounterValue, float64(p.Waits))
	ch <- prometheus.MustNewConstMetric(poolWaited, prometheus.CounterValue, p.Waited.Seconds())
}

// sourceUp is constant in its label, so that each collector describes its own.
func sourceUp(name string) *prometheus.Desc {
	return prometheus.NewDesc("kurir_source_up",
		"1 if the figures of a source could be had at this scrape, 0 if its series are missing.",
		nil, prometheus.Labels{"source": name})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}
