package embeddedtest

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PgBouncer is a pooler in transaction mode before one database.
type PgBouncer struct {
	Version  string // "1.18.0"
	Prepared bool   // it keeps prepared statements

	t   testing.TB
	url url.URL
}

var bouncerVersion = regexp.MustCompile(`PgBouncer ((\d+)\.(\d+)\S*)`)

// NewPgBouncer starts one with so many connections to a database, and more lines of its configuration. ok is false where none is
// installed. It is stopped at the end of the test.
func NewPgBouncer(t testing.TB, database string, conns int, lines ...string) (p *PgBouncer, ok bool) {
	t.Helper()
	path, ok := installed(t, "pgbouncer", "pgbouncer")
	if !ok {
		return nil, false
	}
	at, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	p = &PgBouncer{t: t, url: *at}
	said, _ := exec.Command(path, "--version").CombinedOutput()
	found := bouncerVersion.FindSubmatch(said)
	if found == nil {
		t.Fatalf("pgbouncer --version says %s", said)
	}
	p.Version = string(found[1])
	major, _ := strconv.Atoi(string(found[2]))
	minor, _ := strconv.Atoi(string(found[3]))
	if p.Prepared = major > 1 || minor >= 21; p.Prepared {
		lines = append(lines, "max_prepared_statements = 500")
	}
	port, folder := Port(t), place(t, "pgbouncer")
	p.url.Host, p.url.RawQuery = loopback(port), "sslmode=disable"
	name, user := strings.TrimPrefix(at.Path, "/"), at.User.Username()
	password, _ := at.User.Password()
	users, file := filepath.Join(folder, "users.txt"), filepath.Join(folder, "pgbouncer.ini")
	put(t, users, fmt.Appendf(nil, "%q %q\n", user, password))
	put(t, file, []byte(strings.Join(append([]string{
		"[databases]", fmt.Sprintf("%s = host=%s port=%s dbname=%s", name, at.Hostname(), at.Port(), name),
		"[pgbouncer]", "listen_addr = 127.0.0.1", fmt.Sprintf("listen_port = %d", port), "unix_socket_dir =",
		"auth_type = scram-sha-256", "auth_file = " + users, "admin_users = " + user,
		"pool_mode = transaction", fmt.Sprintf("default_pool_size = %d", conns), "max_client_conn = 1000",
	}, append(lines, "")...), "\n")))
	process := startProcess(t, folder, path, file)
	await(t, "PgBouncer answers", []*Process{process}, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.URL())
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
	p.Renew() // so that nothing is known to it yet
	return p, true
}

// URL leads to the database through it.
func (p *PgBouncer) URL() string { return p.url.String() }

// ClientURL is URL for clients that use prepared statements as it can bear them.
func (p *PgBouncer) ClientURL() string {
	u := p.url
	if !p.Prepared {
		u.RawQuery += "&default_query_exec_mode=cache_describe"
	}
	return u.String()
}

// Renew has it replace its connections to the database, each when it is free.
func (p *PgBouncer) Renew() {
	p.t.Helper()
	console := p.url
	console.Path = "/pgbouncer"
	console.RawQuery += "&default_query_exec_mode=simple_protocol"
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, console.String())
	if err != nil {
		p.t.Fatalf("PgBouncer's console: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "RECONNECT"); err != nil {
		p.t.Fatalf("RECONNECT: %v", err)
	}
}
