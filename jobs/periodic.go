package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"kurir/models"
)

// Kinds of periodic jobs; scheduler/entries.go says when and why.
const (
	KindSweep      = "lanes:sweep"
	KindExpire     = "messages:expire"
	KindPartitions = "partitions:upkeep"
	KindForget     = "records:forget"
)

// tick is the payload of every periodic job.
type tick struct {
	Kind string    `json:"-"`
	At   time.Time `json:"at"` // by Redis's clock
}

func (t tick) kind() string { return t.Kind }

func (tick) options() []asynq.Option {
	return []asynq.Option{asynq.Queue(QueueTicks), asynq.Timeout(30 * time.Second), asynq.MaxRetry(0), asynq.Retention(tickKept)}
}

const (
	tickKept  = 2 * time.Minute  // by which the clocks of two schedulers may differ
	tickStale = 20 * time.Second // by Redis's clock, of a tick that waited
)

const (
	sweepLimit  = 1000
	sweepQuiet  = 5 * time.Second // oldest task of the queue: that is backlog, not loss
	expireBatch = 500
)

// sweep wakes lanes and enqueues jobs that are due and that nobody has in hand: after a lost hint, an empty Redis, a killed
// runner, a pause that is over. All of Kurir's recovery is this.
func (r *Runner) sweep(ctx context.Context, _ tick) error {
	if err := r.endHolds(ctx); err != nil {
		return err
	}
	for _, lane := range []struct {
		kind, queue string
		wake        func(...models.Woken)
	}{{models.LaneMessages, QueueMessages, r.waker.Messages}, {models.LaneWebhook, QueueWebhooks, r.waker.Webhooks}} {
		if r.backlogged(lane.queue) {
			continue
		}
		due, err := models.DueLanes(ctx, r.db.Pool, lane.kind, sweepLimit)
		if err != nil {
			return fmt.Errorf("find due lanes: %w", err)
		}
		lane.wake(models.Unheld(due...)...)
	}
	if r.backlogged(QueueControl) {
		return nil
	}
	due, err := models.DueJobs(ctx, r.db.Pool, sweepLimit)
	if err != nil {
		return fmt.Errorf("find due jobs: %w", err)
	}
	var g errgroup.Group
	g.SetLimit(enqueueWidth)
	for _, d := range due {
		g.Go(func() error {
			return r.queue.enqueue(ctx, durableTask{Kind: d.Kind, JobID: d.ID, Attempt: d.Attempt}, durableTaskID(d.ID, d.Attempt, d.Overdue))
		})
	}
	return g.Wait()
}

func (r *Runner) backlogged(queue string) bool {
	waiting, err := r.queue.Backlog(queue)
	if err != nil {
		r.log.Warn("queue not inspected", "queue", queue, "error", err)
		return false
	}
	return waiting > sweepQuiet
}

// expire ends messages whose time is over and that no connected session will send.
func (r *Runner) expire(ctx context.Context, _ tick) error {
	for {
		var ended int
		var woken []models.Woken
		err := r.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
			ended, woken, err = models.ExpireMessages(ctx, tx, expireBatch)
			return err
		})
		if err != nil {
			return fmt.Errorf("expire messages: %w", err)
		}
		r.waker.Webhooks(woken...)
		r.metrics.Messages("expired", ended)
		if ended < expireBatch {
			return nil
		}
	}
}

// partitions makes the partitions of the coming months, and seals those of months that are over.
func (r *Runner) partitions(ctx context.Context, _ tick) error {
	now, err := models.Now(ctx, r.db.Pool) // a runner whose clock is wrong must not seal the present month
	if err != nil {
		return err
	}
	made, err := models.AddPartitions(ctx, r.db, now)
	if made > 0 {
		r.log.Info("partitions made", "count", made)
	}
	if err != nil {
		return err
	}
	sealed, err := models.SealMonths(ctx, r.db, now)
	if sealed > 0 {
		r.log.Info("months sealed, in which nothing waits", "count", sealed)
	}
	return err
}

// forgetUntil is how long before a tick's own end dropping ends: the next tick goes on.
const forgetUntil = 10 * time.Second

// forget drops records whose time is over: each kind a batch in turn, until there are none or the time is up, so that no kind waits
// for a long one, or for one that fails.
func (r *Runner) forget(ctx context.Context, _ tick) error {
	// aged drops by an age of the configuration, where 0 is never.
	aged := func(drop func(context.Context, models.Querier, time.Duration) (int64, error), age time.Duration) func() (int64, error) {
		return func() (int64, error) {
			if age <= 0 {
				return 0, nil
			}
			return drop(ctx, r.db.Pool, age)
		}
	}
	left := map[string]func() (int64, error){
		"runners":          func() (int64, error) { return models.ForgetRunners(ctx, r.db.Pool) },
		"idempotency keys": func() (int64, error) { return models.ForgetKeys(ctx, r.db.Pool) },
		"jobs":             aged(models.ForgetJobs, r.cfg.KeepJobs),
		"worker metrics":   aged(models.ForgetMetrics, r.cfg.KeepMetrics),
		"thinned metrics":  func() (int64, error) { return models.ThinMetrics(ctx, r.db.Pool) },
		"letters' counts":  func() (int64, error) { return models.ForgetLetters(ctx, r.db.Pool) },
		"usage writers":    func() (int64, error) { return models.ForgetUsageWriters(ctx, r.db.Pool) },
		"analytics":        func() (int64, error) { return models.ForgetAnalytics(ctx, r.db.Pool) },
		"audit lines":      aged(models.ForgetAudit, r.cfg.KeepLogs),
	}
	var errs []error
	counts := map[string]int64{}
	end, bounded := ctx.Deadline()
	for len(left) > 0 && (!bounded || time.Until(end) > forgetUntil) {
		for what, drop := range left {
			n, err := drop()
			if counts[what] += n; n == 0 || err != nil {
				delete(left, what)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("forget %s: %w", what, err))
			}
		}
	}
	for what, n := range counts {
		if n > 0 {
			r.log.Info("records forgotten", "what", what, "count", n)
		}
	}
	return errors.Join(errs...)
}
