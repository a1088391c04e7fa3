package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"
)

// checkTimeout bounds a readiness probe: load balancers wait little longer.
const checkTimeout = 2 * time.Second

// The states of a report and of its checks; a check is never degraded.
const (
	StatusOK       = "ok"
	StatusDegraded = "degraded" // works, but something that it can do without is down
	StatusDown     = "down"
)

// Check looks at one thing that the process needs.
type Check struct {
	Name     string
	Func     func(context.Context) error
	Optional bool // the process works without it, as the API does without Redis
}

// Report says what is down.
type Report struct {
	Status string        `json:"status"`
	Checks []CheckResult `json:"checks"`
}

// CheckResult is the outcome of one check.
type CheckResult struct {
	Name      string  `json:"name"`
	Status    string  `json:"status"`
	Error     string  `json:"error,omitempty"` // a sentence for everybody
	LatencyMs float64 `json:"latencyMs"`
	Cause     error   `json:"-"` // for the log
}

// Ready reports whether the process should get work.
func (r Report) Ready() bool { return r.Status != StatusDown }

// Ready runs the checks side by side and returns within 2 s, even if one of them ignores its context. The results are in
// the order of the checks.
func Ready(ctx context.Context, checks []Check) Report {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	report := Report{Status: StatusOK, Checks: make([]CheckResult, len(checks))}
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() { report.Checks[i] = check.run(ctx) })
	}
	wg.Wait()
	for i, result := range report.Checks {
		switch {
		case result.Status == StatusOK:
		case !checks[i].Optional:
			report.Status = StatusDown
		case report.Status == StatusOK:
			report.Status = StatusDegraded
		}
	}
	return report
}

func (c Check) run(ctx context.Context) CheckResult {
	start := time.Now()
	ended := make(chan error, 1) // room for a check that outlives its time
	go func() { ended <- c.Func(ctx) }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	result := CheckResult{
		Name:      c.Name,
		Status:    StatusOK,
		LatencyMs: float64(time.Since(start).Microseconds()) / 1000,
		Cause:     err,
	}
	if err != nil {
		result.Status, result.Error = StatusDown, sentence(err)
	}
	return result
}

// sentence says no more than everybody may know: health is asked without a credential, and causes hold addresses.
func sentence(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "timed out"
	}
	return "not available"
}

// Server makes the server of METRICS_PORT for processes that have no other: /metrics, /health and /health/ready (what
// Ready reports, 503 if down) and /health/live (200 as long as the process can answer, whatever its dependencies do).
// The caller starts it and shuts it down.
func Server(addr string, metrics *Metrics, checks []Check) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler())
	mux.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) {
		writeReport(w, Report{Status: StatusOK, Checks: []CheckResult{}})
	})
	ready := func(w http.ResponseWriter, r *http.Request) { writeReport(w, Ready(r.Context(), checks)) }
	mux.HandleFunc("GET /health", ready)
	mux.HandleFunc("GET /health/ready", ready)
	return &http.Server{
		Addr:              addr,
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}

func writeReport(w http.ResponseWriter, report Report) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !report.Ready() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(report) // fails only if the client has left
}
