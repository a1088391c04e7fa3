package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/egress"
	"kurir/embedded/embeddedtest"
	"kurir/jobs"
	"kurir/limits"
	"kurir/mail"
	"kurir/media"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
	"kurir/tracing"
	"kurir/webhook"
	"kurir/worker"
	"kurir/worker/simulator"
	"kurir/worker/simulator/simnet"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

const (
	patience    = 20 * time.Second
	workerToken = "the-token-of-all-workers"
	password    = "correct horse battery"
)

var jwtSecret = []byte("a secret of thirty-two bytes ...")

// world is an API process on a database of its own, and what a test needs around it.
type world struct {
	testing.TB
	url   string
	db    *models.DB
	redis redis.UniversalClient
	vault *models.Vault
	media *media.Store
	box   string         // a folder that the runner puts mail into
	hooks []netip.Prefix // where webhooks may lead besides the internet
	log   *lines
	scan  time.Duration // that phones have to scan a QR code; 0: as long as WhatsApp's
	made  func(*api.API)
	stop  func(context.Context) error // once

	traces map[string]*tracing.Tracer // of runner and worker; nil: none
}

type setting func(w *world, c *api.Config)

// allowLoopback lets webhooks lead to this machine.
func allowLoopback(w *world, _ *api.Config) {
	w.hooks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

// generous is for tests that are not about limits: they log in and ask from one address as often as they like.
var generous = limits.Requests{Window: 15 * time.Minute, PerAddress: 1e6, PerCredential: 1e6, SessionOps: 1e6, Registrations: 1e6,
	Logins: limits.Logins{Failures: 1e6, PerAddress: 1e6, PerAccount: 1e6}}

// start runs an API on a fresh database, for a test that runs beside others: those that measure memory, or change what all share,
// do not call t.Parallel. It has no Redis, which it works without, until withRedis gives it one.
func start(t testing.TB, settings ...setting) *world {
	t.Helper()
	return startOn(t, modelstest.DB(t), settings...)
}

var noRedis = redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})

func withRedis(url string) setting {
	return func(w *world, _ *api.Config) {
		o, err := redis.ParseURL(url)
		require.NoError(w, err)
		o.DialTimeout, o.ContextTimeoutEnabled = time.Second, true
		client := redis.NewClient(o)
		w.redis = client
		w.Cleanup(func() { _ = client.Close() })
	}
}

func startOn(t testing.TB, db *models.DB, settings ...setting) *world {
	t.Helper()
	w := &world{TB: t, db: db, redis: noRedis, log: &lines{}}
	var err error
	w.vault, err = models.NewVault(bytes.Repeat([]byte("k"), 32))
	require.NoError(t, err)
	cfg := api.Config{Version: "test", JWTSecret: jwtSecret, JWTLifetime: time.Hour, BcryptRounds: 4, WorkerToken: workerToken,
		SelfServiceTier: limits.Pro, Tiers: limits.Default(), Registration: "open", AllowQueryAPIKey: true, CORSOrigin: "*", Helmet: true,
		MessageTTL: 24 * time.Hour, LeaseTTL: 12 * time.Second, Heartbeat: 100 * time.Millisecond, Metrics: true,
		Requests: generous, LimitTimeout: patience}
	for _, set := range settings {
		set(w, &cfg)
	}
	if cfg.Media == nil {
		cfg.Media, err = media.Open(context.Background(), media.Config{URL: t.TempDir()}, db, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		t.Cleanup(func() { _ = cfg.Media.Close() })
	}
	w.media, cfg.Fetcher = cfg.Media, media.NewFetcher(cfg.Media, egress.NewGuard(w.hooks), media.FetchConfig{})
	checks := []monitoring.Check{
		{Name: "postgres", Func: func(ctx context.Context) error {
			_, err := db.Pool.Exec(ctx, "SELECT 1 FROM users LIMIT 1")
			return err
		}},
		{Name: "redis", Func: func(ctx context.Context) error { return w.redis.Ping(ctx).Err() }, Optional: true},
	}
	a := api.New(cfg, db, w.redis, w.vault, egress.NewGuard(w.hooks), monitoring.New("test"), checks,
		slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if w.made != nil {
		w.made(a)
	}
	w.url = w.serve(a.Listen)
	ended := false
	w.stop = func(ctx context.Context) error {
		if ended {
			return nil
		}
		ended = true
		return a.Shutdown(ctx)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = w.stop(ctx)
	})
	return w
}

// in is the world for a subtest.
func (w *world) in(t testing.TB) *world {
	c := *w
	c.TB = t
	return &c
}

func (w *world) serve(listen func(net.Listener) error) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(w, err)
	go func() { _ = listen(l) }()
	return "http://" + l.Addr().String()
}

// lines is a log that can be read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// answer is what came back.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	text   string
	body   map[string]any
	closes bool // the connection
}

// client gives up later than the API.
var client = &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// headers are those of a request, name and value in turn.
type headers []string

func bearer(token string) headers { return headers{"Authorization", "Bearer " + token} }

// do sends a request. The body is sent as it is if it is a string, else as JSON.
func (w *world) do(method, path string, with headers, body any) *answer {
	w.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		require.NoError(w, err)
		reader = bytes.NewReader(raw)
	}
	r, err := http.NewRequest(method, w.url+path, reader)
	require.NoError(w, err)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(with); i += 2 {
		r.Header.Set(with[i], with[i+1])
	}
	resp, err := client.Do(r)
	require.NoError(w, err, "%s %s", method, path)
	a := read(w, resp)
	a.isDescribed(method, path)
	return a
}

func read(t testing.TB, resp *http.Response) *answer {
	t.Helper()
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") { // it has no end
		return &answer{t: t, status: resp.StatusCode, header: resp.Header, closes: resp.Close}
	}
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	a := &answer{t: t, status: resp.StatusCode, header: resp.Header, text: string(text), closes: resp.Close}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		require.NoError(t, json.Unmarshal(text, &a.body), "not JSON: %.300s", text)
	}
	return a
}

// ok demands a success of the given status and returns its data.
func (a *answer) ok(status int) map[string]any {
	a.t.Helper()
	require.Equal(a.t, status, a.status, a.text)
	require.Equal(a.t, true, a.body["success"], a.text)
	data, _ := a.body["data"].(map[string]any)
	require.NotNil(a.t, data, a.text)
	return data
}

// refused demands a failure with the given status and code, in the one form that failures have.
func (a *answer) refused(status int, code string) *answer {
	a.t.Helper()
	require.Equal(a.t, status, a.status, a.text)
	require.Equal(a.t, code, a.body["code"], a.text)
	a.isFailure()
	return a
}

// leaks are words that only our inside knows.
var leaks = []string{"goroutine ", ".go:", "SQLSTATE", "pq:", "pgx", "sql:", "json:", "Go struct", "invalid character", "panic", "ERROR:", "bcrypt", "redis:",
	"dial tcp", "context deadline", "unmarshal", "strconv.", "parsing time", "huma", "runtime error"}

// longFailure is longer than any failure is, in bytes.
const longFailure = 8 << 10

func (a *answer) isFailure() {
	a.t.Helper()
	require.Equal(a.t, "application/json", a.header.Get("Content-Type"), a.text)
	require.Equal(a.t, false, a.body["success"], a.text)
	for _, field := range []string{"error", "code", "requestId"} {
		text, _ := a.body[field].(string)
		require.NotEmpty(a.t, text, "%s of %s", field, a.text)
	}
	require.Equal(a.t, a.header.Get("X-Request-Id"), a.body["requestId"])
	require.Regexp(a.t, `^[a-z][a-z0-9_]*$`, a.body["code"])
	for field := range a.body {
		require.Contains(a.t, []string{"success", "error", "code", "requestId", "details"}, field)
	}
	for _, word := range leaks {
		require.NotContains(a.t, a.text, word)
	}
	require.Less(a.t, len(a.text), longFailure, "a failure should be short: %.300s", a.text)
	if a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests {
		require.NotEmpty(a.t, a.header.Get("Retry-After"), a.text)
	}
}

// str is a field of data that is a text.
func str(data map[string]any, field string) string {
	s, _ := data[field].(string)
	return s
}

// tenant is an account with its credentials.
type tenant struct {
	*world
	id, email, token, key string
}

func (t *tenant) auth() headers { return bearer(t.token) }

// register opens an account. The tier MAX is given by hand.
func (w *world) register(name string) *tenant {
	w.Helper()
	data := w.do("POST", "/api/v1/auth/register", nil, map[string]any{"email": name + "@example.com", "password": password}).ok(201)
	u := &tenant{world: w, email: name + "@example.com", token: str(data, "token"), key: str(data, "apiKey"), id: str(data["user"].(map[string]any), "id")}
	w.exec(`UPDATE users SET tier = 'MAX' WHERE email = $1`, u.email)
	return u
}

// administrator makes an administrator.
func (w *world) administrator() *tenant {
	w.Helper()
	u := w.register("admin")
	w.exec(`UPDATE users SET role = 'ADMINISTRATOR' WHERE email = $1`, u.email)
	require.Eventually(w, func() bool { return w.do("GET", "/api/v1/admin/workers", u.auth(), nil).status == 200 }, patience, time.Millisecond)
	return u
}

// worker adds a worker that nobody can reach, but that has room.
func (w *world) worker() { modelstest.Worker(w, w.db, "w1", 1000) }

// session makes a session and returns its key.
func (t *tenant) session(id string) string {
	t.Helper()
	return str(t.do("POST", "/api/v1/sessions", t.auth(), map[string]any{"name": id, "sessionId": id}).ok(202), "apiKey")
}

// connected makes a session that its worker says is connected.
func (t *tenant) connected(id string) string {
	t.Helper()
	key := t.session(id)
	t.exec(`UPDATE sessions SET status = 'CONNECTED', phone_number = '+6281111111111', linked_at = now() WHERE id = $1`, id)
	t.exec(`UPDATE lanes SET open = true WHERE id IN (SELECT uid FROM sessions WHERE id = $1 AND deleted_at IS NULL)`, id)
	return key
}

func text(to, message string) map[string]any { return map[string]any{"to": to, "message": message} }

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	_, err := w.db.Pool.Exec(context.Background(), sql, args...)
	require.NoError(w, err)
}

func (w *world) count(from string, args ...any) int64 {
	w.Helper()
	return modelstest.Scalar[int64](w, w.db, "SELECT count(*) FROM "+from, args...)
}

// rows counts what a request can make, by table.
func (w *world) rows() map[string]int64 {
	w.Helper()
	counts := map[string]int64{}
	for _, table := range []string{"users", "sessions", "api_keys", "messages", "lanes", "jobs", "webhooks", "webhook_deliveries", "events", "workers", "worker_metrics", "idempotency_keys", "media"} {
		counts[table] = w.count(table)
	}
	counts["revocations"] = modelstest.Scalar[int64](w, w.db, "SELECT coalesce(sum(token_version), 0)::bigint FROM users")
	counts["rotations"] = modelstest.Scalar[int64](w, w.db, "SELECT coalesce(sum(secret_version), 0)::bigint FROM api_keys")
	counts["inactive keys"] = w.count("api_keys WHERE NOT is_active")
	counts["deleted"] = w.count("sessions WHERE deleted_at IS NOT NULL")
	counts["cancelled"] = w.count("messages WHERE status = 'CANCELLED'")
	counts["terms"] = modelstest.Scalar[int64](w, w.db, "SELECT coalesce(sum(term), 0)::bigint FROM workers")
	return counts
}

func (w *world) unchanged(before map[string]int64, format string, args ...any) {
	w.Helper()
	if after := w.rows(); !maps.Equal(before, after) {
		w.Fatalf("%s changed the database from %v to %v", fmt.Sprintf(format, args...), before, after)
	}
}

// runner runs jobs until the end of the test.
func (w *world) runner() {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	hooks := webhook.NewClient(webhook.ClientConfig{AllowCIDRs: w.hooks})
	mailer, err := mail.New(mail.Config{Folder: w.box}, slog.New(slog.DiscardHandler))
	require.NoError(w, err)
	r := jobs.NewRunner(jobs.Config{Concurrency: 8, Schedule: webhook.DefaultSchedule(), TroubleAfter: time.Minute, Mailer: mailer, PublicURL: w.url, Media: w.media, Traces: w.traces["runner"]}, w.db, w.db, w.redis, w.vault, hooks, monitoring.New("test"), slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.Errorf("runner: %v", err)
		}
		hooks.Close()
	})
}

// clockwork has the periodic jobs run that others wait for, until the end of the test.
func (w *world) clockwork() {
	w.Helper()
	queue := jobs.NewQueue(w.redis, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		every := time.NewTicker(100 * time.Millisecond)
		defer every.Stop()
		for {
			for _, kind := range []string{jobs.KindSweep, jobs.KindLeases, jobs.KindReconcile} {
				_ = queue.Tick(ctx, kind, time.Now()) // once a second: its ID holds the second
			}
			select {
			case <-every.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	w.Cleanup(func() { cancel(); <-ended })
}

// phones runs a worker node on the simulated network, and returns the network's URL.
func (w *world) phones(cfg simnet.Config) string {
	w.Helper()
	return w.fleet(cfg, "node")
}

// fleet runs worker nodes on one simulated network, and returns the network's URL.
func (w *world) fleet(cfg simnet.Config, ids ...string) string {
	w.Helper()
	quiet := slog.New(slog.DiscardHandler)
	cfg.Logger = quiet
	network, err := simnet.New(cfg)
	require.NoError(w, err)
	server := httptest.NewServer(network.Handler())
	w.Cleanup(func() { server.Close(); _ = network.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	w.Cleanup(func() { cancel(); running.Wait() }) // all at once: there is nobody to hand over to
	for _, id := range ids {
		engine := simulator.New(simulator.Config{SimnetURL: server.URL, WorkerID: id, BackoffMin: 10 * time.Millisecond, QRTimeout: w.scan})
		node := worker.New(worker.Config{GatewayURL: w.url, Token: workerToken, ID: id, Logger: quiet, Traces: w.traces["worker"],
			Usage: func(context.Context) worker.Usage { return worker.Usage{} }}, engine)
		running.Go(func() {
			if err := node.Run(ctx); err != nil {
				w.Errorf("worker node %s: %v", id, err)
			}
			_ = engine.Close()
		})
		require.Eventually(w, func() bool { return w.count("workers WHERE id = $1", id) == 1 }, patience, 5*time.Millisecond)
	}
	return server.URL
}

// eventually asks until the answer has what the condition wants.
func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	require.Eventually(w, ok, patience, 5*time.Millisecond, what)
}

// relay is a way to a server that a test can cut.
type relay struct {
	t       testing.TB
	address string // of ours
	target  string

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

// relayed returns the URL with the way to its host led through a relay.
func relayed(t testing.TB, raw string) (string, *relay) {
	t.Helper()
	u, err := url.Parse(raw)
	require.NoError(t, err)
	r := &relay{t: t, target: u.Host, address: "127.0.0.1:0"}
	r.mend()
	t.Cleanup(r.cut)
	u.Host = r.address
	return u.String(), r
}

func (r *relay) mend() {
	l, err := net.Listen("tcp", r.address)
	require.NoError(r.t, err)
	r.mu.Lock()
	r.listener, r.address = l, l.Addr().String()
	r.mu.Unlock()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", r.target)
			if err != nil {
				_ = in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.listener.Close()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns = nil
}

// parallel runs f n times at once and counts its results.
func parallel[T comparable](n int, f func(i int) T) map[T]int {
	results := make([]T, n)
	var group sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-gate
			results[i] = f(i)
		})
	}
	close(gate)
	group.Wait()
	counts := map[T]int{}
	for _, r := range results {
		counts[r]++
	}
	return counts
}

func (t *tenant) patch(worker string, fields map[string]any) *answer {
	t.Helper()
	return t.do("PATCH", workersPath+"/"+worker, t.auth(), fields)
}
