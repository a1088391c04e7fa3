// Command kurir is Kurir's one binary: the API, the runner, the scheduler, a worker node with simulated phones, the simulated
// network, the migrations, and all of it in one process. See kurir --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"syscall"
	_ "time/tzdata" // TZ works where no time zones are installed, as in our image

	"github.com/spf13/cobra"

	"kurir/models"
	"kurir/monitoring"
)

// version is set by the build.
var version = "dev"

func main() {
	if os.Getenv("GOGC") == "" { // what is live is small: a sixth less memory for a few hundredths of processor time
		debug.SetGCPercent(50)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kurir:", err)
		os.Exit(exitCode(err))
	}
}

// program is one run of the binary.
type program struct {
	environ        []string
	stdout, stderr io.Writer
}

// run is main without the globals of the process: arguments, environment and outputs come from the caller, and it
// returns when ctx ends and all is stopped.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	p := &program{environ: environ, stdout: stdout, stderr: stderr}
	root := &cobra.Command{Use: "kurir", Short: "A self-hosted WhatsApp gateway, run as a platform", SilenceUsage: true, SilenceErrors: true,
		Long: `Kurir lets tenants link WhatsApp numbers and send and receive through one REST API and signed webhooks.

For a first look, or to develop against it, there is one command that needs nothing else:

  kurir up

In production each part is a process of its own, any number of each, on one PostgreSQL and one Redis: migrate once,
then api, runner, scheduler and worker. They are configured by environment variables; .env.example lists them all. Each secret may
come from a file instead: NAME_FILE names it.`}
	root.AddCommand(p.up(), p.api(), p.runner(), p.scheduler(), p.worker(), p.simnet(), p.migrate(), p.admin(), p.backup(), p.restore(), p.rotateEncryptionKey(), p.doctor(), p.health(), p.listen(), p.version())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return advised(root.ExecuteContext(ctx))
}

// config reads the environment and starts the log of a command.
func (p *program) config(command string, need func(*config) error) (*config, *slog.Logger, func(), error) {
	cfg, err := readConfig(p.environ)
	if err == nil {
		err = need(cfg)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("the configuration is not right:\n%w", err)
	}
	log, closeLog := newLog(cfg, command, p.stderr)
	log.Info("starting", "version", version, "config", cfg.redacted())
	return cfg, log, closeLog, nil
}

func (p *program) api() *cobra.Command {
	return &cobra.Command{Use: "api", Short: "Serve the HTTP API, its documentation and the queues' dashboard", Args: cobra.NoArgs,
		Long: `Serves the API on PORT (8000): /api/v1/…, /docs, /openapi.json, /health, /metrics and, for administrators, /admin/queues.

A message is stored in PostgreSQL before its sender gets an answer; Redis may be down meanwhile. Any number of api processes
may run. With INTERNAL_PORT, metrics, the dashboard and the workers' routes are served there and not on PORT.

Needs DATABASE_URL and REDIS_URL, and JWT_SECRET, ENCRYPTION_KEY and WORKER_AUTH_TOKEN, the same for all processes; in
development those that are missing are made and kept in KURIR_HOME. SIGTERM stops accepting, ends what runs, and
exits 0.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withParts(cmd, func(ctx context.Context, parts *parts) error {
				parts.watch()
				l, err := listen(false, parts.cfg.Port)
				if err != nil {
					return fmt.Errorf("PORT: %w", err)
				}
				var internal net.Listener
				if parts.cfg.InternalPort != 0 {
					if internal, err = listen(false, parts.cfg.InternalPort); err != nil {
						return fmt.Errorf("INTERNAL_PORT: %w", err)
					}
				}
				return parts.runAPI(ctx, l, internal)
			})
		}}
}

func (p *program) runner() *cobra.Command {
	return &cobra.Command{Use: "runner", Short: "Run the jobs: send messages, deliver webhooks, create sessions", Args: cobra.NoArgs,
		Long: `Takes tasks from Redis and does what PostgreSQL says is due. Any number of runners may run; a lane (the messages of a session,
the deliveries of a webhook) is drained by one of them at a time. A runner that is killed loses nothing: within some seconds
another one goes on.

Needs what api needs. RUNNER_CONCURRENCY (64) lanes are drained at once, per direction. METRICS_PORT serves /metrics and
/health.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withParts(cmd, func(ctx context.Context, parts *parts) error {
				return withMetrics(ctx, parts.cfg, parts.metrics, parts.checks(), parts.runRunner)
			})
		}}
}

func (p *program) scheduler() *cobra.Command {
	return &cobra.Command{Use: "scheduler", Short: "Turn clock ticks into jobs", Args: cobra.NoArgs,
		Long: `Enqueues the periodic jobs: sweeps, probes of workers, upkeep. Any number of schedulers may run: a tick is enqueued once.

Needs what api needs. METRICS_PORT serves /metrics and /health.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withParts(cmd, func(ctx context.Context, parts *parts) error {
				return withMetrics(ctx, parts.cfg, parts.metrics, parts.checks(), parts.runScheduler)
			})
		}}
}

func (p *program) withParts(cmd *cobra.Command, run func(ctx context.Context, parts *parts) error) error {
	cfg, log, closeLog, err := p.config(cmd.Name(), (*config).need)
	if err != nil {
		return err
	}
	defer closeLog()
	parts, err := openParts(cmd.Name(), cfg, log)
	if err != nil {
		return err
	}
	defer parts.close()
	if err := misdirected(cmd.Context(), parts.redis); err != nil {
		return err
	}
	if err := parts.whileKeysFit(cmd.Context(), func(ctx context.Context) error { return run(ctx, parts) }); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// withMetrics serves METRICS_PORT, where it is set, beside run.
func withMetrics(ctx context.Context, cfg *config, metrics *monitoring.Metrics, checks []monitoring.Check, run func(ctx context.Context) error) error {
	if cfg.MetricsPort == 0 {
		return run(ctx)
	}
	l, err := listen(false, cfg.MetricsPort)
	if err != nil {
		return fmt.Errorf("METRICS_PORT: %w", err)
	}
	page, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- serveHTTP(page, l, monitoring.Server("", metrics, checks)) }()
	err = run(ctx)
	stop()
	return errors.Join(err, <-served)
}

func (p *program) worker() *cobra.Command {
	var engine string
	c := &cobra.Command{Use: "worker", Short: "A worker node with simulated phones", Args: cobra.NoArgs,
		Long: `Registers with the gateway at GATEWAY_URL and holds sessions, up to WORKER_MAX_SESSIONS (50). Its engine is a simulator: the phones
are those of kurir simnet at SIMNET_URL, and no message ever reaches a person. The worker node that speaks to WhatsApp is
another binary, kurir-whatsapp.

Needs GATEWAY_URL and SIMNET_URL, the gateway's WORKER_AUTH_TOKEN, and a WORKER_ID of its own (default: the host's name).
Listens on WORKER_PORT (8001); the gateway reaches it at WORKER_ENDPOINT (default: http://<host's name>:<port>, or
127.0.0.1 where the gateway is on this machine). METRICS_PORT serves /metrics and /health.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if engine != "simulator" {
				return fmt.Errorf("--engine: this binary has the engine simulator only, not %q", engine)
			}
			return p.runWorker(cmd)
		}}
	c.Flags().StringVar(&engine, "engine", "simulator", "how to connect sessions: simulator")
	return c
}

func (p *program) runWorker(cmd *cobra.Command) error {
	cfg, log, closeLog, err := p.config("worker", func(c *config) error {
		if c.GatewayURL == "" || c.SimnetURL == "" {
			return errors.New("GATEWAY_URL and SIMNET_URL must be set, for example http://localhost:8000 and http://localhost:8090")
		}
		return c.needSecrets("WORKER_AUTH_TOKEN")
	})
	if err != nil {
		return err
	}
	defer closeLog()
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if cfg.WorkerID == "" {
		cfg.WorkerID = host
	}
	l, err := listen(false, cfg.WorkerPort)
	if err != nil {
		return fmt.Errorf("WORKER_PORT: %w", err)
	}
	if cfg.WorkerEndpoint == "" {
		if gateway, err := url.Parse(cfg.GatewayURL); err == nil && (gateway.Hostname() == "localhost" || gateway.Hostname() == "127.0.0.1") {
			host = "127.0.0.1" // the gateway is on this machine
		}
		cfg.WorkerEndpoint = "http://" + net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return runWorker(cmd.Context(), cfg, cfg.WorkerID, l, cfg.WorkerEndpoint, log)
}

func (p *program) simnet() *cobra.Command {
	return &cobra.Command{Use: "simnet", Short: "The simulated network with its phones", Args: cobra.NoArgs,
		Long: `Stands for WhatsApp and its phones, for trying out, tests and load: scans QR codes after SIM_SCAN_DELAY (2s), shows messages on phones,
answers with receipts and, with SIM_REPLY=echo, with an echo. Numbers that end in 0000 are not on it. It is a simulator: no
message ever reaches a person.

Listens at SIMNET_HOST (127.0.0.1) and SIMNET_PORT (8090). GET / lists its routes, GET /report bears witness of what
phones saw: messages, duplicates, reordered ones, moments at which two workers held one session. It has no
authentication. SIMNET_STATE names a file in which it keeps linked devices and shown messages; without it a restart
forgets them.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, closeLog, err := p.config("simnet", func(*config) error { return nil })
			if err != nil {
				return err
			}
			defer closeLog()
			l, err := net.Listen("tcp", net.JoinHostPort(cfg.SimnetHost, strconv.Itoa(cfg.SimnetPort)))
			if err != nil {
				return fmt.Errorf("SIMNET_PORT: %w", err)
			}
			log.Info("simulated network listening", "address", l.Addr().String())
			return runSimnet(cmd.Context(), cfg, l, cfg.SimnetState, log)
		}}
}

var errNoDatabase = errors.New("DATABASE_URL is not set, for example postgres://user:password@localhost:5432/kurir")

func (p *program) withDatabase(f func(cfg *config, db *models.DB) error) error {
	cfg, err := readConfig(p.environ)
	if err != nil {
		return fmt.Errorf("the configuration is not right:\n%w", err)
	}
	if cfg.DatabaseURL == "" {
		return errNoDatabase
	}
	db, err := models.Open(cfg.directURL(), 4)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return f(cfg, db)
}

func (p *program) version() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {
		fmt.Fprintln(p.stdout, "kurir", version)
	}}
}
