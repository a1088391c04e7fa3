package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"kurir/secretfile"
	"kurir/tracing"
)

// duration is Go's; a bare number counts in seconds.
type duration time.Duration

// UnmarshalText reads it.
func (d *duration) UnmarshalText(text []byte) error {
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		*d = duration(time.Duration(n) * time.Second)
		return nil
	}
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

// config is the environment, read once. Fields tagged secret are never printed, and may come from files.
type config struct {
	Env     string `env:"KURIR_ENV" envDefault:"development"`
	Home    string `env:"KURIR_HOME" envDefault:"./.kurir"`
	APIPort int    `env:"PORT" envDefault:"8000"` // of `kurir-whatsapp up`

	GatewayURL  string   `env:"GATEWAY_URL"`
	Token       string   `env:"WORKER_AUTH_TOKEN" secret:"true"`
	ID          string   `env:"WORKER_ID"`
	Port        int      `env:"WORKER_PORT" envDefault:"8001"`
	Endpoint    string   `env:"WORKER_ENDPOINT"`
	MaxSessions int      `env:"WORKER_MAX_SESSIONS" envDefault:"50"`
	HandOver    duration `env:"WORKER_HANDOVER" envDefault:"20s"`
	MetricsPort int      `env:"METRICS_PORT"`
	LogLevel    string   `env:"LOG_LEVEL" envDefault:"info"`

	Credentials    string `env:"WHATSAPP_DATABASE_URL" secret:"true"`
	DatabaseDirect string `env:"DATABASE_DIRECT_URL" secret:"true"`
	DatabaseURL    string `env:"DATABASE_URL" secret:"true"`
	Schema         string `env:"WHATSAPP_SCHEMA" envDefault:"kurir_whatsapp"`
	Conns          int    `env:"WHATSAPP_DATABASE_CONNS" envDefault:"16"`
	ImportFrom     string `env:"IMPORT_DATABASE_URL" secret:"true"` // of `kurir-whatsapp import`; a SQLite file, too
	DeviceName     string `env:"WHATSAPP_DEVICE_NAME" envDefault:"Kurir"`
	AppVersion     string `env:"WHATSAPP_VERSION"`

	OTLPEndpoint   string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" secret:"true"` // these two may hold a token
	OTLPTraces     string `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" secret:"true"`
	TracesExporter string `env:"OTEL_TRACES_EXPORTER" envDefault:"otlp"`
	TelemetryOff   bool   `env:"OTEL_SDK_DISABLED"`

	level *slog.LevelVar // can be changed while it runs
	host  string         // where it listens, "" for everywhere
}

// readConfig reads the environment and reports everything that is wrong with it at once.
func readConfig(environ []string) (*config, error) {
	c, err := parse(environ)
	if err != nil {
		return nil, err
	}
	return c, c.check()
}

func parse(environ []string) (*config, error) {
	c := &config{level: new(slog.LevelVar)}
	values := map[string]string{}
	for _, line := range environ {
		if name, value, _ := strings.Cut(line, "="); value != "" { // an empty variable is as good as none
			values[name] = value
		}
	}
	_, faults := secretfile.Read(values, reflect.TypeFor[config]())
	if err := env.ParseWithOptions(c, env.Options{Environment: values}); err != nil {
		faults = append(faults, err)
	}
	return c, errors.Join(faults...)
}

func (c *config) check() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if u, err := url.Parse(c.GatewayURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		bad("GATEWAY_URL must be set, for example http://localhost:8000")
	}
	if c.database() == "" {
		bad("WHATSAPP_DATABASE_URL, DATABASE_DIRECT_URL or DATABASE_URL must be set: devices' credentials are in PostgreSQL")
	}
	if c.Token == "" && c.Env != "production" {
		c.Token = keptToken(c.Home)
	}
	if c.Token == "" {
		bad("WORKER_AUTH_TOKEN is not set")
	}
	if err := c.level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		bad("LOG_LEVEL: %q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.MaxSessions < 1 || c.HandOver < 0 {
		bad("WORKER_MAX_SESSIONS must be above 0, WORKER_HANDOVER not below")
	}
	if c.ID == "" {
		host, err := os.Hostname()
		if err != nil {
			bad("WORKER_ID is not set, and the host has no name: %w", err)
		}
		c.ID = host
	}
	return errors.Join(faults...)
}

// database is where the credentials are. A fence is a setting of a connection, which a pooler by transaction would mix up.
func (c *config) database() string {
	for _, at := range []string{c.Credentials, c.DatabaseDirect, c.DatabaseURL} {
		if at != "" {
			return at
		}
	}
	return ""
}

// keptToken is the one that `kurir` has made for development, "" if it has not.
func keptToken(home string) string {
	body, err := os.ReadFile(filepath.Join(home, "secrets.json")) //nolint:gosec // the operator names it
	if err != nil {
		return ""
	}
	var kept struct {
		Token string `json:"workerAuthToken"`
	}
	if json.Unmarshal(body, &kept) != nil {
		return ""
	}
	return kept.Token
}

// endpoint is where the gateway reaches this worker.
func (c *config) endpoint(l net.Listener) string {
	if c.Endpoint != "" {
		return c.Endpoint
	}
	host, _ := os.Hostname()
	if u, err := url.Parse(c.GatewayURL); err == nil && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1") || host == "" {
		host = "127.0.0.1" // the gateway is on this machine
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// tracesTo is the URL that traces go to, empty if there are none.
func (c *config) tracesTo() string {
	return tracing.EndpointOf(c.TelemetryOff, c.TracesExporter, c.OTLPTraces, c.OTLPEndpoint)
}

// redacted is the configuration for the log. Of secrets it only says whether they are set.
func (c *config) redacted() slog.Value {
	var attrs []slog.Attr
	v, t := reflect.ValueOf(*c), reflect.TypeFor[config]()
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("env")
		if name == "" {
			continue
		}
		value := v.Field(i).Interface()
		if t.Field(i).Tag.Get("secret") != "" {
			value = map[bool]string{true: "(not set)", false: "(secret)"}[v.Field(i).IsZero()]
		}
		if d, ok := value.(duration); ok {
			value = time.Duration(d).String()
		}
		attrs = append(attrs, slog.Any(name, value))
	}
	return slog.GroupValue(attrs...)
}

// several are the parts of a secret that is being exchanged for another one.
func several(value string) []string {
	parts := strings.Split(value, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}
