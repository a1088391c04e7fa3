package monitoring

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The outcomes of a run of a job, and of an attempt at a durable one.
const (
	JobSucceeded = "succeeded"
	JobFailed    = "failed"  // for good
	JobRetried   = "retried" // an attempt failed, and there will be another one
	JobWaiting   = "waiting" // an attempt found nothing wrong, and that it is not over yet
)

// The outcomes of a wake-up of a lane.
const (
	WakeEnqueued   = "enqueued"
	WakeSuppressed = "suppressed" // one is on its way already
	WakeCalled     = "called"     // its holder was told
	WakeFailed     = "failed"     // Redis is down; the sweep will find the lane
)

// latencyBuckets are seconds. They hold the bounds of our budgets (20 ms, 30 ms, 200 ms), so that those shares can be
// read exactly, and reach to the hour for what had to be retried.
var latencyBuckets = []float64{
	.001, .0025, .005, .01, .02, .03, .05, .1, .2, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600,
}

// requestBuckets are seconds; a request that waits for its job may take half a minute.
var requestBuckets = []float64{.001, .0025, .005, .01, .02, .03, .05, .1, .2, .5, 1, 2.5, 5, 10, 30}

// jobBuckets are seconds.
var jobBuckets = []float64{.005, .01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 300}

// batchBuckets are messages per insert; 1 says that nothing was grouped.
var batchBuckets = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512}

// Metrics is the program's own registry and what is counted in it. Names begin with kurir_, those of the Go runtime and
// of the process, which dashboards know, excepted. All methods are safe for concurrent use.
//
// Labels never hold anything of a tenant: no session, no user, no URL.
type Metrics struct {
	registry *prometheus.Registry

	requests         *prometheus.CounterVec
	failures         *prometheus.CounterVec
	requestSeconds   *prometheus.HistogramVec
	requestsRunning  prometheus.Gauge
	jobSeconds       *prometheus.HistogramVec
	attempts         *prometheus.CounterVec
	acceptToSent     prometheus.Histogram
	eventToDelivered prometheus.Histogram
	messages         *prometheus.CounterVec
	deliveries       *prometheus.CounterVec
	hookSeconds      prometheus.Histogram
	hooksDisabled    *prometheus.CounterVec
	acceptBatch      prometheus.Histogram
	wakes            *prometheus.CounterVec
	calls            callMetrics
	fleet            fleetMetrics
	streams          streamMetrics
	limits           limitMetrics
	usage            usageMetrics
}

// New makes the metrics of one process. version is the program's, shown in kurir_build_info.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("kurir_http_requests_total",
			"HTTP requests answered.", "method", "route", "status"),
		failures: counter("kurir_http_failures_total",
			"Answers 5xx by their code, those to probes left out.", "code"),
		requestSeconds: histogram("kurir_http_request_duration_seconds",
			"Time from a request to its answer, but of those whose client asked to wait for the end of what he began.", requestBuckets, "method", "route", "status"),
		requestsRunning: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kurir_http_requests_running", Help: "HTTP requests that are being answered."}),
		jobSeconds: histogram("kurir_job_duration_seconds",
			"Time that a run of a job took, by how it ended.", jobBuckets, "kind", "outcome"),
		attempts: counter("kurir_job_attempts_total",
			"Attempts at durable jobs by what came of them: succeeded, failed for good, retried after a failure, or waiting for something that takes its time.", "kind", "outcome"),
		acceptToSent: plainHistogram("kurir_message_accept_to_sent_seconds",
			"Time that a message took to the network's taking it: from its accept, its scheduled time, or when its session's pace and the network let it go.", latencyBuckets),
		eventToDelivered: plainHistogram("kurir_webhook_event_to_delivered_seconds",
			"Time from an event to the subscriber's taking it.", latencyBuckets),
		messages: counter("kurir_messages_total",
			"Messages that reached a state: accepted, received, sent, delivered, read, failed and so on.", "outcome"),
		deliveries: counter("kurir_webhook_deliveries_total",
			"Attempts at webhook deliveries, by outcome.", "outcome"),
		hookSeconds: plainHistogram("kurir_webhook_request_duration_seconds",
			"Time that subscribers took to answer an attempt at a delivery, or that was spent on it.", requestBuckets),
		hooksDisabled: counter("kurir_webhooks_disabled_total",
			"Webhooks that were switched off: gone, because the subscriber said so, or failing for days.", "reason"),
		acceptBatch: plainHistogram("kurir_accept_batch_messages",
			"Messages that shared one insert.", batchBuckets),
		wakes: counter("kurir_wake_hints_total",
			"Wake-ups of lanes: enqueued, called (the runner that has the lane was told), suppressed because one was on its way, or failed because Redis was down.", "outcome"),
	}
	m.fleet = newFleetMetrics(m.registry)
	m.streams = newStreamMetrics(m.registry)
	m.limits = newLimitMetrics(m.registry)
	m.usage = newUsageMetrics(m.registry)
	m.calls = newCallMetrics(m.registry)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "kurir_build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build, m.requests, m.failures, m.requestSeconds, m.requestsRunning, m.jobSeconds, m.attempts, m.acceptToSent, m.eventToDelivered, m.messages, m.deliveries,
		m.hookSeconds, m.hooksDisabled, m.acceptBatch, m.wakes,
	)
	m.startAtZero()
	return m
}

// startAtZero shows what is counted by a known label from the start, so that a rate sees the first one.
func (m *Metrics) startAtZero() {
	for vec, outcomes := range map[*prometheus.CounterVec][]string{
		m.wakes:         {WakeEnqueued, WakeSuppressed, WakeFailed},
		m.messages:      {"accepted", "sent", "delivered", "read", "failed", "expired", "unknown", "throttled", "received"},
		m.deliveries:    {"delivered", "retrying", "failed"},
		m.hooksDisabled: {"gone", "failing"},
	} {
		for _, outcome := range outcomes {
			vec.WithLabelValues(outcome)
		}
	}
}

// KnownJobs shows kinds of durable jobs from the start.
func (m *Metrics) KnownJobs(kinds ...string) {
	for _, kind := range kinds {
		for _, outcome := range []string{JobSucceeded, JobFailed, JobRetried, JobWaiting} {
			m.attempts.WithLabelValues(kind, outcome)
		}
	}
}

// KnownFailures shows codes of answers 5xx from the start.
func (m *Metrics) KnownFailures(codes ...string) {
	for _, code := range codes {
		m.failures.WithLabelValues(code)
	}
}

// KnownRoute shows a route from the start.
func (m *Metrics) KnownRoute(method, route string) {
	for _, status := range []string{"2xx", "4xx", "5xx"} {
		m.requests.WithLabelValues(method, route, status)
	}
}

// Handler serves /metrics. What cannot be collected is left out; the rest is served.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 8, // scrapers, not a crowd
		Timeout:             10 * time.Second,
	})
}

// Request counts an HTTP request. route is the template of the path, never the path itself; empty stands for a path that
// no route matches. One whose client asked to wait took as long as he wished: it is counted and not timed.
func (m *Metrics) Request(method, route string, status int, took time.Duration, waited bool) {
	if route == "" {
		route = "unmatched"
	}
	labels := []string{knownMethod(method), route, statusClass(status)}
	m.requests.WithLabelValues(labels...).Inc()
	if !waited {
		m.requestSeconds.WithLabelValues(labels...).Observe(took.Seconds())
	}
}

// RequestFailed counts an answer 5xx, other than to a probe, by its code, which is one of docs/errors.md.
func (m *Metrics) RequestFailed(code string) { m.failures.WithLabelValues(code).Inc() }

// RequestsRunning says that n more requests are being answered, or fewer.
func (m *Metrics) RequestsRunning(n int) { m.requestsRunning.Add(float64(n)) }

// JobRun counts a run of a job. outcome is JobSucceeded or JobFailed.
func (m *Metrics) JobRun(kind, outcome string, took time.Duration) {
	m.jobSeconds.WithLabelValues(kind, outcome).Observe(took.Seconds())
}

// JobAttempt counts an attempt at a durable job. outcome is one of those above.
func (m *Metrics) JobAttempt(kind, outcome string) { m.attempts.WithLabelValues(kind, outcome).Inc() }

// AcceptToSent records how long a message took until it was sent: from its accept, its scheduled time, or when pace and network let it go.
func (m *Metrics) AcceptToSent(took time.Duration) { m.acceptToSent.Observe(took.Seconds()) }

// EventToDelivered records how long an event took until a subscriber had it.
func (m *Metrics) EventToDelivered(took time.Duration) { m.eventToDelivered.Observe(took.Seconds()) }

// Messages counts n messages that reached a state, such as accepted, sent or failed.
func (m *Metrics) Messages(outcome string, n int) {
	m.messages.WithLabelValues(outcome).Add(float64(n))
}

// Deliveries counts n attempts at webhook deliveries that ended in the same way, such as delivered, retried or exhausted.
func (m *Metrics) Deliveries(outcome string, n int) {
	m.deliveries.WithLabelValues(outcome).Add(float64(n))
}

// WebhookRequest records how long an attempt at a delivery took.
func (m *Metrics) WebhookRequest(took time.Duration) { m.hookSeconds.Observe(took.Seconds()) }

// WebhookDisabled counts a webhook that was switched off.
func (m *Metrics) WebhookDisabled(reason string) { m.hooksDisabled.WithLabelValues(reason).Inc() }

// AcceptBatch records how many messages shared one insert.
func (m *Metrics) AcceptBatch(n int) { m.acceptBatch.Observe(float64(n)) }

// Wake counts a wake-up of a lane. outcome is WakeEnqueued, WakeCalled, WakeSuppressed or WakeFailed.
func (m *Metrics) Wake(outcome string) { m.wakes.WithLabelValues(outcome).Inc() }

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func plainCounter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

func plainHistogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

// knownMethod keeps a client from making series out of methods that he invents.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions:
		return method
	}
	return "other"
}

func statusClass(status int) string {
	if status < 100 || status > 599 {
		return "other"
	}
	return string(rune('0'+status/100)) + "xx"
}
