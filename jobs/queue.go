// Package jobs is what Kurir does outside of requests, one file per kind of job. Rows in PostgreSQL say what is to be
// done; asynq tasks in Redis carry only IDs and say when to look. If Redis loses them, the sweeps make them again.
//
// Two mechanisms carry everything: lanes (lane.go), ordered rows that one runner at a time drains, and durable jobs
// (job.go), one row and one task each. It is no place for rules: limits, placement and webhook hold those.
package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// The queues. Each has its own asynq server in a runner, so that frozen workers or hanging endpoints never starve the
// control plane.
const (
	QueueTicks    = "ticks"   // periodic jobs, which nothing may hold up: failover and the sweep are among them
	QueueControl  = "control" // durable jobs
	QueueMessages = "messages"
	QueueWebhooks = "webhooks"
	QueueMedia    = "media" // URLs of tenants', which may be slow
)

// Queues lists the queues.
func Queues() []string {
	return []string{QueueTicks, QueueControl, QueueMessages, QueueWebhooks, QueueMedia}
}

// payload is what a task carries: IDs only, since asynqmon shows it and each heartbeat of asynq rewrites it.
type payload interface {
	kind() string
	options() []asynq.Option
}

// redisTimeout bounds a hint: PostgreSQL has the truth, so waiting for Redis is never worth much.
const redisTimeout = 500 * time.Millisecond

// Queue puts tasks into Redis.
type Queue struct {
	redis  redis.UniversalClient
	client *asynq.Client
	log    *slog.Logger
}

// NewQueue makes a Queue on a Redis client, which stays the caller's to close.
func NewQueue(client redis.UniversalClient, log *slog.Logger) *Queue {
	return &Queue{redis: client, client: asynq.NewClientFromRedisClient(client), log: log}
}

// enqueue adds a task. A task whose ID is there already is no error: it is the same task.
func (q *Queue) enqueue(ctx context.Context, p payload, more ...asynq.Option) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode %s: %w", p.kind(), err)
	}
	_, err = q.client.EnqueueContext(ctx, asynq.NewTask(p.kind(), body), append(p.options(), more...)...)
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue %s: %w", p.kind(), err)
	}
	return nil
}

// enqueueWidth is how many tasks are on their way to Redis at once, which asynq takes one by one.
const enqueueWidth = 16

// StartJobs is StartJob for many: all the sessions of a worker may be waiting for theirs.
func (q *Queue) StartJobs(ctx context.Context, kind string, ids []uuid.UUID) {
	var g errgroup.Group
	g.SetLimit(enqueueWidth)
	for _, id := range ids {
		g.Go(func() error { q.StartJob(ctx, kind, id); return nil })
	}
	_ = g.Wait()
}

// StartJob enqueues a durable job that was just committed. If Redis does not take it, the sweep will: the
// failure is logged and no one's problem.
func (q *Queue) StartJob(ctx context.Context, kind string, id uuid.UUID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := q.enqueue(ctx, durableTask{Kind: kind, JobID: id, Attempt: 1}, durableTaskID(id, 1, 0)); err != nil {
		q.log.Warn("job not enqueued, left to the sweep", "kind", kind, "job", id, "error", err)
	}
}

// Tick enqueues a periodic job for one tick of the clock. The task's ID holds the tick, and a task that has run is kept
// for a while, so that however many schedulers tick, the job runs once.
func (q *Queue) Tick(ctx context.Context, kind string, at time.Time) error {
	return q.periodic(ctx, kind, asynq.TaskID(fmt.Sprintf("%s@%s", kind, at.UTC().Format("20060102T150405"))))
}

// Nudge enqueues a periodic job out of its turn.
func (q *Queue) Nudge(ctx context.Context, kind string) error {
	return q.periodic(ctx, kind, asynq.Retention(0))
}

func (q *Queue) periodic(ctx context.Context, kind string, option asynq.Option) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	now, err := q.now(ctx)
	if err != nil {
		return err
	}
	return q.enqueue(ctx, tick{Kind: kind, At: now}, option)
}

// now is Redis's time: schedulers and runners may have clocks of their own.
func (q *Queue) now(ctx context.Context) (time.Time, error) {
	now, err := q.redis.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("ask Redis for the time: %w", err)
	}
	return now.UTC(), nil
}

// stale reports whether a tick has waited so long that it says nothing new: a later one is behind it.
func (q *Queue) stale(ctx context.Context, t tick) bool {
	now, err := q.now(ctx)
	return err == nil && now.Sub(t.At) > tickStale
}

// Backlog is how long the oldest task of a queue has been waiting.
func (q *Queue) Backlog(queue string) (time.Duration, error) {
	info, err := asynq.NewInspectorFromRedisClient(q.redis).GetQueueInfo(queue)
	if err != nil && strings.HasPrefix(err.Error(), "NOT_FOUND") { // asynq keeps the type of this one to itself
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("inspect queue %s: %w", queue, err)
	}
	return info.Latency, nil
}
