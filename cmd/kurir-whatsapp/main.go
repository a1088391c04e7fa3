// Command kurir-whatsapp is a worker node that speaks to WhatsApp. It is a program of its own because whatsmeow links GPL-3.0
// code: see docs/licences.md. All else of Kurir is in the command kurir.
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
	"os/signal"
	"strconv"
	"syscall"
	"time"
	_ "time/tzdata" // TZ works where no time zones are installed

	"github.com/spf13/cobra"

	"kurir/monitoring"
	"kurir/tracing"
	"kurir/worker"
	"kurir/worker/whatsapp"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "kurir-whatsapp:", err)
		os.Exit(1)
	}
}

// program is one run of the binary.
type program struct {
	environ        []string
	stdout, stderr io.Writer
	transport      *http.Transport                           // the way to WhatsApp; nil but in tests and trials
	welcome        string                                    // printed by up
	through        func(http.RoundTripper) http.RoundTripper // put around it, so that tests tell workers apart; else nil
}

// run is main without the globals of the process.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	p := &program{environ: environ, stdout: stdout, stderr: stderr}
	p.transport, p.welcome = network()
	var codes bool
	root := &cobra.Command{Use: "kurir-whatsapp", Short: "A worker node that speaks to WhatsApp", Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		Long: `Registers with the gateway at GATEWAY_URL and holds sessions, up to WORKER_MAX_SESSIONS (50), each a device that is linked to a phone.

Needs GATEWAY_URL, the gateway's WORKER_AUTH_TOKEN, a WORKER_ID of its own (default: the host's name), and PostgreSQL, where the devices'
credentials are: WHATSAPP_DATABASE_URL, by default DATABASE_DIRECT_URL or DATABASE_URL, in a schema of its own. All workers share it.
It is unofficial: read docs/whatsapp.md on WhatsApp's terms and the risk of a ban.

Listens on WORKER_PORT (8001); the gateway reaches it at WORKER_ENDPOINT. METRICS_PORT serves /metrics and /health. Each secret may come
from a file instead: NAME_FILE names it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := readConfig(p.environ)
			if err != nil {
				return fmt.Errorf("the configuration is not right:\n%w", err)
			}
			return p.work(cmd.Context(), cfg, codes, nil)
		}}
	root.Flags().BoolVar(&codes, "qr", false, "draw QR codes in the terminal, too")
	root.AddCommand(p.up(), p.adopt(), &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, Run: func(*cobra.Command, []string) {
		fmt.Fprintln(p.stdout, "kurir-whatsapp", version, "as WhatsApp Web", whatsapp.Version())
	}})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// work is the worker, until ctx ends. ready, where given, is called once it listens.
func (p *program) work(ctx context.Context, cfg *config, codes bool, ready func()) error {
	if cfg.AppVersion != "" {
		if err := whatsapp.SetVersion(cfg.AppVersion); err != nil {
			return fmt.Errorf("WHATSAPP_VERSION: %w", err)
		}
	}
	log := slog.New(slog.NewJSONHandler(p.stderr, &slog.HandlerOptions{Level: cfg.level})).With("service", "whatsapp", "worker", cfg.ID)
	log.Info("starting", "version", version, "as", whatsapp.Version(), "config", cfg.redacted())
	traces, err := tracing.New(tracing.Config{Endpoint: cfg.tracesTo(), Service: "kurir-whatsapp", Instance: cfg.ID, Version: version}, log)
	if err != nil {
		return err
	}
	defer traces.Close()
	engine, err := whatsapp.New(ctx, whatsapp.Config{DatabaseURL: cfg.database(), Schema: cfg.Schema, Conns: cfg.Conns, DeviceName: cfg.DeviceName,
		MediaMax: int64(cfg.MediaMax), ProxyAllow: cfg.proxies, Logger: log, Transport: p.transport, Through: p.through})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(cfg.host, strconv.Itoa(cfg.Port)))
	if err != nil {
		return errors.Join(fmt.Errorf("WORKER_PORT: %w", err), engine.Close())
	}
	node := worker.New(worker.Config{GatewayURL: cfg.GatewayURL, Token: several(cfg.Token)[0], ID: cfg.ID, Listener: l, Endpoint: cfg.endpoint(l),
		MaxSessions: cfg.MaxSessions, Version: version, HandOver: time.Duration(cfg.HandOver), LogLevel: cfg.level, Logger: log, Traces: traces},
		drawn(engine, codes, p.stdout))
	if ready != nil {
		ready()
	}
	err = p.withMetrics(ctx, cfg, node, engine, log)
	return errors.Join(err, engine.Close())
}

// withMetrics serves METRICS_PORT, where it is set, beside the node.
func (p *program) withMetrics(ctx context.Context, cfg *config, node *worker.Node, engine *whatsapp.Engine, log *slog.Logger) error {
	if cfg.MetricsPort == 0 {
		return node.Run(ctx)
	}
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(cfg.MetricsPort)))
	if err != nil {
		return fmt.Errorf("METRICS_PORT: %w", err)
	}
	server := monitoring.Server("", figures(node, engine), checks(node, engine))
	go func() {
		if err := server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "error", err)
		}
	}()
	defer func() { _ = server.Close() }() // nobody is owed an answer any more
	return node.Run(ctx)
}
