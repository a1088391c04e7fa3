package embeddedtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kurir/embedded"
)

// PostgresHandle is a PostgreSQL of one test, which can take it away and bring it back. Its data survive Stop and Crash.
type PostgresHandle struct {
	t       testing.TB
	cfg     embedded.Config
	front   *Proxy // stays where it is, while the server takes another port at each start
	servers *embedded.Servers
	url     url.URL
}

// NewPostgres starts a fresh private PostgreSQL with an empty database, and with these settings (name=value) beside its own. It is
// stopped at the end of the test.
func NewPostgres(t testing.TB, settings ...string) *PostgresHandle {
	t.Helper()
	home := NewHome(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := copyTemplate(ctx, home); err != nil {
		t.Fatalf("start PostgreSQL: copy the template: %v", err)
	}
	return PostgresOn(t, home, settings...)
}

// NewHome names a folder for a server, which does not exist yet. Its parent can be entered by the user that PostgreSQL runs as.
func NewHome(t testing.TB) string {
	t.Helper()
	f, n, err := next()
	if err != nil {
		t.Fatalf("make a folder: %v", err)
	}
	return filepath.Join(f.path, fmt.Sprintf("postgres-%d", n))
}

// PostgresOn is NewPostgres on a home that holds data already, in its folder `postgres`, and their password in `postgres.password`.
func PostgresOn(t testing.TB, home string, settings ...string) *PostgresHandle {
	t.Helper()
	h := &PostgresHandle{t: t, cfg: embedded.Config{Home: home, Postgres: true, NoFsync: true, Settings: settings}}
	h.front = NewProxy(t, "")
	h.front.Set(Refused)
	h.Start()
	t.Cleanup(h.Stop)
	at, err := url.Parse(h.servers.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	h.url = *at
	h.url.Host = h.front.Addr()
	return h
}

// Home returns the folder of the server.
func (h *PostgresHandle) Home() string { return h.cfg.Home }

// URL returns where the database is, or was: it stays the same over Stop, Crash and Start.
func (h *PostgresHandle) URL() string { return h.url.String() }

// Start brings the server back after Stop or Crash, and waits until it answers.
func (h *PostgresHandle) Start() {
	h.t.Helper()
	if h.servers != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	started := make(chan struct{})
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		h.announce(started)
	}()
	s, err := embedded.Start(ctx, h.cfg)
	close(started)
	<-announced
	if err != nil {
		h.t.Fatalf("start PostgreSQL: %v", err)
	}
	h.servers = s
	at, err := url.Parse(s.DatabaseURL)
	if err != nil {
		h.t.Fatal(err)
	}
	h.front.Retarget(at.Host)
	h.front.Set(None)
}

// announce opens the front as soon as the server has a port, so that clients meet it in recovery, as they would.
func (h *PostgresHandle) announce(started <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-started:
			return
		case <-tick.C:
		}
		if _, port := h.postmaster(); port != 0 {
			h.front.Retarget(loopback(port))
			h.front.Set(None)
			return
		}
	}
}

// postmaster reads the process ID and the port that a running server notes in its data; 0 where it does not.
func (h *PostgresHandle) postmaster() (pid, port int) {
	b, _ := os.ReadFile(filepath.Join(h.cfg.Home, "postgres", "postmaster.pid"))
	lines := strings.Split(string(b), "\n")
	if len(lines) < 5 { // it is being written
		return 0, 0
	}
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	port, _ = strconv.Atoi(strings.TrimSpace(lines[3]))
	return pid, port
}

// Stop ends the server as pg_ctl stop -m fast does: transactions are rolled back, clients told, new connections refused.
func (h *PostgresHandle) Stop() {
	h.t.Helper()
	if h.servers == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := h.servers.Stop(ctx)
	h.front.Set(Refused)
	if err != nil {
		h.t.Errorf("stop PostgreSQL: %v", err)
	}
	h.servers = nil
}

// Crash ends the server as pg_ctl stop -m immediate does: at once, so that the next start has to recover from its log.
func (h *PostgresHandle) Crash() {
	h.t.Helper()
	pid, _ := h.postmaster()
	if h.servers == nil || pid <= 1 {
		h.t.Fatal("crash PostgreSQL: it is not running")
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		h.t.Fatalf("crash PostgreSQL: %v", err)
	}
	select {
	case err := <-h.servers.Done():
		if err == nil {
			h.t.Fatal("crash PostgreSQL: somebody else has stopped it")
		}
	case <-time.After(patience):
		h.t.Fatal("PostgreSQL does not end")
	}
	h.Stop()
}
