package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"gopkg.in/natefinch/lumberjack.v2"

	"kurir/api"
	"kurir/egress"
	"kurir/jobs"
	"kurir/mail"
	"kurir/media"
	"kurir/models"
	"kurir/monitoring"
	"kurir/scheduler"
	"kurir/webhook"
	"kurir/worker"
	"kurir/worker/simulator"
	"kurir/worker/simulator/simnet"
)

// parts is what a process is made of: opened once, in order, and closed in reverse.
type parts struct {
	cfg     *config
	log     *slog.Logger
	metrics *monitoring.Metrics
	queries pgx.QueryTracer // counts what pools do
	db      *models.DB
	redis   redis.UniversalClient
	vault   *models.Vault
	media   *media.Store
	closers []func()
}

func (p *parts) onClose(f func()) { p.closers = append(p.closers, f) }

func (p *parts) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		p.closers[i]()
	}
}

// newLog writes JSON lines to out and, where LOG_FILE_PATH names a folder, to a rotated file in it.
func newLog(cfg *config, command string, out io.Writer) (*slog.Logger, func()) {
	closeFile := func() {}
	var note error
	if cfg.LogPath != "" {
		if note = os.MkdirAll(cfg.LogPath, 0o750); note == nil {
			file := &lumberjack.Logger{Filename: filepath.Join(cfg.LogPath, "kurir-"+command+".log"), MaxSize: 100, MaxBackups: 5}
			out = io.MultiWriter(out, file)
			closeFile = func() { _ = file.Close() }
		}
	}
	log := slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: cfg.level})).With("service", command)
	if note != nil {
		log.Warn("no log file, LOG_FILE_PATH cannot be used", "error", note)
	}
	return log, closeFile
}

// openParts opens what api, runner and scheduler share. Its settings have been checked.
func openParts(command string, cfg *config, log *slog.Logger) (*parts, error) {
	metrics := monitoring.New(version)
	p := &parts{cfg: cfg, log: log, metrics: metrics, queries: models.Observe(metrics.Query)}
	redis.SetLogger(redisLog{log})
	var err error
	if p.vault, err = models.NewVault(cfg.encryptionKeys...); err != nil {
		return nil, err
	}
	if p.db, err = models.OpenAt(cfg.database(), connectionName(command, p.vault), cfg.DatabaseMaxConns, p.queries); err != nil {
		return nil, err
	}
	p.onClose(func() { _ = p.db.Close() })
	p.watchPool("main", p.db)
	if p.redis, err = openRedis(cfg.RedisURL); err != nil {
		p.close()
		return nil, err
	}
	p.onClose(func() { _ = p.redis.Close() })
	p.metrics.WatchRedisClient(p.redis)
	if err = p.openMedia(context.Background()); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *parts) checks() []monitoring.Check {
	return []monitoring.Check{
		{Name: "postgres", Func: func(ctx context.Context) error {
			_, err := p.db.Pool.Exec(ctx, "SELECT 1 FROM users LIMIT 1")
			return err
		}},
		{Name: "redis", Func: func(ctx context.Context) error { return p.redis.Ping(ctx).Err() }, Optional: true},
	}
}

// watchPool adds the gauges of a pool of this process.
func (p *parts) watchPool(name string, db *models.DB) {
	p.metrics.WatchPool(name, func() monitoring.Pool {
		s := db.Pool.Stat()
		return monitoring.Pool{Max: int(s.MaxConns()), InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()),
			Waits: s.EmptyAcquireCount(), Waited: s.EmptyAcquireWaitTime()}
	})
}

// watch adds the gauges that look into PostgreSQL and Redis, which are the same whichever process asks.
func (p *parts) watch() {
	p.metrics.WatchPostgres(func(ctx context.Context) (monitoring.Postgres, error) {
		f, err := models.FiguresOf(ctx, p.db.Pool)
		return monitoring.Postgres(f), err
	})
	p.metrics.WatchRedisServer(p.redis)
	p.metrics.WatchLanes(func(ctx context.Context) (map[string]monitoring.Lane, error) {
		lanes := map[string]monitoring.Lane{}
		for kind, label := range map[string]string{models.LaneMessages: monitoring.LaneMessages, models.LaneWebhook: monitoring.LaneWebhooks} {
			b, err := models.BacklogOf(ctx, p.db.Pool, kind)
			if err != nil {
				return nil, err
			}
			lanes[label] = monitoring.Lane{Lanes: int(b.Lanes), Depth: int(b.Rows), Age: b.Oldest}
		}
		return lanes, nil
	})
	p.metrics.WatchFleet(func(ctx context.Context) (monitoring.Fleet, error) {
		f, err := models.FleetOf(ctx, p.db.Pool)
		return monitoring.Fleet{Workers: f.Workers, Sessions: f.Sessions, Assigned: f.Assigned, Capacity: f.Capacity}, err
	})
	p.metrics.WatchScaling(func(ctx context.Context) (monitoring.Scaling, error) {
		s, err := models.ScalingOf(ctx, p.db.Pool)
		return monitoring.Scaling{Workers: s.Workers, Recommended: s.Recommended, Utilization: s.Utilization}, err
	})
	jobs.WatchQueues(p.metrics, p.redis)
}

// runAPI serves until ctx ends.
func (p *parts) runAPI(ctx context.Context, l net.Listener, internal net.Listener) error {
	traces, err := p.cfg.tracer("api", processName(), p.log)
	if err != nil {
		return err
	}
	defer traces.Close()
	a := api.New(api.Config{Settings: p.cfg.settings(), Traces: traces,
		KeepMessagesDays: p.cfg.KeepMessagesDays, KeepDeliveriesDays: p.cfg.KeepDeliveriesDays,

		Version: version, APIVersion: p.cfg.APIVersion, JWTSecret: []byte(several(p.cfg.JWTSecret)[0]), MoreJWTSecrets: asBytes(several(p.cfg.JWTSecret)[1:]), JWTLifetime: time.Duration(p.cfg.JWTExpiresIn), BcryptRounds: p.cfg.BcryptRounds,
		WorkerToken: several(p.cfg.WorkerToken)[0], MoreWorkerTokens: several(p.cfg.WorkerToken)[1:], SelfServiceTier: p.cfg.selfTier, Tiers: p.cfg.tiers, Registration: p.cfg.Registration,
		AllowQueryAPIKey: p.cfg.QueryAPIKey, CORSOrigin: p.cfg.CORSOrigin, Helmet: p.cfg.Helmet, MessageTTL: time.Duration(p.cfg.MessageTTL),
		LeaseTTL: time.Duration(p.cfg.LeaseTTL), Heartbeat: time.Duration(p.cfg.Heartbeat), ShutdownDelay: time.Duration(p.cfg.ShutdownDelay), AsynqmonWritable: p.cfg.AsynqmonWritable, PrometheusURL: p.cfg.PrometheusURL,
		PublicURL: p.cfg.PublicURL, InternalPort: p.cfg.InternalPort, TrustedProxies: p.cfg.proxies, ProxyAllow: p.cfg.proxyAllow, Requests: p.cfg.requests, Metrics: p.cfg.Metrics,
		Media: p.media, Fetcher: p.fetcher(), Uploads: api.UploadLimits{AtOnce: p.cfg.Uploads, PerUser: p.cfg.UploadsPerUser, Timeout: time.Duration(p.cfg.UploadTimeout)},
		Streams:                  api.StreamConfig{Limits: p.cfg.streams()},
		RequireEmailVerification: p.cfg.VerifyEmail,
		LimitReached: func(ctx context.Context, user *models.User, limit string) {
			if err := models.TellLimitReached(ctx, p.db, user.ID, limit); err != nil {
				p.log.Error("nobody is told of a limit that was reached", "user", user.ID, "limit", limit, "error", err)
			}
		},
	}, p.db, p.redis, p.vault, egress.NewGuard(p.cfg.allow), p.metrics, p.checks(), p.log)
	served := make(chan error, 2)
	go func() { served <- a.Listen(l) }()
	if internal != nil {
		go func() { served <- a.Listen(internal) }()
	}
	p.log.Info("api listening", "address", l.Addr().String())
	select {
	case <-ctx.Done():
	case err = <-served:
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 25*time.Second+time.Duration(p.cfg.ShutdownDelay))
	defer cancel()
	return errors.Join(err, a.Shutdown(stop))
}

// controlConns are a runner's connections to PostgreSQL for the control plane, besides DATABASE_MAX_CONNS. They go past a pooler,
// where they would queue behind the sends.
const controlConns = 8

// runRunner runs jobs until ctx ends.
func (p *parts) runRunner(ctx context.Context) error {
	hooks := webhook.NewClient(webhook.ClientConfig{AllowCIDRs: p.cfg.allow})
	defer hooks.Close()
	control, err := models.OpenAs(connectionName("runner", p.vault), p.cfg.directURL(), controlConns, p.queries)
	if err != nil {
		return err
	}
	defer func() { _ = control.Close() }()
	p.watchPool("control", control)
	mailer, err := mail.New(p.cfg.mail(), p.log)
	if err != nil {
		return err
	}
	traces, err := p.cfg.tracer("runner", processName(), p.log)
	if err != nil {
		return err
	}
	defer traces.Close()
	return jobs.NewRunner(jobs.Config{Traces: traces, Concurrency: p.cfg.RunnerConcurrency, Schedule: p.cfg.schedule, KeepJobs: days(p.cfg.KeepLogsDays),
		KeepMetrics: days(p.cfg.KeepMetricsDays), KeepLogs: days(p.cfg.KeepLogsDays), TroubleAfter: time.Duration(p.cfg.TroubleAfter),
		ScalingURL: p.cfg.ScalingURL, OperatorSecret: p.cfg.operator,
		BillingURL: p.cfg.BillingURL, CloseAfter: time.Duration(p.cfg.BillingAfter),
		Media: p.media, Fetcher: p.fetcher(),
		DisableAfter: time.Duration(p.cfg.WebhookDisableAfter), KeepMessages: days(p.cfg.KeepMessagesDays), KeepDeliveries: days(p.cfg.KeepDeliveriesDays), Mailer: mailer, PublicURL: p.cfg.linksTo()}, p.db, control, p.redis, p.vault, hooks, p.metrics, p.log).Run(ctx)
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// runScheduler ticks until ctx ends.
func (p *parts) runScheduler(ctx context.Context) error {
	return scheduler.New(scheduler.Config{ProbeInterval: time.Duration(p.cfg.ProbeInterval)}, jobs.NewQueue(p.redis, p.log), p.log).Run(ctx)
}

// runWorker is a worker node with simulated phones.
func runWorker(ctx context.Context, cfg *config, id string, l net.Listener, endpoint string, log *slog.Logger) error {
	traces, err := cfg.tracer("worker", id, log)
	if err != nil {
		return err
	}
	defer traces.Close()
	engine := simulator.New(simulator.Config{SimnetURL: cfg.SimnetURL, WorkerID: id, Logger: log.With("worker", id)})
	node := worker.New(worker.Config{GatewayURL: cfg.GatewayURL, Token: several(cfg.WorkerToken)[0], ID: id, Listener: l, Endpoint: endpoint,
		MaxSessions: cfg.WorkerSessions, Version: version, HandOver: time.Duration(cfg.WorkerHandOver), LogLevel: cfg.level,
		Logger: log, Traces: traces}, engine)
	metrics := monitoring.New(version)
	metrics.WatchNode(func() monitoring.Node { return figuresOf(node.Stats()) })
	return errors.Join(withMetrics(ctx, cfg, metrics, leased(node), node.Run), engine.Close())
}

func figuresOf(s worker.Stats) monitoring.Node {
	return monitoring.Node{Sessions: s.Sessions, SessionsMax: s.SessionsMax, EventsQueued: s.EventsQueued, Registrations: s.Registrations, TermsLost: s.Lapses,
		CPU: s.Machine.CPU / 100, Memory: s.Machine.Memory / 100,
		Sends:      map[string]int64{"sent": s.Sent, "failed": s.Failed, "unknown": s.Unknown, "refused": s.Refused, "repeated": s.Repeats},
		Heartbeats: map[string]int64{"ok": s.Heartbeats, "failed": s.HeartbeatsFailed},
		Events:     map[string]int64{"delivered": s.EventsDelivered, "dropped": s.EventsDropped, "batch_failed": s.BatchesFailed}}
}

// runSimnet is the simulated network.
func runSimnet(ctx context.Context, cfg *config, l net.Listener, state string, log *slog.Logger) error {
	network, err := simnet.New(simnet.Config{ScanDelay: time.Duration(cfg.SimScanDelay), SendLatency: time.Duration(cfg.SimSendLatency),
		Reply: cfg.SimReply, StatePath: state, Logger: log})
	if err != nil {
		return err
	}
	err = serveHTTP(ctx, l, &http.Server{Handler: network.Handler(), ReadHeaderTimeout: 5 * time.Second})
	return errors.Join(err, network.Close())
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, s *http.Server) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := s.Shutdown(stop); err != nil {
		return s.Close() // connections that never end by themselves
	}
	return nil
}

// listen opens a port of all addresses, or of loopback alone.
func listen(loopback bool, port int) (net.Listener, error) {
	host := ""
	if loopback {
		host = "127.0.0.1"
	}
	return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

// redisLog takes what the Redis client would print on stderr: its callers report what matters.
type redisLog struct{ log *slog.Logger }

// Printf is what the client calls.
func (l redisLog) Printf(_ context.Context, format string, args ...any) {
	l.log.Debug("redis client", "text", fmt.Sprintf(format, args...))
}
