package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"kurir/fault"
	"kurir/models"
	"kurir/monitoring"
	"kurir/tracing"
)

// durableTask is the payload of every durable job: its row says the rest.
type durableTask struct {
	Kind    string    `json:"-"`
	JobID   uuid.UUID `json:"jobId"`
	Attempt int       `json:"attempt"`
}

func (t durableTask) kind() string { return t.Kind }

// options: PostgreSQL decides about retries, so asynq never does.
func (durableTask) options() []asynq.Option {
	return []asynq.Option{asynq.Queue(QueueControl), asynq.Timeout(durableTimeout), asynq.MaxRetry(0)}
}

const (
	durableTimeout = 60 * time.Second
	durableRenewal = 15 * time.Second
)

// durableTaskID names an attempt. asynq refuses an ID that it has seen, even archived; a job that stays due gets a
// new one each durableRenewal, and whichever task comes first starts the attempt.
func durableTaskID(job uuid.UUID, attempt int, overdue time.Duration) asynq.Option {
	return asynq.TaskID(fmt.Sprintf("%s:%d:%d", job, attempt, overdue/durableRenewal))
}

// durable is a kind of durable job.
type durable struct {
	kind     string
	attempts int           // at most
	backoff  time.Duration // longest wait between two
	run      func(ctx context.Context, j *models.Job) (result any, err error)
	failed   func(ctx context.Context, j *models.Job, err error) // after the last attempt; may be nil
}

// durables runs attempts of durable jobs.
type durables struct {
	db     *models.DB
	runner uuid.UUID
	log    *slog.Logger
	traces *tracing.Tracer
	count  func(kind, outcome string) // nil: nobody counts
}

// tried counts an attempt by what came of it.
func (d *durables) tried(kind, outcome string) {
	if d.count != nil {
		d.count(kind, outcome)
	}
}

// attempt runs one attempt, if it is still to be run, and writes its outcome. A runner killed in here leaves the row
// RUNNING; the sweep puts it back when the runner's lease is over.
func (d *durables) attempt(ctx context.Context, k durable, t durableTask) error {
	j, ok, err := models.StartJob(ctx, d.db, t.JobID, t.Attempt, d.runner)
	if err != nil || !ok {
		return err
	}
	traced, span := d.traces.Continue(ctx, tracing.Consumer, k.kind, text(j.Trace), tracing.Span{})
	defer span.End()
	result, err := k.run(traced, j)
	attempted(span, j, err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	if err == nil {
		body, err := json.Marshal(result)
		if err != nil {
			return fmt.Errorf("encode result of %s: %w", k.kind, err)
		}
		d.tried(k.kind, monitoring.JobSucceeded)
		return models.FinishJob(ctx, d.db, j, models.JobSucceeded, body, "")
	}
	var wait later
	if errors.As(err, &wait) {
		d.tried(k.kind, monitoring.JobWaiting)
		return models.RetryJob(ctx, d.db, j, wait.after, "")
	}
	if !permanent(err) && j.Attempts < k.attempts {
		d.tried(k.kind, monitoring.JobRetried)
		d.log.Warn("job attempt failed, will be tried again", "kind", k.kind, "job", j.ID, "attempt", j.Attempts, "error", err)
		return models.RetryJob(ctx, d.db, j, backoff(j.Attempts, k.backoff), sentence(err))
	}
	d.tried(k.kind, monitoring.JobFailed)
	if k.failed != nil {
		k.failed(ctx, j, err)
	}
	return errors.Join(err, models.FinishJob(ctx, d.db, j, models.JobFailed, nil, sentence(err)))
}

// attempted notes in the span of an attempt what came of it.
func attempted(span tracing.Span, j *models.Job, err error) {
	span.ID("kurir.job", j.ID)
	span.Int("kurir.attempt", j.Attempts)
	var wait later
	switch {
	case errors.As(err, &wait):
		span.Text("kurir.outcome", "later")
	case err != nil:
		span.Failed(fault.Code(err))
	}
}

// later ends a run that did not fail and is not done: the job looks again after a while. Each look counts as an attempt.
type later struct{ after time.Duration }

func (l later) Error() string { return "not done yet, looking again in " + l.after.String() }

// progress notes where a job stands, for whoever reads it. That it is not written is no one's failure.
func (r *Runner) progress(ctx context.Context, j *models.Job, progress any) {
	body, err := json.Marshal(progress)
	if err == nil {
		err = models.SetProgress(ctx, r.db, j, body)
	}
	if err != nil {
		r.log.Warn("progress not written", "job", j.ID, "error", err)
	}
}

var errNoSubject = fault.New(fault.Invalid, "job_without_subject", "The job names nothing to work on.")

// subject is the session that a job works on, and the worker that should hold it, with an empty ID if it has none.
func (r *Runner) subject(ctx context.Context, j *models.Job) (*models.Session, *models.Worker, error) {
	if j.SessionUID == nil {
		return nil, nil, errNoSubject
	}
	held, err := models.SessionWithWorker(ctx, r.db, *j.SessionUID)
	if err != nil {
		return nil, nil, fmt.Errorf("read session %s: %w", j.SessionUID, err)
	}
	if held.Worker == nil {
		held.Worker = new(models.Worker)
	}
	return &held.Session, held.Worker, nil
}

// sentence is what a tenant may read of an error.
func sentence(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Sentence != "" {
		return f.Sentence
	}
	return "Something went wrong on our side."
}
