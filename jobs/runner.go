package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"kurir/mail"
	"kurir/media"
	"kurir/models"
	"kurir/monitoring"
	"kurir/tracing"
	"kurir/webhook"
)

// Config is what a runner needs to know.
type Config struct {
	Concurrency int              // lanes drained at once, per direction
	Schedule    webhook.Schedule // of webhook deliveries
	KeepJobs    time.Duration    // this and the two below, 0: for ever
	KeepMetrics time.Duration
	KeepLogs    time.Duration

	TroubleAfter   time.Duration // without the network, after which a session moves
	KeepMessages   time.Duration // 0: for ever
	KeepDeliveries time.Duration // and events; 0: for ever
	ScalingURL     string        // is told of new scaling recommendations; empty: nobody is
	OperatorSecret string        // whsec_…: signs what the operator is sent; empty: unsigned
	BillingURL     string        // is told of months that are closed, signed; empty: nobody is
	CloseAfter     time.Duration // the end of a month

	Media        *media.Store   // nil: there is none, and none to look after
	Fetcher      *media.Fetcher // takes media in that messages name by URL
	DisableAfter time.Duration  // of nothing but failures, after which a webhook is switched off; 0: never
	Mailer       *mail.Mailer
	PublicURL    string          // what links in mails begin with, without a / at the end; empty: mails have no links
	Traces       *tracing.Tracer // nil: there are none
}

// Runner is one process's part in running the jobs: an asynq server per queue over one set of handlers.
type Runner struct {
	cfg     Config
	id      uuid.UUID
	db      *models.DB
	redis   redis.UniversalClient
	queue   *Queue
	waker   *Waker
	workers *Workers
	vault   *models.Vault
	lanes   *Lanes
	hooks   *webhook.Client
	sender  *sender
	deliver *deliverer
	metrics *monitoring.Metrics
	log     *slog.Logger

	indexing sync.Mutex // one indexWords at a time
}

// NewRunner makes a runner. What it is given stays the caller's to close. Lanes work on db; control is a small pool for ticks and
// durable jobs, so that failover does not queue for connections behind a thousand sends. They may be the same.
func NewRunner(cfg Config, db, control *models.DB, client redis.UniversalClient, vault *models.Vault, hooks *webhook.Client,
	metrics *monitoring.Metrics, log *slog.Logger) *Runner {
	id := models.NewID()
	log = log.With("runner", id.String())
	lanes := NewLanes(db, id, log)
	lanes.bound(cfg.Concurrency)
	queue := NewQueue(client, log)
	r := &Runner{cfg: cfg, id: id, db: control, redis: client, queue: queue, waker: NewWaker(queue, log, metrics),
		workers: NewWorkers(control, vault), vault: vault, lanes: lanes, hooks: hooks, metrics: metrics, log: log}
	r.sender = &sender{db: db, lanes: r.lanes, workers: r.workers, queue: queue, waker: r.waker, metrics: metrics, log: log,
		media: fetcherOf(cfg.Fetcher), luck: rand.Float64, traces: cfg.Traces}
	widths, _ := lru.New[uuid.UUID, webhook.Width](100_000) // fails for sizes below 1 only
	r.deliver = &deliverer{db: db, lanes: r.lanes, vault: vault, sinks: newSinks(hooks), schedule: cfg.Schedule, queue: queue,
		disableAfter: cfg.DisableAfter, crowd: newCrowd(cfg.Concurrency),
		waker: r.waker, metrics: metrics, log: log, widths: widths, traces: cfg.Traces}
	return r
}

// handlers is every kind of job that there is.
func (r *Runner) handlers() *handlers {
	h := &handlers{byKind: map[string]func(context.Context, []byte) error{}, log: r.log, metrics: r.metrics}
	on(h, KindSendMessages, func(ctx context.Context, p SendMessages) error {
		r.queue.taken(ctx, p.SessionUID)
		return r.sender.run(ctx, p)
	})
	on(h, KindDeliverWebhook, func(ctx context.Context, p DeliverWebhook) error {
		r.queue.taken(ctx, p.WebhookID)
		return r.deliver.run(ctx, p)
	})
	on(h, KindFetchMedia, (&fetcher{r.sender}).run)

	run := &durables{db: r.db, runner: r.id, log: r.log, traces: r.cfg.Traces, count: r.metrics.JobAttempt}
	for _, k := range r.durables() {
		r.metrics.KnownJobs(k.kind)
		on(h, k.kind, func(ctx context.Context, t durableTask) error { return run.attempt(ctx, k, t) })
	}
	for kind, job := range map[string]func(context.Context, tick) error{
		KindSweep: r.sweep, KindLeases: r.expireLeases, KindReconcile: r.reconcile, KindRebalanceTick: r.rebalanceTick,
		KindScaling: r.scaling, KindProbe: r.probe, KindExpire: r.expire,
		KindPartitions: r.partitions, KindForget: r.forget, KindMediaUpkeep: r.mediaUpkeep,
		KindRetention: r.retain, KindIndexWords: r.indexWords,
		KindKeysExpiring: r.keysExpiring,
		KindCountUsage:   r.countUsage, KindClosePeriods: r.closePeriods,
		KindCountAnalytics: r.countAnalytics,
	} {
		on(h, kind, func(ctx context.Context, t tick) error {
			if r.queue.stale(ctx, t) {
				return nil
			}
			return job(ctx, t)
		})
	}
	return h
}

// drainKept drains a lane that was kept: what its task does, without one.
func (r *Runner) drainKept(h *handlers) func(ctx context.Context, kind string, lane uuid.UUID) {
	return func(ctx context.Context, kind string, lane uuid.UUID) {
		job, run := KindSendMessages, func(ctx context.Context) error { return r.sender.run(ctx, SendMessages{SessionUID: lane}) }
		if kind == models.LaneWebhook {
			job, run = KindDeliverWebhook, func(ctx context.Context) error { return r.deliver.run(ctx, DeliverWebhook{WebhookID: lane}) }
		}
		_ = h.process(ctx, job, lane.String(), run) // it is logged, and what was not done is found by the sweep
	}
}

// durables is every kind of durable job.
func (r *Runner) durables() []durable {
	return []durable{
		{kind: KindCreateSession, attempts: 12, backoff: 30 * time.Second, run: r.createSession},
		{kind: KindStartSession, attempts: 12, backoff: 30 * time.Second, run: r.startSession},
		{kind: KindStopSession, attempts: 1000, backoff: 5 * time.Second, run: r.stopSession},
		{kind: KindLogoutSession, attempts: 1000, backoff: 5 * time.Second, run: r.logoutSession},
		{kind: KindDeleteSession, attempts: 1000, backoff: time.Minute, run: r.deleteSession},
		{kind: KindMigrateSession, attempts: 1000, backoff: 5 * time.Second, run: r.migrateSession, failed: r.moveFailed},
		{kind: KindDrainWorker, attempts: 10_000, backoff: 5 * time.Second, run: r.drainWorker},
		{kind: KindRebalance, attempts: 3, backoff: 5 * time.Second, run: r.rebalance},
		{kind: models.KindReplay, attempts: 10_000, backoff: 5 * time.Second, run: r.replayWebhook},
		{kind: KindLetter, attempts: 20, backoff: time.Hour, run: r.mailLetter, failed: r.letterFailed},
		{kind: KindCloseAccount, attempts: 1_000_000, backoff: time.Minute, run: r.closeAccount},
		{kind: KindForgetContact, attempts: 1_000_000, backoff: time.Minute, run: r.forgetContact, failed: r.forgetFailed},
		{kind: KindScalingNotice, attempts: 12, backoff: 5 * time.Minute, run: r.notifyScaling},
		{kind: KindPeriodClosed, attempts: 1_000_000, backoff: time.Hour, run: r.notifyPeriod},
	}
}

// Run works until ctx ends, then finishes what is under way, and returns.
func (r *Runner) Run(ctx context.Context) error {
	lease, endLease := context.WithCancel(context.WithoutCancel(ctx))
	var keeping sync.WaitGroup
	keeping.Go(func() { r.lanes.Keep(lease) })
	keeping.Go(func() { r.sender.watch(lease) })
	defer func() {
		r.waker.Close()
		endLease() // last: until then our lanes are ours
		keeping.Wait()
	}()

	select {
	case <-r.lanes.alive: // without a lease, all that we begin would be taken for a dead runner's
	case <-ctx.Done():
		return nil
	}
	h := r.handlers()
	k := keeper{lanes: r.lanes, redis: r.redis, log: r.log, run: r.drainKept(h), keeps: laneKeep}
	var kept sync.WaitGroup
	kept.Go(func() { k.keep(ctx) })
	defer kept.Wait()
	var servers []*asynq.Server
	defer func() {
		var stopping sync.WaitGroup
		for _, s := range servers {
			stopping.Go(s.Shutdown)
		}
		stopping.Wait()
	}()
	for _, q := range []struct {
		name        string
		concurrency int
	}{{QueueTicks, 8}, {QueueControl, 24}, {QueueMessages, r.cfg.Concurrency}, {QueueWebhooks, r.cfg.Concurrency}, {QueueMedia, mediaConcurrency}} {
		server := asynq.NewServerFromRedisClient(awaitQueue(r.redis, q.name, ctx.Done()), asynq.Config{
			Queues: map[string]int{q.name: 1}, Concurrency: q.concurrency, TaskCheckInterval: queueLook,
			ShutdownTimeout: 25 * time.Second,
			Logger:          asynqLog{r.log.With("queue", q.name)}, LogLevel: asynq.WarnLevel,
			IsFailure: func(err error) bool { return err != nil },
		})
		if err := server.Start(h); err != nil {
			return fmt.Errorf("start server of queue %s: %w", q.name, err)
		}
		servers = append(servers, server)
	}
	r.log.Info("runner started", "concurrency", r.cfg.Concurrency)
	<-ctx.Done()
	r.log.Info("runner stopping")
	return nil
}

// asynqLog gives asynq's log lines to slog.
type asynqLog struct{ log *slog.Logger }

func line(args []any) slog.Attr { return slog.String("text", strings.TrimSpace(fmt.Sprintln(args...))) }

func (l asynqLog) Debug(args ...any) { l.log.Debug("asynq", line(args)) }
func (l asynqLog) Info(args ...any)  { l.log.Debug("asynq", line(args)) }
func (l asynqLog) Warn(args ...any)  { l.log.Warn("asynq", line(args)) }
func (l asynqLog) Error(args ...any) { l.log.Error("asynq", line(args)) }
func (l asynqLog) Fatal(args ...any) { l.log.Error("asynq", line(args)) }
