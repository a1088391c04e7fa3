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
	Lanes int           // that have work now
	Depth int           // rows that are due
	Age   time.Duration // since the oldest of them was due; 0 if none is
}

// Fleet is what the workers hold.
type Fleet struct {
	Workers  map[string]int // by status
	Sessions map[string]int // by status
	Assigned int            // sessions that occupy room at workers, of the engines that take new sessions
	Capacity int            // room at those workers that are online
}

var (
	lanesDue  = desc("kurir_lanes_due", "Lanes of a kind that have rows which are due.", "kind")
	laneDepth = desc("kurir_lane_depth", "Rows of all lanes of a kind that are due.", "kind")
	laneAge   = desc("kurir_lane_age_seconds", "Time since the oldest row that is due was due.", "kind")

	workers  = desc("kurir_workers", "Workers by status.", "status")
	sessions = desc("kurir_sessions", "Sessions by status, deleted ones left out.", "status")
	assigned = desc("kurir_worker_sessions_assigned", "Sessions that occupy room at workers. Where real workers are registered, simulated phones do not count.")
	capacity = desc("kurir_worker_sessions_max", "Sessions that the workers online can hold. Where real workers are registered, simulated ones do not count.")
)

// The states of workers and sessions have a series each, with or without any in it, so that a rule can ask for them.
var (
	workerStates  = []string{"online", "offline", "maintenance"}
	sessionStates = []string{"init", "qr_required", "connected", "disconnected", "reconnecting", "error"}
)

// WatchLanes adds the gauges of the lanes. fetch returns the figures by kind, LaneMessages and LaneWebhooks; it is asked at a
// scrape, at most each 5 s, and has 2 s.
func (m *Metrics) WatchLanes(fetch func(context.Context) (map[string]Lane, error)) {
	m.registry.MustRegister(&watched[map[string]Lane]{
		source: newSource(fetch),
		up:     sourceUp("lanes"),
		descs:  []*prometheus.Desc{lanesDue, laneDepth, laneAge},
		emit: func(lanes map[string]Lane, e emitter) {
			for kind, lane := range lanes {
				e.gauge(lanesDue, float64(lane.Lanes), kind)
				e.gauge(laneDepth, float64(lane.Depth), kind)
				e.gauge(laneAge, lane.Age.Seconds(), kind)
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
		emit: func(f Fleet, e emitter) {
			e.byLabel(workers, f.Workers, workerStates)
			e.byLabel(sessions, f.Sessions, sessionStates)
			e.gauge(assigned, float64(f.Assigned))
			e.gauge(capacity, float64(f.Capacity))
		},
	})
}

// emitter sends samples.
type emitter struct{ ch chan<- prometheus.Metric }

func (e emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	e.send(d, prometheus.GaugeValue, value, labels...)
}

func (e emitter) counter(d *prometheus.Desc, value float64, labels ...string) {
	e.send(d, prometheus.CounterValue, value, labels...)
}

func (e emitter) send(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
}

// byLabel sends a gauge for each label, those known first to be there, with 0 where figures do not have them.
func (e emitter) byLabel(d *prometheus.Desc, figures map[string]int, known []string) {
	for _, label := range known {
		if _, ok := figures[label]; !ok {
			e.gauge(d, 0, label)
		}
	}
	for label, n := range figures {
		e.gauge(d, float64(n), label)
	}
}

// watched is a collector over a source. When the source fails, its series are missing, since old figures would lie, and
// kurir_source_up says so.
type watched[T any] struct {
	source *source[T]
	up     *prometheus.Desc
	descs  []*prometheus.Desc
	emit   func(T, emitter)
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
	w.emit(value, emitter{ch})
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
