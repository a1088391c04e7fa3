package scheduler

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"kurir/jobs"
)

// Config is what a scheduler needs to know.
type Config struct {
	ProbeInterval time.Duration // WORKER_HEALTH_CHECK_INTERVAL
}

// Scheduler enqueues the periodic jobs.
type Scheduler struct {
	cfg   Config
	queue *jobs.Queue
	log   *slog.Logger
	deaf  atomic.Bool // Redis did not take the last tick
}

// New makes a scheduler.
func New(cfg Config, queue *jobs.Queue, log *slog.Logger) *Scheduler {
	cfg.ProbeInterval = max(cfg.ProbeInterval, time.Second)
	return &Scheduler{cfg: cfg, queue: queue, log: log}
}

// aligned is a cron.Schedule of the whole multiples of a duration.
type aligned time.Duration

func (a aligned) Next(t time.Time) time.Time {
	return t.Truncate(time.Duration(a)).Add(time.Duration(a))
}

// Run ticks until ctx ends and lets ticks under way end.
func (s *Scheduler) Run(ctx context.Context) error {
	c := cron.New(cron.WithLocation(time.UTC), cron.WithLogger(cron.DiscardLogger))
	for _, e := range entries(s.cfg) {
		c.Schedule(aligned(e.every), cron.FuncJob(func() { s.tick(ctx, e, time.Now().UTC().Truncate(e.every)) }))
	}
	c.Start()
	s.log.Info("scheduler started", "entries", len(c.Entries()))
	<-ctx.Done()
	<-c.Stop().Done()
	return nil
}

// tick enqueues a job. One that Redis does not take is lost, and the next one does its work: every periodic job looks at
// how things are, not at what happened since the last time. The log says once when Redis goes and when it is back.
func (s *Scheduler) tick(ctx context.Context, e entry, at time.Time) {
	err := s.queue.Tick(ctx, e.kind, at)
	switch was := s.deaf.Swap(err != nil); {
	case err != nil && !was && ctx.Err() == nil:
		s.log.Warn("ticks are not taken", "kind", e.kind, "error", err)
	case err == nil && was:
		s.log.Info("ticks are taken again")
	}
}
