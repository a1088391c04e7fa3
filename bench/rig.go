package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"kurir/embedded"
	"kurir/models"
)

// rig is a whole Kurir: PostgreSQL, Redis, api, runner, scheduler, two workers with simulated phones, and their network.
type rig struct {
	*bench
	home    string
	servers *embedded.Servers
	db      *models.DB
	procs   []*process
	watched []watched
	env     []string
	api     string // URLs
	network string
	metrics map[string]string // URLs by process
	admin   string            // token
	tenants []tenant
	phones  []session
	given   []string // by freeURL
}

const (
	adminEmail    = "admin@example.com"
	adminPassword = "correct horse battery"
	workers       = 2
)

func (r *rig) start(ctx context.Context, sessions int) error {
	for _, step := range []func(context.Context) error{r.startServers, r.migrate, r.startKurir,
		func(ctx context.Context) error { return r.openAccounts(ctx, sessions) }, r.link} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startServers starts PostgreSQL and Redis. The folder is open to the user that runs PostgreSQL where we are root.
func (r *rig) startServers(ctx context.Context) (err error) {
	for _, folder := range []string{r.bench.home, r.home} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(folder, 0o755); err != nil {
			return err
		}
	}
	if r.servers, err = r.embedded(ctx); err != nil {
		return err
	}
	if r.statements {
		if r.servers, err = r.withStatements(ctx); err != nil {
			return err
		}
		if r.redis, err = watchRedis(ctx, r.servers.RedisURL); err != nil {
			return err
		}
	}
	r.report.Machine.PostgreSQL, r.report.Machine.Redis = r.servers.PostgresVersion, r.servers.RedisKind
	r.watched, err = serversOf(os.Getpid())
	return err
}

func (r *rig) embedded(ctx context.Context) (*embedded.Servers, error) {
	return embedded.Start(ctx, embedded.Config{Home: filepath.Join(r.home, "servers"), Postgres: true, Redis: true, RedisKind: embedded.RedisServer, NoFsync: r.volatile})
}

// migrate makes the schema and the administrator.
func (r *rig) migrate(ctx context.Context) error {
	r.network, r.api = r.freeURL(), r.freeURL()
	r.env = []string{"KURIR_ENV=production", "KURIR_HOME=" + r.home, "LOG_FILE_PATH=", "DATABASE_URL=" + r.servers.DatabaseURL, "REDIS_URL=" + r.servers.RedisURL,
		"JWT_SECRET=" + secret(), "ENCRYPTION_KEY=" + secret(), "WORKER_AUTH_TOKEN=" + secret(), "ADMIN_EMAIL=" + adminEmail, "ADMIN_PASSWORD=" + adminPassword,
		"REGISTRATION=open", "BCRYPT_ROUNDS=10", "WEBHOOK_ALLOW_CIDRS=127.0.0.0/8", "SIMNET_URL=" + r.network, "SIMNET_PORT=" + portOf(r.network), "SIM_SCAN_DELAY=10ms", "SIM_REPLY=none",
		"RATE_LIMIT_MAX_REQUESTS=1000000000", "LIMIT_SESSION_OPS_PER_MINUTE=1000000", "LIMIT_REGISTRATIONS_PER_HOUR=1000000",
		"WORKER_MAX_SESSIONS=" + strconv.Itoa(r.many), "SHUTDOWN_DELAY=0s", "WORKER_HANDOVER=1s", "GATEWAY_URL=" + r.api}
	if r.profiles != "" {
		folder, err := filepath.Abs(r.profiles)
		if err != nil {
			return err
		}
		r.env = append(r.env, "KURIR_TEST_BE_KURIR=1", "KURIR_TEST_PROFILES="+folder)
	}
	p, err := startProcess("migrate", r.home, r.env, r.binary, "migrate")
	if err != nil {
		return err
	}
	<-p.exited
	if p.err != nil {
		return fmt.Errorf("migrate: %w\n%s", p.err, p.tail())
	}
	r.db, err = models.OpenAs("bench", r.servers.DatabaseURL, 4)
	return err
}

func (r *rig) startKurir(ctx context.Context) error {
	type part struct {
		name, command string
		env           []string
	}
	parts := []part{{"simnet", "simnet", nil}, {"api", "api", []string{"PORT=" + portOf(r.api)}}, {"runner", "runner", nil}, {"scheduler", "scheduler", nil}}
	for i := range workers {
		id, url := fmt.Sprintf("worker-%d", i+1), r.freeURL()
		parts = append(parts, part{id, "worker", []string{"WORKER_ID=" + id, "WORKER_PORT=" + portOf(url), "WORKER_ENDPOINT=" + url}})
	}
	r.metrics = map[string]string{"api": r.api + "/metrics"}
	for _, s := range parts {
		if s.command != "api" && s.command != "simnet" {
			url := r.freeURL()
			r.metrics[s.name] = url + "/metrics"
			s.env = append(s.env, "METRICS_PORT="+portOf(url))
		}
		p, err := startProcess(s.name, r.home, append(s.env, r.env...), r.binary, s.command)
		if err != nil {
			return err
		}
		r.procs = append(r.procs, p)
		r.watched = append(r.watched, watched{name: s.name, pid: p.cmd.Process.Pid})
		if s.name == "api" {
			if err := r.ready(ctx); err != nil {
				return errors.Join(err, errors.New(p.tail()))
			}
		}
	}
	r.watched = append(r.watched, watched{name: loadName, pid: os.Getpid()})
	return eventually(ctx, time.Minute, "all workers are registered", func() (bool, string) {
		n, err := r.scalar(ctx, `SELECT count(*) FROM workers WHERE lease_expires_at > now()`)
		return n == workers, fmt.Sprint(n, err)
	})
}

func (r *rig) ready(ctx context.Context) error {
	return eventually(ctx, time.Minute, "the API is ready", func() (bool, string) {
		res, err := http.Get(r.api + "/health/ready")
		if err != nil {
			return false, err.Error()
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK, res.Status
	})
}

func (r *rig) scalar(ctx context.Context, query string) (n int64, err error) {
	err = r.db.Pool.QueryRow(ctx, query).Scan(&n)
	return n, err
}

// halt ends one of Kurir's processes for good.
func (r *rig) halt(name string) error {
	i := slices.IndexFunc(r.procs, func(p *process) bool { return p.name == name })
	p := r.procs[i]
	r.procs = slices.Delete(r.procs, i, i+1)
	r.watched = slices.DeleteFunc(r.watched, func(w watched) bool { return w.name == name })
	return p.stop()
}

// stop ends all processes, workers first, while there is somebody to tell, and deletes their data.
func (r *rig) stop() error {
	var errs []error
	for i := range r.procs {
		errs = append(errs, r.procs[len(r.procs)-1-i].stop())
	}
	if r.db != nil {
		if r.statements {
			errs = append(errs, r.reportStatements())
		}
		errs = append(errs, r.db.Close())
	}
	if r.redis != nil {
		errs = append(errs, r.redis.end(r.say))
		r.redis = nil
	}
	home, _ := filepath.EvalSymlinks(filepath.Join(r.home, "servers"))
	data, _ := filepath.EvalSymlinks(filepath.Join(home, "postgres"))
	if r.servers != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
		defer cancel()
		errs = append(errs, r.servers.Stop(ctx))
	}
	if data != "" && filepath.Dir(data) != home { // PostgreSQL's user could not have entered ours
		errs = append(errs, os.RemoveAll(filepath.Dir(data)))
	}
	return errors.Join(append(errs, os.RemoveAll(r.home))...)
}

func secret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return base64.StdEncoding.EncodeToString(key)
}

// freeURL is a loopback address that nobody listens on, and that was given to none of the processes that are about to start.
func (r *rig) freeURL() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "http://127.0.0.1:0"
	}
	defer func() { _ = l.Close() }()
	url := "http://" + l.Addr().String()
	if slices.Contains(r.given, url) {
		return r.freeURL()
	}
	r.given = append(r.given, url)
	return url
}

func portOf(url string) string {
	_, port, _ := net.SplitHostPort(url[len("http://"):])
	return port
}
