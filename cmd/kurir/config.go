package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"kurir/api"
	"kurir/egress"
	"kurir/limits"
	"kurir/mail"
	"kurir/media"
	"kurir/webhook"
)

// duration reads Go's durations and, beyond them, days ("7d"). A bare number counts in the unit of its variable.
type duration time.Duration

func parseDuration(text string, unit time.Duration) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("%q is no duration", text)
		}
		return time.Duration(n * float64(24*time.Hour)), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Duration(n) * unit, nil
	}
	return time.ParseDuration(text)
}

// UnmarshalText reads seconds, or a duration with its unit.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := parseDuration(string(text), time.Second)
	*d = duration(v)
	return err
}

// millis is a duration whose bare number counts in milliseconds, as the customer's brief writes them.
type millis time.Duration

// UnmarshalText reads milliseconds, or a duration with its unit.
func (m *millis) UnmarshalText(text []byte) error {
	v, err := parseDuration(string(text), time.Millisecond)
	*m = millis(v)
	return err
}

// config is the environment, read once. Fields tagged secret are never printed.
type config struct {
	Env     string `env:"KURIR_ENV"`
	NodeEnv string `env:"NODE_ENV"` // an alias of KURIR_ENV
	Home    string `env:"KURIR_HOME" envDefault:"./.kurir"`

	Port         int    `env:"PORT" envDefault:"8000"`
	InternalPort int    `env:"INTERNAL_PORT"`
	MetricsPort  int    `env:"METRICS_PORT"`
	PublicURL    string `env:"PUBLIC_URL"`
	APIVersion   string `env:"API_VERSION" envDefault:"v1"`

	DatabaseURL      string `env:"DATABASE_URL" secret:"true"`
	DatabaseDirect   string `env:"DATABASE_DIRECT_URL" secret:"true"` // where DATABASE_URL leads to a pooler
	DatabaseMaxConns int    `env:"DATABASE_MAX_CONNS" envDefault:"16"`
	RedisURL         string `env:"REDIS_URL" secret:"true"`

	JWTSecret     string   `env:"JWT_SECRET" secret:"true"`
	JWTExpiresIn  duration `env:"JWT_EXPIRES_IN" envDefault:"7d"`
	BcryptRounds  int      `env:"BCRYPT_ROUNDS" envDefault:"12"`
	EncryptionKey string   `env:"ENCRYPTION_KEY" secret:"true"`
	AdminEmail    string   `env:"ADMIN_EMAIL"`
	AdminPassword string   `env:"ADMIN_PASSWORD" secret:"true"`
	Registration  string   `env:"REGISTRATION"`
	QueryAPIKey   bool     `env:"ALLOW_QUERY_API_KEY" envDefault:"true"`
	SelfTier      string   `env:"SELF_SERVICE_TIER" envDefault:"BASIC"`

	VerifyEmail bool `env:"REQUIRE_EMAIL_VERIFICATION"`

	LimitSessionsBasic int `env:"LIMIT_SESSIONS_BASIC" envDefault:"1"`
	LimitSessionsPro   int `env:"LIMIT_SESSIONS_PRO" envDefault:"5"`
	LimitSessionsMax   int `env:"LIMIT_SESSIONS_MAX" envDefault:"20"`
	LimitMessagesBasic int `env:"LIMIT_MESSAGES_PER_HOUR_BASIC" envDefault:"100"`
	LimitMessagesPro   int `env:"LIMIT_MESSAGES_PER_HOUR_PRO" envDefault:"1000"`
	LimitMessagesMax   int `env:"LIMIT_MESSAGES_PER_HOUR_MAX" envDefault:"10000"`

	RateWindow       millis   `env:"RATE_LIMIT_WINDOW_MS" envDefault:"900000"`
	RatePerAddress   int      `env:"RATE_LIMIT_MAX_REQUESTS" envDefault:"1000"`
	RatePerKey       int      `env:"LIMIT_REQUESTS_PER_CREDENTIAL"` // RATE_LIMIT_MAX_REQUESTS unless set
	SessionOps       int      `env:"LIMIT_SESSION_OPS_PER_MINUTE" envDefault:"60"`
	Registrations    int      `env:"LIMIT_REGISTRATIONS_PER_HOUR" envDefault:"10"`
	LoginFailures    int      `env:"LIMIT_LOGIN_FAILURES" envDefault:"5"`
	LoginsPerAddress int      `env:"LIMIT_LOGIN_FAILURES_PER_ADDRESS" envDefault:"50"`
	LoginsPerAccount int      `env:"LIMIT_LOGIN_FAILURES_PER_ACCOUNT" envDefault:"50"`
	LoginDelay       duration `env:"LIMIT_LOGIN_DELAY" envDefault:"1s"`

	StreamsPerCredential int `env:"LIMIT_STREAMS_PER_CREDENTIAL" envDefault:"20"`
	StreamsPerUser       int `env:"LIMIT_STREAMS_PER_USER" envDefault:"100"`
	StreamsPerProcess    int `env:"LIMIT_STREAMS_PER_PROCESS" envDefault:"5000"`

	WorkerToken    string `env:"WORKER_AUTH_TOKEN" secret:"true"`
	ProbeInterval  millis `env:"WORKER_HEALTH_CHECK_INTERVAL" envDefault:"30000"`
	GatewayURL     string `env:"GATEWAY_URL"`
	WorkerID       string `env:"WORKER_ID"`
	WorkerPort     int    `env:"WORKER_PORT" envDefault:"8001"`
	WorkerEndpoint string `env:"WORKER_ENDPOINT"`
	WorkerSessions int    `env:"WORKER_MAX_SESSIONS" envDefault:"50"`

	LeaseTTL   duration `env:"LEASE_TTL" envDefault:"12s"`
	Heartbeat  duration `env:"HEARTBEAT_INTERVAL" envDefault:"3s"`
	MessageTTL duration `env:"MESSAGE_TTL" envDefault:"24h"`

	ShutdownDelay  duration `env:"SHUTDOWN_DELAY" envDefault:"2s"`
	WorkerHandOver duration `env:"WORKER_HANDOVER" envDefault:"20s"`
	TroubleAfter   duration `env:"NETWORK_TROUBLE_AFTER" envDefault:"30s"`
	ScalingURL     string   `env:"SCALING_WEBHOOK_URL" secret:"true"` // may hold a token
	WebhookSecret  string   `env:"WEBHOOK_SECRET" secret:"true"`
	BillingURL     string   `env:"BILLING_WEBHOOK_URL" secret:"true"` // may hold a token
	BillingAfter   duration `env:"BILLING_CLOSE_AFTER" envDefault:"48h"`

	RunnerConcurrency int      `env:"RUNNER_CONCURRENCY" envDefault:"64"`
	WebhookAllow      string   `env:"WEBHOOK_ALLOW_CIDRS"`
	WebhookSchedule   string   `env:"WEBHOOK_RETRY_SCHEDULE"`
	MediaURL          string   `env:"MEDIA_URL"`
	MediaAllow        string   `env:"MEDIA_ALLOW_CIDRS"`
	ProxyAllow        string   `env:"PROXY_ALLOW_CIDRS"`
	MediaImage        byteSize `env:"MEDIA_MAX_IMAGE" envDefault:"16MB"`
	MediaVideo        byteSize `env:"MEDIA_MAX_VIDEO" envDefault:"16MB"`
	MediaAudio        byteSize `env:"MEDIA_MAX_AUDIO" envDefault:"16MB"`
	MediaDocument     byteSize `env:"MEDIA_MAX_DOCUMENT" envDefault:"100MB"`
	MediaSticker      byteSize `env:"MEDIA_MAX_STICKER" envDefault:"500KB"`
	Uploads           int      `env:"MEDIA_UPLOADS" envDefault:"64"`
	UploadsPerUser    int      `env:"MEDIA_UPLOADS_PER_USER" envDefault:"8"`
	UploadTimeout     duration `env:"MEDIA_UPLOAD_TIMEOUT" envDefault:"5m"`

	KeepMessagesDays int `env:"RETENTION_MESSAGES_DAYS" envDefault:"0"` // 0: for ever, as with the others
	KeepMetricsDays  int `env:"RETENTION_METRICS_DAYS" envDefault:"30"`
	KeepLogsDays     int `env:"RETENTION_LOGS_DAYS" envDefault:"90"` // of the audit trail and of ended jobs

	WebhookDisableAfter duration `env:"WEBHOOK_DISABLE_AFTER" envDefault:"5d"`
	KeepDeliveriesDays  int      `env:"RETENTION_DELIVERIES_DAYS" envDefault:"30"`

	SMTPHost string `env:"SMTP_HOST"`
	SMTPPort int    `env:"SMTP_PORT" envDefault:"587"`
	SMTPUser string `env:"SMTP_USER"`
	SMTPPass string `env:"SMTP_PASS" secret:"true"`
	SMTPFrom string `env:"SMTP_FROM"`

	CORSOrigin       string   `env:"CORS_ORIGIN" envDefault:"http://localhost:3000"`
	Helmet           bool     `env:"HELMET_ENABLED" envDefault:"true"`
	TrustedProxies   []string `env:"TRUSTED_PROXIES"`
	Metrics          bool     `env:"ENABLE_METRICS" envDefault:"true"`
	AsynqmonWritable bool     `env:"ASYNQMON_WRITABLE"`
	PrometheusURL    string   `env:"PROMETHEUS_URL"`
	LogLevel         string   `env:"LOG_LEVEL" envDefault:"info"`
	LogPath          string   `env:"LOG_FILE_PATH" envDefault:"./logs"`

	OTLPEndpoint       string `env:"OTEL_EXPORTER_OTLP_ENDPOINT" secret:"true"` // these two may hold a token
	OTLPTraces         string `env:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" secret:"true"`
	OTLPProtocol       string `env:"OTEL_EXPORTER_OTLP_PROTOCOL"`
	OTLPTracesProtocol string `env:"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"`
	TracesExporter     string `env:"OTEL_TRACES_EXPORTER" envDefault:"otlp"`
	TracesSampler      string `env:"OTEL_TRACES_SAMPLER"`
	TelemetryOff       bool   `env:"OTEL_SDK_DISABLED"`
	TraceCallers       string `env:"TRACE_CALLERS" envDefault:"continue"`

	SimnetURL      string   `env:"SIMNET_URL"`
	SimnetHost     string   `env:"SIMNET_HOST" envDefault:"127.0.0.1"`
	SimnetPort     int      `env:"SIMNET_PORT" envDefault:"8090"`
	SimnetState    string   `env:"SIMNET_STATE"`
	SimWorkers     int      `env:"SIM_WORKERS" envDefault:"2"`
	SimScanDelay   duration `env:"SIM_SCAN_DELAY" envDefault:"2s"`
	SimSendLatency duration `env:"SIM_SEND_LATENCY" envDefault:"0s"`
	SimReply       string   `env:"SIM_REPLY" envDefault:"echo"`

	// What the fields above come to.
	level          *slog.LevelVar // a worker's can be changed while it runs
	schedule       webhook.Schedule
	allow          []netip.Prefix
	mediaAllow     []netip.Prefix // where media may be fetched from besides the internet
	proxyAllow     []netip.Prefix // where sessions' proxies may be besides the internet
	mediaRules     media.Rules
	tiers          limits.Config
	selfTier       limits.Tier
	requests       limits.Requests
	proxies        []netip.Prefix  // TRUSTED_PROXIES
	encryptionKeys [][]byte        // the first seals
	operator       string          // WEBHOOK_SECRET in whsec_ form
	explicit       map[string]bool // variables that are set
	inFiles        []string        // secrets that came from files
}

// mostDays is the longest retention: 100 years. Some three times that would not fit into a duration.
const mostDays = 36_500

const (
	production  = "production"
	development = "development"
)

// readConfig reads the environment and reports everything that is wrong with it at once.
func readConfig(environ []string) (*config, error) {
	c := &config{explicit: map[string]bool{}, level: new(slog.LevelVar)}
	values := map[string]string{}
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if value != "" || name == "LOG_FILE_PATH" { // an empty variable is as good as none, but for the one that can be switched off so
			values[name], c.explicit[name] = value, true
		}
	}
	faults := c.readSecretFiles(values)
	if err := env.ParseWithOptions(c, env.Options{Environment: values}); err != nil {
		faults = append(faults, byVariable(err)...)
	}
	if value, ok := values["LOG_FILE_PATH"]; ok {
		c.LogPath = value
	}
	return c, errors.Join(append(faults, c.check()...)...)
}

// byVariable names the variables whose values cannot be read; the library names our fields.
func byVariable(err error) (faults []error) {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return []error{err}
	}
	for _, one := range all.Errors {
		var p env.ParseError
		if errors.As(one, &p) {
			if field, ok := reflect.TypeFor[config]().FieldByName(p.Name); ok {
				one = fmt.Errorf("%s: expected %s", field.Tag.Get("env"), kindOf(p.Type))
			}
		}
		faults = append(faults, one)
	}
	return faults
}

func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	}
	if t == reflect.TypeFor[byteSize]() {
		return "a size, such as 500KB or 16MB"
	}
	return "a duration, such as 500ms, 12s or 7d"
}

func (c *config) check() (faults []error) {
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Env == "" {
		c.Env = c.NodeEnv
	}
	if c.Env == "" {
		c.Env = development
	}
	if c.Env == "test" {
		c.Env = development
	}
	if c.Env != production && c.Env != development {
		bad("KURIR_ENV: %q is neither %s nor %s", c.Env, production, development)
	}
	if c.Registration == "" {
		c.Registration = map[bool]string{true: "closed", false: "open"}[c.Env == production]
	}
	if c.Registration != "open" && c.Registration != "invite" && c.Registration != "closed" {
		bad("REGISTRATION: %q is none of open, invite, closed", c.Registration)
	}
	if c.VerifyEmail && c.Env == production && (c.SMTPHost == "" || c.PublicURL == "") {
		bad("REQUIRE_EMAIL_VERIFICATION: SMTP_HOST and PUBLIC_URL are not set, so nobody could confirm his address")
	}
	if u, err := url.Parse(c.PublicURL); c.PublicURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		bad("PUBLIC_URL: expected an http or https URL")
	}
	if !slices.Contains(api.Versions(), c.APIVersion) {
		bad("API_VERSION: %q is not served; there is %s", c.APIVersion, strings.Join(api.Versions(), ", "))
	}
	if c.BcryptRounds < 4 || c.BcryptRounds > 20 {
		bad("BCRYPT_ROUNDS: %d is not between 4 and 20", c.BcryptRounds)
	}
	if c.Env == production && c.BcryptRounds < 10 {
		bad("BCRYPT_ROUNDS: %d is too few for production, take 10 or more", c.BcryptRounds)
	}
	if c.Heartbeat <= 0 || c.LeaseTTL < 2*c.Heartbeat {
		bad("LEASE_TTL must be at least twice HEARTBEAT_INTERVAL, which must be above 0")
	}
	for name, value := range map[string]int{"RUNNER_CONCURRENCY": c.RunnerConcurrency, "DATABASE_MAX_CONNS": c.DatabaseMaxConns} {
		if value < 1 {
			bad("%s: %d is below 1", name, value)
		}
	}
	if c.SimWorkers < 0 {
		bad("SIM_WORKERS: %d is below 0", c.SimWorkers)
	}
	if err := checkOrigins(c.CORSOrigin); err != nil {
		faults = append(faults, err)
	}
	if c.MessageTTL <= 0 || c.JWTExpiresIn <= 0 {
		bad("MESSAGE_TTL and JWT_EXPIRES_IN must be above 0")
	}
	if c.SimReply != "echo" && c.SimReply != "none" {
		bad("SIM_REPLY: %q is neither echo nor none", c.SimReply)
	}
	if err := c.level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		bad("LOG_LEVEL: %q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.ShutdownDelay < 0 || c.WorkerHandOver < 0 || c.TroubleAfter <= 0 {
		bad("SHUTDOWN_DELAY and WORKER_HANDOVER must not be below 0, NETWORK_TROUBLE_AFTER must be above")
	}
	if u, err := url.Parse(c.PrometheusURL); c.PrometheusURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil) {
		bad("PROMETHEUS_URL: expected an http or https URL without a user: the dashboard's page shows it")
	}
	if u, err := url.Parse(c.ScalingURL); c.ScalingURL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		bad("SCALING_WEBHOOK_URL: expected an http or https URL")
	}
	var err error
	if c.WebhookSecret != "" {
		if c.operator, err = webhook.ParseSecret(c.WebhookSecret); err != nil {
			bad("WEBHOOK_SECRET: %w", err)
		}
	}
	faults = append(faults, c.checkBilling()...)
	faults = append(faults, c.checkTraces()...)
	if c.allow, err = egress.ParseCIDRs(c.WebhookAllow); err != nil {
		bad("WEBHOOK_ALLOW_CIDRS: %w", err)
	}
	if c.mediaAllow, err = egress.ParseCIDRs(c.MediaAllow); err != nil {
		bad("MEDIA_ALLOW_CIDRS: %w", err)
	}
	if c.proxyAllow, err = egress.ParseCIDRs(c.ProxyAllow); err != nil {
		bad("PROXY_ALLOW_CIDRS: %w", err)
	}
	if c.mediaRules, err = c.rulesOfMedia(); err != nil {
		bad("MEDIA_MAX_*: %w", err)
	}
	if c.Uploads < 1 || c.UploadsPerUser < 1 || c.UploadTimeout <= 0 {
		bad("MEDIA_UPLOADS, MEDIA_UPLOADS_PER_USER and MEDIA_UPLOAD_TIMEOUT must be above 0")
	}
	if c.MediaURL == "" {
		c.MediaURL = filepath.Join(c.Home, "media")
	}
	if c.WebhookDisableAfter < 0 {
		bad("WEBHOOK_DISABLE_AFTER must not be below 0, which is never")
	}
	for name, days := range map[string]int{"RETENTION_MESSAGES_DAYS": c.KeepMessagesDays, "RETENTION_DELIVERIES_DAYS": c.KeepDeliveriesDays,
		"RETENTION_METRICS_DAYS": c.KeepMetricsDays, "RETENTION_LOGS_DAYS": c.KeepLogsDays} {
		if days < 0 || days > mostDays {
			bad("%s: %d is not between 0, which keeps for ever, and %d", name, days, mostDays)
		}
	}
	if _, err := mail.New(c.mail(), slog.New(slog.DiscardHandler)); err != nil {
		faults = append(faults, err)
	}
	c.schedule = webhook.DefaultSchedule()
	if c.WebhookSchedule != "" {
		if c.schedule, err = webhook.ParseSchedule(c.WebhookSchedule); err != nil {
			bad("WEBHOOK_RETRY_SCHEDULE: %w", err)
		}
	}
	if c.selfTier, err = limits.ParseTier(c.SelfTier); err != nil {
		bad("SELF_SERVICE_TIER: %w", err)
	}
	c.tiers = limits.Config{
		limits.Basic: {Sessions: c.LimitSessionsBasic, MessagesPerHour: c.LimitMessagesBasic},
		limits.Pro:   {Sessions: c.LimitSessionsPro, MessagesPerHour: c.LimitMessagesPro},
		limits.Max:   {Sessions: c.LimitSessionsMax, MessagesPerHour: c.LimitMessagesMax},
	}
	if c.RatePerKey == 0 && !c.explicit["LIMIT_REQUESTS_PER_CREDENTIAL"] {
		c.RatePerKey = c.RatePerAddress
	}
	c.requests = limits.Requests{Window: time.Duration(c.RateWindow), PerAddress: c.RatePerAddress, PerCredential: c.RatePerKey,
		SessionOps: c.SessionOps, Registrations: c.Registrations, Logins: limits.Logins{Failures: c.LoginFailures, PerAddress: c.LoginsPerAddress,
			PerAccount: c.LoginsPerAccount, Delay: time.Duration(c.LoginDelay)}}
	if err := c.requests.Validate(); err != nil {
		bad("RATE_LIMIT_*, LIMIT_*: %w", err)
	}
	if c.proxies, err = egress.ParseCIDRs(strings.Join(c.TrustedProxies, ",")); err != nil {
		bad("TRUSTED_PROXIES: %w", err)
	}
	if err := c.streams().Validate(); err != nil {
		bad("LIMIT_STREAMS_*: %w", err)
	}
	if err := c.tiers.Validate(); err != nil {
		bad("LIMIT_*: %w", err)
	}
	return faults
}

// mail says how mail leaves. In development, without SMTP, it is put where it can be read.
func (c *config) mail() mail.Config {
	m := mail.Config{Host: c.SMTPHost, Port: c.SMTPPort, User: c.SMTPUser, Pass: c.SMTPPass, From: c.SMTPFrom}
	if c.Env == development {
		m.Folder = filepath.Join(c.Home, "mail")
	}
	return m
}

// linksTo is what links in mails begin with. A request's host is none to go by: whoever asks for a mail could choose it.
func (c *config) linksTo() string {
	switch {
	case c.PublicURL != "":
		return strings.TrimSuffix(c.PublicURL, "/")
	case c.Env == production:
		return ""
	case c.GatewayURL != "":
		return strings.TrimSuffix(c.GatewayURL, "/")
	}
	return fmt.Sprintf("http://localhost:%d", c.Port)
}

func (c *config) streams() limits.Streams {
	return limits.Streams{PerCredential: c.StreamsPerCredential, PerUser: c.StreamsPerUser, PerProcess: c.StreamsPerProcess}
}

// publicSecrets stand in documentation: nobody may run on them in production.
var publicSecrets = map[string]bool{"your-super-secret-jwt-key": true, "worker-secret-token": true, "webhook-secret-key": true,
	"secret": true, "changeme": true, "password": true}

const shortestSecret = 16 // bytes

// needSecrets makes sure that the named secrets are there: in development they are made and kept in KURIR_HOME, in
// production they must be given, and good.
func (c *config) needSecrets(names ...string) error {
	if c.Env == development {
		kept, err := keptSecrets(c.Home)
		if err != nil {
			return err
		}
		c.fill(kept)
	}
	return c.checkSecrets(names...)
}

// checkSecrets is needSecrets that makes none.
func (c *config) checkSecrets(names ...string) error {
	var faults []error
	given := map[string]string{"JWT_SECRET": c.JWTSecret, "ENCRYPTION_KEY": c.EncryptionKey, "WORKER_AUTH_TOKEN": c.WorkerToken}
	for _, name := range names {
		if given[name] == "" {
			faults = append(faults, fmt.Errorf("%s is not set", name))
			continue
		}
		for _, value := range several(given[name]) {
			switch {
			case value == "":
				faults = append(faults, fmt.Errorf("%s has an empty part: several are separated by one comma each", name))
			case c.Env == production && (publicSecrets[value] || len(value) < shortestSecret):
				faults = append(faults, fmt.Errorf("%s is too short or publicly known: give it %d random bytes or more, for example by: openssl rand -base64 32", name, shortestSecret))
			}
		}
	}
	if c.EncryptionKey != "" {
		var err error
		if c.encryptionKeys, err = encryptionKeys(c.EncryptionKey); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (c *config) fill(kept *secrets) {
	for field, value := range map[*string]string{&c.JWTSecret: kept.JWTSecret, &c.EncryptionKey: kept.EncryptionKey, &c.WorkerToken: kept.WorkerToken} {
		if *field == "" {
			*field = value
		}
	}
}

// need checks all that api, runner and scheduler cannot do without.
func (c *config) need() error {
	err := c.needServers()
	if err != nil && c.Env == development {
		return err // nothing is made or kept for a start that comes to nothing
	}
	return errors.Join(err, c.needSecrets("JWT_SECRET", "ENCRYPTION_KEY", "WORKER_AUTH_TOKEN"))
}

// needServers makes sure that the processes which need them are told where PostgreSQL and Redis are.
func (c *config) needServers() error {
	var faults []error
	if c.DatabaseURL == "" {
		faults = append(faults, errors.New("DATABASE_URL is not set, for example postgres://user:password@localhost:5432/kurir; only `kurir up` brings its own PostgreSQL"))
	}
	if c.RedisURL == "" {
		faults = append(faults, errors.New("REDIS_URL is not set, for example redis://localhost:6379; only `kurir up` brings its own Redis"))
	}
	return errors.Join(faults...)
}
