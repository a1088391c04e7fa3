// Package api is Kurir's public HTTP API on Fiber and huma: all routes stand in routes.go, request and response types
// beside their handlers. A handler parses, authorises, calls and responds; rules and SQL live elsewhere. OpenAPI and the
// documentation page are made from the same types.
package api

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/gofiber/fiber/v2/middleware/helmet"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"kurir/fault"
	"kurir/jobs"
	"kurir/limits"
	"kurir/models"
	"kurir/monitoring"
	"kurir/webhook"
)

// Config is what the API needs to know.
type Config struct {
	Version          string
	JWTSecret        []byte
	JWTLifetime      time.Duration
	BcryptRounds     int
	WorkerToken      string
	SelfServiceTier  limits.Tier
	Tiers            limits.Config
	Registration     string // open, invite or closed
	AllowQueryAPIKey bool
	CORSOrigin       string
	Helmet           bool
	MessageTTL       time.Duration
	LeaseTTL         time.Duration
	Heartbeat        time.Duration
	AsynqmonWritable bool
	PublicURL        string
	InternalPort     int // 0: worker routes, metrics and the dashboard are on the public port
	TrustedProxies   []string
	Metrics          bool // serve /metrics
}

// API serves requests. It holds nothing that another API process needs.
type API struct {
	cfg         Config
	db          *models.DB
	vault       *models.Vault
	log         *slog.Logger
	metrics     *monitoring.Metrics
	queue       *jobs.Queue
	waker       *jobs.Waker
	workers     *jobs.Workers
	guard       *webhook.Guard
	accepter    *models.Accepter
	credentials *credentials
	waiter      *waiter
	hashing     chan struct{} // bounds bcrypt, which would otherwise take every core
	dashboard   *monitoring.Dashboard
	checks      []monitoring.Check
	started     time.Time

	app  *fiber.App
	huma huma.API
	stop context.CancelFunc
	done sync.WaitGroup
}

// Limits of requests.
const (
	bodyLimit      = 900 << 10 // the longest text with every character escaped fits
	requestTimeout = 45 * time.Second
)

// New makes the API. What it is given stays the caller's to close.
func New(cfg Config, db *models.DB, client redis.UniversalClient, vault *models.Vault, guard *webhook.Guard,
	metrics *monitoring.Metrics, checks []monitoring.Check, log *slog.Logger) *API {
	queue := jobs.NewQueue(client, log)
	a := &API{cfg: cfg, db: db, vault: vault, log: log, metrics: metrics, queue: queue, waker: jobs.NewWaker(queue, log, metrics),
		workers: jobs.NewWorkers(db, vault), guard: guard, credentials: newCredentials(db, log), waiter: newWaiter(db),
		hashing: make(chan struct{}, 2), checks: checks, started: time.Now()}
	a.accepter = models.NewAccepter(db.Pool, log, func(lanes []uuid.UUID, batch int) {
		metrics.AcceptBatch(batch)
		metrics.Messages("accepted", batch)
		a.waker.Messages(lanes...)
	})
	a.dashboard = jobs.Dashboard(client, queuesPath, !cfg.AsynqmonWritable)

	background, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.done.Go(func() { models.WatchCredentials(background, db, log, a.credentials.changed) })

	a.app = fiber.New(fiber.Config{
		AppName: "Kurir", DisableStartupMessage: true, Immutable: true, BodyLimit: bodyLimit, ErrorHandler: a.fiberError,
		ReadTimeout: 30 * time.Second, IdleTimeout: 120 * time.Second, ReadBufferSize: 16 << 10, StrictRouting: false,
		EnableTrustedProxyCheck: len(cfg.TrustedProxies) > 0, TrustedProxies: cfg.TrustedProxies, ProxyHeader: proxyHeader(cfg),
	})
	a.middleware()
	a.systemRoutes()
	a.huma = humafiber.New(a.app, a.openAPI())
	huma.NewErrorWithContext = validationFailure
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return validationFailure(nil, status, message, errs...)
	}
	a.huma.UseMiddleware(a.authenticate, a.idempotent)
	a.routes()
	a.describeWebhooks()
	a.app.Use(func(*fiber.Ctx) error { return fiber.ErrNotFound })
	return a
}

// Listen serves until Shutdown.
func (a *API) Listen(l net.Listener) error { return a.app.Listener(l) }

// Shutdown stops accepting, lets running requests end, and ends what runs beside them.
func (a *API) Shutdown(ctx context.Context) error {
	close(a.waiter.stop)
	err := a.app.ShutdownWithContext(ctx)
	a.accepter.Close()
	a.waker.Close()
	a.stop()
	a.done.Wait()
	return err
}

// proxyHeader names the client's address only where proxies are trusted: anybody can send the header.
func proxyHeader(cfg Config) string {
	if len(cfg.TrustedProxies) > 0 {
		return fiber.HeaderXForwardedFor
	}
	return ""
}

// requestInfo is what is known of a request, for its one log line.
type requestInfo struct {
	id   string
	user uuid.UUID
}

type requestInfoKey struct{}

func requestIDOf(ctx context.Context) string {
	if info, ok := ctx.Value(requestInfoKey{}).(*requestInfo); ok {
		return info.id
	}
	return ""
}

func setLogUser(ctx context.Context, user uuid.UUID) {
	if info, ok := ctx.Value(requestInfoKey{}).(*requestInfo); ok {
		info.user = user
	}
}

// middleware is what every request passes, from the outside in.
func (a *API) middleware() {
	a.app.Use(a.observe)
	if a.cfg.Helmet {
		a.app.Use(helmet.New(helmet.Config{ReferrerPolicy: "no-referrer", CrossOriginEmbedderPolicy: "unsafe-none"}))
	}
	if a.cfg.CORSOrigin != "" {
		a.app.Use(cors.New(cors.Config{AllowOrigins: a.cfg.CORSOrigin, AllowHeaders: "Authorization, Content-Type, X-Api-Key, Idempotency-Key, Prefer, X-Request-Id",
			ExposeHeaders: "Location, Retry-After, X-Request-Id, Idempotency-Replayed, Preference-Applied", MaxAge: 600}))
	}
	a.app.Use("/api", a.version)
	a.app.Use(a.internalOnly)
	a.app.Use(a.refuseNUL)
}

// observe names the request, gives it a deadline, catches panics, and writes the one line and the metrics.
func (a *API) observe(c *fiber.Ctx) (err error) {
	started := time.Now()
	info := &requestInfo{id: c.Get("X-Request-Id")}
	if !plainToken(info.id) {
		info.id = models.NewID().String()
	}
	c.Set("X-Request-Id", info.id)
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), requestInfoKey{}, info), requestTimeout)
	defer cancel()
	c.SetUserContext(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		if err != nil {
			err = a.fiberError(c, err)
		}
		took, status, route := time.Since(started), c.Response().StatusCode(), c.Route().Path
		if status == http.StatusNotFound && (route == "/" || route == "/api") {
			route = "(none)"
		}
		a.metrics.Request(c.Method(), route, status, took)
		level := slog.LevelInfo
		if status >= 500 {
			level = slog.LevelError
		}
		attrs := []slog.Attr{slog.String("requestId", info.id), slog.String("method", c.Method()), slog.String("route", route),
			slog.Int("status", status), slog.Duration("took", took), slog.String("ip", c.IP())}
		if info.user != uuid.Nil {
			attrs = append(attrs, slog.String("user", info.user.String()))
		}
		a.log.LogAttrs(ctx, level, "request", attrs...)
	}()
	return c.Next()
}

// plainToken keeps a client's request ID fit for headers and logs.
func plainToken(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.:", r))
	}) < 0
}

const basePath = "/api/v1"

// version serves /api/... as the alias of the present version.
func (a *API) version(c *fiber.Ctx) error {
	path := c.Path()
	if path == basePath || strings.HasPrefix(path, basePath+"/") {
		return c.Next()
	}
	c.Path(basePath + strings.TrimPrefix(path, "/api"))
	return c.RestartRouting()
}

// internalOnly keeps what operators and workers use off the public port, where they have a port of their own.
func (a *API) internalOnly(c *fiber.Ctx) error {
	if a.cfg.InternalPort == 0 {
		return c.Next()
	}
	_, port, _ := net.SplitHostPort(c.Context().LocalAddr().String())
	internal := port == strconv.Itoa(a.cfg.InternalPort)
	if isInternal(c.Method(), c.Path()) != internal && !strings.HasPrefix(c.Path(), "/health") {
		return fiber.ErrNotFound
	}
	return c.Next()
}

func isInternal(method, path string) bool {
	if path == "/metrics" || strings.HasPrefix(path, "/admin/") {
		return true
	}
	rest, ok := strings.CutPrefix(path, basePath+"/admin/workers/")
	if !ok {
		return false
	}
	return rest == "register" || method == http.MethodPut && strings.HasSuffix(rest, "/heartbeat") ||
		method == http.MethodPost && strings.HasSuffix(rest, "/events")
}

var errNUL = fault.New(fault.Invalid, "invalid_request", "Text may not contain the character NUL (\\u0000).")

// refuseNUL turns away the one character that JSON can carry and PostgreSQL can't store. Worker events are exempt:
// what comes from the network is stored as far as it can be.
func (a *API) refuseNUL(c *fiber.Ctx) error {
	if body := c.Body(); bytes.Contains(body, []byte(`\u0000`)) && !strings.HasSuffix(c.Path(), "/events") && hasNUL(body) {
		return errNUL
	}
	return c.Next()
}

// hasNUL finds \u0000 whose backslash is not itself escaped.
func hasNUL(body []byte) bool {
	for i := 0; ; {
		at := bytes.Index(body[i:], []byte(`\u0000`))
		if at < 0 {
			return false
		}
		at += i
		slashes := 0
		for at-slashes > 0 && body[at-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return true
		}
		i = at + 1
	}
}

// fiberError writes what Fiber itself or a middleware refused.
func (a *API) fiberError(c *fiber.Ctx, err error) error {
	id := ""
	if info, ok := c.UserContext().Value(requestInfoKey{}).(*requestInfo); ok {
		id = info.id
	}
	f := a.failure(c.UserContext(), err)
	f.RequestID = id
	for name, values := range f.GetHeaders() {
		c.Set(name, values[0])
	}
	return c.Status(f.status).JSON(f)
}

// failure maps an error and logs the cause of those that are ours.
func (a *API) failure(ctx context.Context, err error) *Failure {
	f := failureOf(err, requestIDOf(ctx))
	if f.status >= 500 {
		a.log.ErrorContext(ctx, "request failed", "requestId", f.RequestID, "code", f.Code, "error", err)
	}
	return f
}

// writeError answers from a middleware.
func (a *API) writeError(ctx huma.Context, err error) {
	_ = huma.WriteErr(a.huma, ctx, http.StatusInternalServerError, "", a.failure(ctx.Context(), err))
	for name, values := range a.failure(ctx.Context(), err).GetHeaders() {
		ctx.SetHeader(name, values[0])
	}
}
