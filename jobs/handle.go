package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"

	"kurir/monitoring"
)

// handlers runs tasks by their kind. It is one of the two edges of fault: the one place that decodes payloads and that
// decides whether asynq may try again, which is never: PostgreSQL says what is still due, and the sweep finds it.
type handlers struct {
	byKind  map[string]func(ctx context.Context, payload []byte) error
	log     *slog.Logger
	metrics *monitoring.Metrics
}

// on registers a kind. asynq's own ServeMux matches by prefix; kinds here are matched whole.
func on[P any](h *handlers, kind string, run func(ctx context.Context, p P) error) {
	h.byKind[kind] = func(ctx context.Context, body []byte) error {
		var p P
		if err := json.Unmarshal(body, &p); err != nil {
			return fmt.Errorf("decode %s: %w", kind, err)
		}
		return run(ctx, p)
	}
}

// ProcessTask runs a task and writes its one line.
func (h *handlers) ProcessTask(ctx context.Context, t *asynq.Task) error {
	return h.process(ctx, t.Type(), string(t.Payload()), func(ctx context.Context) error {
		run, ok := h.byKind[t.Type()]
		if !ok {
			return fmt.Errorf("no handler for kind %q", t.Type())
		}
		return run(ctx, t.Payload())
	})
}

// process runs what a task asks for, or what would have been one.
func (h *handlers) process(ctx context.Context, kind, payload string, run func(context.Context) error) (err error) {
	started := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		took := time.Since(started)
		outcome, level := monitoring.JobSucceeded, slog.LevelDebug
		if err != nil {
			outcome, level = monitoring.JobFailed, slog.LevelError
			err = fmt.Errorf("%w: %w", err, asynq.SkipRetry)
		}
		h.metrics.JobRun(kind, outcome, took)
		h.log.Log(ctx, level, "job", "kind", kind, "payload", payload, "outcome", outcome, "took", took, "error", err)
	}()
	return run(ctx)
}
