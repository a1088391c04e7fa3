package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// How a thing that was looked at is.
const (
	fine    = "ok"
	warning = "warning"
	failing = "failure"
)

// finding is one line of the doctor's.
type finding struct {
	Check  string `json:"check"`
	Status string `json:"status"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// doctor looks at an installation and changes nothing.
type doctor struct {
	cfg      *config
	findings []finding
}

// lookTime bounds each look.
const lookTime = 5 * time.Second

func (p *program) doctor() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "doctor", Short: "Look at configuration, servers, workers and surroundings, and say what to do", Args: cobra.NoArgs,
		Long: `Checks the configuration; PostgreSQL: version, migrations, partitions, connections; Redis: version, eviction, persistence; the
clocks of all three; each worker; the media folder; the mail server; and whether PUBLIC_URL answers. It changes nothing, sends
nothing and shows no secrets. Run it with the environment of the api process.

Each line is ok, a warning or a failure, with what to do. The exit code is 1 if something fails. --json is for programs.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := p.examine(cmd.Context())
			if err := d.print(p.stdout, asJSON); err != nil {
				return err
			}
			if n := d.count(failing); n > 0 {
				return fmt.Errorf("%d of %d checks failed", n, len(d.findings))
			}
			return nil
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// examine makes all checks, as far as what they need is there.
func (p *program) examine(ctx context.Context) *doctor {
	cfg, err := readConfig(p.environ)
	d := &doctor{cfg: cfg}
	d.configuration(err)
	d.database(ctx)
	d.redis(ctx)
	d.media()
	d.mail(ctx)
	d.publicURL(ctx)
	return d
}

func (d *doctor) say(check, status, advice, format string, args ...any) {
	d.findings = append(d.findings, finding{Check: check, Status: status, Found: d.cfg.scrub(fmt.Sprintf(format, args...)), Advice: advice})
}

func (d *doctor) count(status string) (n int) {
	for _, f := range d.findings {
		if f.Status == status {
			n++
		}
	}
	return n
}

func (d *doctor) print(out io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"ok": d.count(failing) == 0, "version": version, "checks": d.findings})
	}
	for _, f := range d.findings {
		fmt.Fprintf(out, "%-8s %-14s %s\n", f.Status, f.Check, strings.ReplaceAll(f.Found, "\n", "\n"+strings.Repeat(" ", 24)))
		if f.Advice != "" {
			fmt.Fprintf(out, "%24s-> %s\n", "", f.Advice)
		}
	}
	fmt.Fprintf(out, "\n%d ok, %d warnings, %d failures\n", d.count(fine), d.count(warning), d.count(failing))
	return nil
}

// scrub takes the values of secrets out of a text: libraries write URLs into their errors.
func (c *config) scrub(text string) string {
	v, t := reflect.ValueOf(*c), reflect.TypeFor[config]()
	var secrets []string
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("secret") == "" {
			continue
		}
		value := v.Field(i).String()
		if u, err := url.Parse(value); err == nil && u.User != nil {
			password, _ := u.User.Password()
			secrets = append(secrets, value, password, url.QueryEscape(password))
		} else if _, rest, ok := strings.Cut(value, "://"); ok { // one that cannot be read, up to its last @
			secrets = append(secrets, value, rest[:max(0, strings.LastIndex(rest, "@"))])
		} else {
			secrets = append(secrets, append(strings.Split(value, ","), value)...) // some take several
		}
	}
	for _, secret := range secrets {
		if len(secret) > 5 { // less would take words apart, and keeps nobody out
			text = strings.ReplaceAll(text, secret, "(secret)")
		}
	}
	return text
}

func (d *doctor) configuration(err error) {
	const check, advice = "configuration", "Correct the variable; .env.example lists them all."
	if err != nil {
		d.say(check, failing, advice, "%v", err)
	}
	if err := d.cfg.needServers(); err != nil {
		d.say(check, failing, "Set it, as the api process has it.", "%v", err)
	}
	if err := d.secrets(); err != nil {
		d.say(check, failing, advice, "%v", err)
	} else if d.count(failing) == 0 {
		d.say(check, fine, "", "readable and complete, for %s%s", d.cfg.Env, d.cfg.saidOfFiles())
	}
	if d.cfg.Env != production {
		return
	}
	if !d.cfg.Helmet {
		d.say(check, warning, "Leave HELMET_ENABLED out, unless a proxy adds secure headers.", "HELMET_ENABLED is off")
	}
	if d.cfg.CORSOrigin == "*" {
		d.say(check, warning, "Name the origins of your own pages in CORS_ORIGIN.", "CORS_ORIGIN lets pages of any site call the API with a key that they have")
	}
	if d.cfg.InternalPort == 0 {
		d.say(check, warning, "Set INTERNAL_PORT, and let the GATEWAY_URL of workers lead to it (Docker Compose does so by itself); or keep /metrics and /admin from the public at your proxy.", "/metrics, the dashboard and the workers' routes are on the public port")
	}
}

// secrets checks them without making any.
func (d *doctor) secrets() error {
	if d.cfg.Env == development {
		kept, err := readSecrets(secretsFile(d.cfg.Home))
		if errors.Is(err, fs.ErrNotExist) {
			return d.cfg.checkSecrets() // the first start makes those that are missing
		}
		if err != nil {
			return err
		}
		d.cfg.fill(kept)
	}
	return d.cfg.checkSecrets("JWT_SECRET", "ENCRYPTION_KEY", "WORKER_AUTH_TOKEN")
}

var errLooked = errors.New("no answer in time")

// within bounds a look, and says so when its time was over.
func within(ctx context.Context, look func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeoutCause(ctx, lookTime, errLooked)
	defer cancel()
	err := look(bounded)
	if err != nil && context.Cause(bounded) == errLooked { //nolint:errorlint // the very one
		return fmt.Errorf("%w: %w", errLooked, err)
	}
	return err
}
