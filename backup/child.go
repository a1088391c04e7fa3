package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Where is a database, and what is needed to work on it from outside.
type Where struct {
	URL     string
	Environ []string // of this process
	Tools   Tools
}

// variables are libpq's for what DATABASE_URL may say of the connection beside host, user, password and database.
var variables = map[string]string{
	"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslcrl": "PGSSLCRL", "sslcrldir": "PGSSLCRLDIR",
	"sslsni": "PGSSLSNI", "sslnegotiation": "PGSSLNEGOTIATION", "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
	"ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION", "channel_binding": "PGCHANNELBINDING", "require_auth": "PGREQUIREAUTH",
	"gssencmode": "PGGSSENCMODE", "krbsrvname": "PGKRBSRVNAME", "connect_timeout": "PGCONNECT_TIMEOUT", "target_session_attrs": "PGTARGETSESSIONATTRS",
	"options": "PGOPTIONS",
}

// kept are the variables of ours that PostgreSQL's programs get, beside those that begin with PG. The rest holds secrets.
var kept = []string{"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"}

// environment is what PostgreSQL's programs get to know of the database. Nothing of it is an argument, which all of the machine
// can read.
func (w Where) environment() ([]string, error) {
	u, err := url.Parse(w.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("DATABASE_URL has to be a URL for this: postgres://user:password@host:5432/name")
	}
	cfg, err := pgconn.ParseConfig(w.URL)
	if err != nil {
		return nil, errors.New("DATABASE_URL cannot be read") // the cause holds it
	}
	var list []string
	for _, line := range w.Environ {
		name, _, _ := strings.Cut(line, "=")
		if strings.HasPrefix(name, "PG") || slices.Contains(kept, name) {
			list = append(list, line)
		}
	}
	var hosts, ports []string
	add := func(host string, port uint16) {
		for i := range hosts { // each is tried with TLS and without, where either will do
			if hosts[i] == host && ports[i] == strconv.Itoa(int(port)) {
				return
			}
		}
		hosts, ports = append(hosts, host), append(ports, strconv.Itoa(int(port)))
	}
	add(cfg.Host, cfg.Port)
	for _, f := range cfg.Fallbacks {
		add(f.Host, f.Port)
	}
	list = append(list, "LC_ALL=C", "PGAPPNAME=kurir backup", "PGHOST="+strings.Join(hosts, ","), "PGPORT="+strings.Join(ports, ","),
		"PGUSER="+cfg.User, "PGDATABASE="+cfg.Database)
	if cfg.Password != "" {
		list = append(list, "PGPASSWORD="+cfg.Password)
	}
	for key, values := range u.Query() {
		if name, ok := variables[key]; ok {
			list = append(list, name+"="+values[0])
		}
	}
	return list, nil
}

const (
	killAfter = 10 * time.Second // a program that was asked to end
	mostSaid  = 16 << 10         // of what a program complains about
)

// child is one of PostgreSQL's programs.
type child struct {
	*exec.Cmd
	said complaints
}

// program prepares one. When ctx ends it is interrupted, which it passes on to the server, and killed if that does not help.
func (w Where) program(ctx context.Context, path string, args ...string) (*child, error) {
	env, err := w.environment()
	if err != nil {
		return nil, err
	}
	c := &child{Cmd: exec.CommandContext(ctx, path, args...)}
	c.Env, c.Stderr, c.WaitDelay = env, &c.said, killAfter
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	return c, nil
}

// failed says what went wrong, in the program's own words if it has any.
func (c *child) failed(err error) error {
	if err == nil {
		return nil
	}
	if said := c.said.String(); said != "" {
		return fmt.Errorf("%s: %w", said, err)
	}
	return fmt.Errorf("%s: %w", c.Path, err)
}

// complaints keep the beginning of what was said: the first fault leads to the others.
type complaints struct{ text []byte }

func (c *complaints) Write(b []byte) (int, error) {
	c.text = append(c.text, b[:min(len(b), mostSaid-len(c.text))]...)
	return len(b), nil
}

func (c *complaints) String() string { return strings.TrimSpace(string(c.text)) }

var _ io.Writer = (*complaints)(nil)
