package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Signals to the postmaster. A fast shutdown ends all sessions and writes a checkpoint; an immediate one is a crash that
// the next start recovers from.
const (
	fastShutdown      = syscall.SIGINT
	immediateShutdown = syscall.SIGQUIT
)

// pgName is the name of the database and of its user, a superuser.
const pgName = "kurir"

// pgSettings suit a small machine: shared_buffers is PostgreSQL's own default, and 200 connections are enough for all of
// kurir in one process, and for a test binary that has a pool per parallel test.
var pgSettings = []string{
	"listen_addresses=127.0.0.1", "unix_socket_directories=",
	"shared_buffers=128MB", "max_connections=200",
	"synchronous_commit=on", "max_wal_size=512MB",
	"jit=off",           // our queries are short; compiling costs more than it saves
	"max_wal_senders=0", // no replicas
	"logging_collector=off", "log_checkpoints=off", "log_line_prefix=%m [%p] ",
	"timezone=UTC", "log_timezone=UTC",
}

var unsafeSettings = []string{"fsync=off", "full_page_writes=off"}

func (s *Servers) startPostgres(ctx context.Context, cfg Config, h *home) error {
	acct, err := chooseAccount(h.file("postgres"))
	if err != nil {
		return err
	}
	place, err := h.dataPlace(acct, cfg.places.elsewhere)
	if err != nil {
		return err
	}
	if place != h.path {
		// A copy of a home has a link to the same data.
		l, err := lockFolder(place)
		if err != nil {
			return err
		}
		s.locks = append(s.locks, l)
		s.log.InfoContext(ctx, "PostgreSQL's data are outside of the home, which its user may not enter", "folder", place)
	}
	data := filepath.Join(place, "postgres")
	in, err := s.postgresPrograms(ctx, cfg, acct, data)
	if err != nil {
		return err
	}
	_, isNew := os.Stat(filepath.Join(data, "PG_VERSION"))
	if _, err := os.Stat(h.file("postgres.password")); err != nil && isNew == nil {
		return fmt.Errorf("%s is missing, and without it the data cannot be opened: put it back, or delete %s to begin anew",
			h.file("postgres.password"), data)
	}
	password, err := h.secret("postgres.password")
	if err != nil {
		return err
	}
	if isNew != nil {
		if err := initPostgres(ctx, cfg, h, in, acct, data, password); err != nil {
			return err
		}
	}
	if err := reclaimPostgres(ctx, data); err != nil {
		return err
	}
	return s.launchPostgres(ctx, cfg, h, in, acct, data, password)
}

// postgresPrograms finds, or fetches, programs that can open the data, if there are any.
func (s *Servers) postgresPrograms(ctx context.Context, cfg Config, acct account, data string) (pgInstall, error) {
	b, _ := os.ReadFile(filepath.Join(data, "PG_VERSION")) // none: new data, any version will do
	major := strings.TrimSpace(string(b))
	in, err := cfg.places.findPostgres(ctx, acct, major)
	if !errors.Is(err, errNoPostgres) {
		return in, err
	}
	s.log.InfoContext(ctx, "no PostgreSQL is installed that fits; downloading one", "version", string(fetchable[major]))
	in, err = cfg.places.fetchPostgres(ctx, acct, major)
	if err != nil {
		return in, missingPostgres(major, err)
	}
	return in, nil
}

// initPostgres makes an empty data folder. It appears under its name when it is complete, so that a crash in the middle
// leaves nothing that looks like data. The C locale sorts by code point, alike on all systems.
func initPostgres(ctx context.Context, cfg Config, h *home, in pgInstall, acct account, data, password string) error {
	tmp, pwfile := data+".new", data+".pw"
	defer os.Remove(pwfile)
	if err := errors.Join(os.RemoveAll(tmp), os.RemoveAll(pwfile)); err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.WriteFile(pwfile, []byte(password+"\n"), 0o600)); err != nil {
		return err
	}
	if err := errors.Join(acct.own(tmp), acct.own(pwfile)); err != nil {
		return err
	}
	args := []string{"-D", tmp, "-U", pgName, "--pwfile=" + pwfile, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"}
	if cfg.NoFsync {
		args = append(args, "--no-sync")
	}
	c := command{path: filepath.Join(in.bin, "initdb"), args: args, acct: acct, log: h.file("postgres.log")}
	if err := runTool(ctx, c); err != nil {
		return err
	}
	return os.Rename(tmp, data)
}

// launchPostgres starts the server, again where another process took the port before it, or where what was left of a
// killed server is still about to end.
func (s *Servers) launchPostgres(ctx context.Context, cfg Config, h *home, in pgInstall, acct account, data, password string) error {
	for {
		err := s.tryPostgres(ctx, cfg, h, in, acct, data, password)
		if err == nil || s.postgres != nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// passing tells failures that go away when one waits, or takes another port.
func passing(err error) bool {
	for _, s := range []string{"Address already in use", "pre-existing shared memory block", "lock file \"postmaster.pid\" already exists"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

func (s *Servers) tryPostgres(ctx context.Context, cfg Config, h *home, in pgInstall, acct account, data, password string) error {
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	args := []string{"-D", data, "-p", strconv.Itoa(port)}
	settings, death := pgSettings, fastShutdown
	if cfg.NoFsync {
		settings, death = append(settings[:len(settings):len(settings)], unsafeSettings...), immediateShutdown
	}
	if h.orphan {
		death = 0
	}
	for _, setting := range append(settings[:len(settings):len(settings)], cfg.Settings...) { // the last one of a name counts
		args = append(args, "-c", setting)
	}
	c := command{path: filepath.Join(in.bin, "postgres"), args: args, acct: acct, log: h.file("postgres.log"), deathSignal: death}
	ch, err := startChild(c)
	if err != nil {
		return err
	}
	dsn := url.URL{Scheme: "postgres", User: url.UserPassword(pgName, password), Host: "127.0.0.1:" + strconv.Itoa(port),
		Path: "/" + pgName, RawQuery: "sslmode=disable"}
	if err := awaitPostgres(ctx, ch, dsn); err != nil {
		return errors.Join(err, ch.stop(ctx, fastShutdown, immediateShutdown))
	}
	s.postgres, s.DatabaseURL, s.PostgresVersion = ch, dsn.String(), in.version
	s.watch(ch)
	return nil
}

// awaitPostgres waits until the server answers, which takes a while after a crash, and sees that our database exists.
func awaitPostgres(ctx context.Context, ch *child, dsn url.URL) error {
	dsn.Path = "/postgres"
	for {
		err := ensureDatabase(ctx, dsn.String())
		if err == nil {
			return nil
		}
		if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) && pg.Code != "57P03" { // cannot_connect_now: still starting
			return fmt.Errorf("it runs, but: %w", err)
		}
		select {
		case <-ch.exited:
			return ch.failure()
		case <-ctx.Done():
			return fmt.Errorf("no answer in time: %w; the end of %s:\n%s", err, ch.log, ch.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func ensureDatabase(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", pgName).Scan(&exists); err != nil || exists {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgName)
	return err
}
