package monitoring

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// moveBuckets are seconds. 20 s is the budget for a dead worker's sessions, from its last breath; 30 s the brief's.
var moveBuckets = []float64{.05, .1, .25, .5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 900}

// The repairs of sessions.
var repairs = []string{"assigned", "created", "dropped", "ended", "lost", "moved", "suspended", "unreserved"}

// Why sessions move.
var moveReasons = []string{"admin", "drain", "network", "offline", "rebalance", "refused", "removed", "shutdown"}

// fleetMetrics count what happens to workers and to their sessions.
type fleetMetrics struct {
	repairs  *prometheus.CounterVec
	moves    *prometheus.HistogramVec
	failures *prometheus.CounterVec
	lapses   prometheus.Histogram
	probes   *prometheus.CounterVec
	refusals *prometheus.CounterVec
}

func newFleetMetrics(r *prometheus.Registry) fleetMetrics {
	f := fleetMetrics{
		repairs: counter("kurir_session_repairs_total",
			"Sessions that were not as they should be: assigned anew, created where they were missing, dropped where they did not belong, "+
				"lost by their worker, moved away from trouble, or with room reserved for nothing.", "kind"),
		moves: histogram("kurir_session_migration_seconds",
			"Time from a session's being assigned to another worker to that worker's holding it.", moveBuckets, "reason"),
		failures: counter("kurir_session_migrations_failed_total",
			"Moves that were given up; the session stayed where it was.", "reason"),
		lapses: plainHistogram("kurir_worker_lapse_seconds",
			"Time from the last heartbeat of a worker to its being taken for offline.", moveBuckets),
		probes: counter("kurir_worker_probes_total",
			"Probes of workers by what they found.", "outcome"),
		refusals: counter("kurir_worker_registrations_refused_total",
			"Calls of workers that were not let in: registrations that were refused, and any call with a wrong token.", "reason"),
	}
	r.MustRegister(f.repairs, f.moves, f.failures, f.lapses, f.probes, f.refusals)
	for _, kind := range repairs {
		f.repairs.WithLabelValues(kind) // 0 from the start, so that a rate sees the first one
	}
	for _, reason := range moveReasons {
		f.moves.WithLabelValues(reason)
		f.failures.WithLabelValues(reason)
	}
	for _, outcome := range []string{"ok", "silent", "unreachable", "timeout", "garbage", "wrong_term", "refused"} {
		f.probes.WithLabelValues(outcome)
	}
	f.refusals.WithLabelValues("wrong_token")
	return f
}

// Repairs counts n sessions that were repaired in one way.
func (m *Metrics) Repairs(kind string, n int) { m.fleet.repairs.WithLabelValues(kind).Add(float64(n)) }

// Moved records how long a session that was assigned to another worker was held by nobody.
func (m *Metrics) Moved(reason string, took time.Duration) {
	m.fleet.moves.WithLabelValues(reason).Observe(took.Seconds())
}

// MoveFailed counts a move that was given up.
func (m *Metrics) MoveFailed(reason string) { m.fleet.failures.WithLabelValues(reason).Inc() }

// LeaseLapsed records how long a worker had been silent when its lease was over.
func (m *Metrics) LeaseLapsed(silent time.Duration) { m.fleet.lapses.Observe(silent.Seconds()) }

// Probe counts a probe of a worker.
func (m *Metrics) Probe(outcome string) { m.fleet.probes.WithLabelValues(outcome).Inc() }

// RegistrationRefused counts a worker that was not let in.
func (m *Metrics) RegistrationRefused(reason string) {
	m.fleet.refusals.WithLabelValues(reason).Inc()
}

// Scaling is how many workers there are and should be.
type Scaling struct {
	Workers, Recommended int
	Utilization          float64 // sessions per room
}

var (
	scalingRecommended = desc("kurir_scaling_recommended_workers", "Workers that there should be.")
	scalingWorkers     = desc("kurir_scaling_workers", "Workers that are online, as the recommendation counted them.")
	scalingUtilization = desc("kurir_scaling_utilization_ratio", "Sessions, those without a worker included, per room at the workers online.")
)

// WatchScaling adds the gauges of the recommendation, for autoscalers. fetch is asked as in WatchLanes.
func (m *Metrics) WatchScaling(fetch func(context.Context) (Scaling, error)) {
	m.registry.MustRegister(&watched[Scaling]{
		source: newSource(fetch),
		up:     sourceUp("scaling"),
		descs:  []*prometheus.Desc{scalingRecommended, scalingWorkers, scalingUtilization},
		emit: func(s Scaling, e emitter) {
			e.gauge(scalingRecommended, float64(s.Recommended))
			e.gauge(scalingWorkers, float64(s.Workers))
			e.gauge(scalingUtilization, s.Utilization)
		},
	})
}
