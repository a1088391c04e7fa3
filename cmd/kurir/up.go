package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"kurir/embedded"
	"kurir/models"
)

func (p *program) up() *cobra.Command {
	return &cobra.Command{Use: "up", Short: "Everything in one process, on private embedded PostgreSQL and Redis", Args: cobra.NoArgs,
		Long: `Starts API, runner, scheduler, simulated network and SIM_WORKERS (2) workers with simulated phones, and prints where to go and
a first message to copy and paste. No message ever reaches a person.

Without DATABASE_URL it runs a PostgreSQL of its own, from the binaries that are installed, with its data in KURIR_HOME (./.kurir);
without REDIS_URL a Redis of its own. Both listen on free loopback ports, with passwords. Secrets are made and kept in KURIR_HOME.
PORT (8000) is taken if it is free, else another one. Ctrl-C stops everything; the next start finds the data again.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runUp(cmd.Context()) }}
}

func (p *program) runUp(ctx context.Context) error {
	cfg, err := readConfig(p.environ)
	if err != nil {
		return fmt.Errorf("the configuration is not right:\n%w", err)
	}
	if !cfg.explicit["LOG_FILE_PATH"] {
		cfg.LogPath = filepath.Join(cfg.Home, "logs")
	}
	if err := os.MkdirAll(cfg.Home, 0o700); err != nil { // before the logs are put into it: it holds secrets
		return fmt.Errorf("KURIR_HOME: %w", err)
	}
	fmt.Fprintln(p.stdout, "Kurir", version, "is starting …")
	log, closeLog := newLog(cfg, "up", io.Discard)
	defer closeLog()
	log = slog.New(slog.NewMultiHandler(log.Handler(), slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelError})))

	servers, err := embedded.Start(ctx, embedded.Config{Home: cfg.Home, Logger: log, Postgres: cfg.DatabaseURL == "", Redis: cfg.RedisURL == ""})
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if err := servers.Stop(stop); err != nil {
			log.Error("embedded servers not stopped cleanly", "error", err)
		}
	}()
	if cfg.DatabaseURL == "" {
		cfg.DatabaseURL = servers.DatabaseURL
	}
	if cfg.RedisURL == "" {
		cfg.RedisURL = servers.RedisURL
	}
	// A first look has its webhook receiver on this machine, its pictures, and a proxy.
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	cfg.allow = append(cfg.allow, loopback...)
	cfg.mediaAllow = append(cfg.mediaAllow, cfg.allow...)
	cfg.proxyAllow = append(cfg.proxyAllow, loopback...)
	cfg.WebhookAllow, cfg.MediaAllow, cfg.ProxyAllow = asList(cfg.allow), asList(cfg.mediaAllow), asList(cfg.proxyAllow) // as the administrator is shown
	if err := cfg.need(); err != nil {
		return fmt.Errorf("the configuration is not right:\n%w", err)
	}
	parts, err := openParts("up", cfg, log)
	if err != nil {
		return err
	}
	defer parts.close()
	if err := misdirected(ctx, parts.redis); err != nil {
		return err
	}
	admin, err := p.prepare(ctx, parts)
	if err != nil {
		return err
	}
	tools := filepath.Join(cfg.Home, "kurir.env")
	if err := keepAddresses(tools, cfg); err != nil {
		return err
	}
	defer func() { _ = os.Remove(tools) }()
	parts.watch()
	return p.serveAll(ctx, parts, servers, admin)
}

// asList is a list as the environment has it.
func asList(prefixes []netip.Prefix) string {
	var texts []string
	for _, p := range prefixes {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}

// keepAddresses writes where the servers are, for `kurir admin` and `kurir doctor` in another terminal. They find the secrets in
// KURIR_HOME, as this process did.
func keepAddresses(path string, cfg *config) error {
	home, err := filepath.Abs(cfg.Home)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // its permissions may be anybody's
		return err
	}
	text := fmt.Sprintf("export KURIR_HOME=%s DATABASE_URL=%s REDIS_URL=%s\n", quoted(home), quoted(cfg.DatabaseURL), quoted(cfg.RedisURL))
	return os.WriteFile(path, []byte(text), 0o600)
}

// quoted is a word for the shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// credentials of the administrator, to be printed. Password is empty where somebody else chose it.
type adminCredentials struct{ Email, Password string }

func (p *program) prepare(ctx context.Context, parts *parts) (*adminCredentials, error) {
	if err := parts.migrate(ctx); err != nil {
		return nil, err
	}
	if err := models.CheckEncryption(ctx, parts.db, parts.vault); err != nil {
		return nil, err
	}
	if _, err := models.AddPartitions(ctx, parts.db, time.Now()); err != nil {
		return nil, err
	}
	cfg := parts.cfg
	if cfg.AdminEmail == "" {
		cfg.AdminEmail = "admin@kurir.local"
	}
	admin := &adminCredentials{Email: cfg.AdminEmail, Password: cfg.AdminPassword}
	if admin.Password == "" {
		kept, err := keptSecrets(cfg.Home)
		if err != nil {
			return nil, err
		}
		admin.Password = kept.AdminPassword
	}
	made, err := makeAdministrator(ctx, parts.db, cfg, admin.Password)
	if err != nil || made {
		return admin, err
	}
	u, err := models.UserByEmail(ctx, parts.db, strings.ToLower(admin.Email))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	if err != nil || bcrypt.CompareHashAndPassword([]byte(u.PasswordHash), []byte(admin.Password)) != nil {
		admin.Password = "(changed since; `kurir admin reset-password` makes another one)"
	}
	return admin, nil
}

// service is one part of the process with a life of its own.
type service struct {
	name string
	run  func(ctx context.Context) error
}

func (p *program) serveAll(ctx context.Context, parts *parts, servers *embedded.Servers, admin *adminCredentials) error {
	cfg := parts.cfg
	simnetAt, err := listenNear(cfg.SimnetPort, cfg.explicit["SIMNET_PORT"])
	if err != nil {
		return fmt.Errorf("SIMNET_PORT: %w", err)
	}
	apiAt, err := listenNear(cfg.Port, cfg.explicit["PORT"])
	if err != nil {
		return fmt.Errorf("PORT: %w", err)
	}
	cfg.SimnetURL, cfg.GatewayURL = "http://"+simnetAt.Addr().String(), "http://"+apiAt.Addr().String()
	cfg.ShutdownDelay, cfg.WorkerHandOver = 0, 0 // all of it ends at once
	cfg.MetricsPort = 0                          // the API serves /metrics for all; the workers would quarrel about the port
	cfg.InternalPort = 0                         // all is on loopback, and the workers look for their routes where the API is
	services := []service{
		{"simnet", func(ctx context.Context) error {
			return runSimnet(ctx, cfg, simnetAt, filepath.Join(cfg.Home, "simnet.journal"), parts.log)
		}},
		{"api", func(ctx context.Context) error { return parts.runAPI(ctx, apiAt, nil) }},
	}
	for i := range cfg.SimWorkers {
		at, err := listen(true, 0)
		if err != nil {
			return err
		}
		id := fmt.Sprintf("sim-%d", i+1)
		services = append(services, service{id, func(ctx context.Context) error {
			return runWorker(ctx, cfg, id, at, "http://"+at.Addr().String(), parts.log)
		}})
	}
	services = append(services, service{"runner", parts.runRunner}, service{"scheduler", parts.runScheduler})
	return p.supervise(ctx, services, servers.Done(), func() error {
		return printWelcome(p.stdout, cfg, servers, admin, apiAt.Addr())
	})
}

// supervise starts services in order and stops them in reverse when ctx ends, or when one of them or a server under
// them does.
func (p *program) supervise(ctx context.Context, services []service, died <-chan error, started func() error) error {
	type end struct {
		name string
		err  error
	}
	ends := make(chan end, len(services))
	stops := make([]func(), len(services))
	for i, s := range services {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		stops[i] = func() { cancel(); <-done }
		go func() {
			defer close(done)
			err := s.run(own)
			ends <- end{s.name, err}
		}()
	}
	err := started()
	if err == nil {
		select {
		case <-ctx.Done():
			fmt.Fprintln(p.stdout, "\nStopping …")
		case e := <-ends:
			err = fmt.Errorf("%s has ended: %w", e.name, orUnexpected(e.err))
		case e := <-died:
			err = fmt.Errorf("an embedded server has ended: %w", orUnexpected(e))
		}
	}
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	for len(ends) > 0 {
		if e := <-ends; e.err != nil && err == nil {
			err = fmt.Errorf("%s: %w", e.name, e.err)
		}
	}
	return err
}

func orUnexpected(err error) error {
	if err == nil {
		return errors.New("unexpectedly")
	}
	return err
}

// listenNear takes a port of loopback, or any free one if it is taken and nobody asked for it by name.
func listenNear(port int, asked bool) (net.Listener, error) {
	l, err := listen(true, port)
	if err != nil && !asked {
		return listen(true, 0) // what is printed names it
	}
	return l, err
}

//go:embed welcome.txt
var welcomeText string

var welcome = template.Must(template.New("welcome").Parse(welcomeText))

func printWelcome(out io.Writer, cfg *config, servers *embedded.Servers, admin *adminCredentials, at net.Addr) error {
	postgres, redis := "PostgreSQL "+servers.PostgresVersion+" (private)", servers.RedisKind+" (private)"
	if servers.PostgresVersion == "" {
		postgres = "PostgreSQL of DATABASE_URL"
	}
	if servers.RedisKind == "" {
		redis = "Redis of REDIS_URL"
	}
	return welcome.Execute(out, map[string]any{"URL": "http://" + strings.Replace(at.String(), "127.0.0.1", "localhost", 1), "Simnet": cfg.SimnetURL, "Admin": admin,
		"Postgres": postgres, "Redis": redis, "Home": cfg.Home, "Tools": filepath.Join(cfg.Home, "kurir.env"), "Logs": cfg.LogPath, "Workers": cfg.SimWorkers,
		"Tag": strings.ToLower(models.NewID().String()[30:])})
}
