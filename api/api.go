// Package api is Kurir's public HTTP API on Fiber and huma: all routes stand in routes.go, request and response types
// beside their handlers. A handler parses, authorises, calls and responds; rules and SQL live elsewhere. OpenAPI and the
// documentation page are made from the same types.
package api

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/danielgtaylor/huma/v2/validation"
	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"kurir/egress"
	"kurir/fault"
	"kurir/jobs"
	"kurir/limits"
	"kurir/media"
	"kurir/models"
	"kurir/monitoring"
	"kurir/tracing"
	"kurir/turns"
	"kurir/wire"
)

// Config is what the API needs to know.
type Config struct {
	Version          string
	APIVersion       string // that /api without one stands for; the latest if empty
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
	CallTimeout      time.Duration // for a worker to answer what is passed on to it; 10 s if 0
	ShutdownDelay    time.Duration // between "not ready" and the end of accepting, for balancers to notice
	AsynqmonWritable bool
	PrometheusURL    string // which the queues' dashboard draws charts from; empty: it has none
	PublicURL        string
	InternalPort     int            // 0: worker routes, metrics and the dashboard are on the public port
	TrustedProxies   []netip.Prefix // only from these X-Forwarded-For is read
	ProxyAllow       []netip.Prefix // private networks where sessions' proxies may be all the same
	Metrics          bool           // serve /metrics

	Media        *media.Store   // stays the caller's to close
	Fetcher      *media.Fetcher // knows which URLs will be fetched
	Uploads      UploadLimits   // zero: DefaultUploadLimits
	Streams      StreamConfig
	Requests     limits.Requests // zero: DefaultRequests
	LimitTimeout time.Duration   // that Redis is waited for to count; 400 ms if 0
	// LimitReached is told that a user has reached a limit of his tier (limits.OfMessages, limits.OfSessions), once an hour for
	// each. It may take its time.
	LimitReached       func(ctx context.Context, user *models.User, limit string)
	KeepMessagesDays   int // retention, 0: for ever
	KeepDeliveriesDays int
	Timeouts           Timeouts // zero: DefaultTimeouts

	MoreJWTSecrets           [][]byte  // verify tokens too, and sign none
	MoreWorkerTokens         []string  // let workers in too
	RequireEmailVerification bool      // of accounts that are opened from now on
	Settings                 []Setting // the whole environment, for administrators

	Traces *tracing.Tracer // nil: there are none
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
	http        *http.Client // to endpoints that are not known to be workers'
	guard       *egress.Guard
	proxies     *egress.Guard // says where sessions' proxies may be
	accepter    *models.Accepter
	credentials *credentials
	tokenKeys   tokenKeys
	waiter      *waiter
	hub         *hub
	exports     exports
	hashing     chan struct{}       // bounds bcrypt, which would otherwise take every core
	turns       turns.Turns[string] // of passwords of one account
	noPassword  func() []byte       // is compared with when there is no such user, so that the answer takes as long
	uploads     *uploads
	intakes     *uploads // of workers: no tenant takes their places
	limiter     *limiting
	readings    *readings    // of workers' metrics
	delayed     atomic.Int64 // logins that are made to wait
	meter       *meter
	dashboard   *monitoring.Dashboard
	headers     map[string]string // of all answers
	crossOrigin *http.CrossOriginProtection
	readiness   readiness
	started     time.Time
	running     atomic.Int64 // requests
	leaving     atomic.Bool
	endBeat     context.CancelFunc

	app        *fiber.App
	huma       huma.API
	background context.Context // of what runs beside requests; stop ends it
	stop       context.CancelFunc
	done       sync.WaitGroup
}

// bodyLimit is that of a request in memory: the longest text with every character escaped fits.
const bodyLimit = 900 << 10

// New makes the API. What it is given stays the caller's to close.
func New(cfg Config, db *models.DB, client redis.UniversalClient, vault *models.Vault, guard *egress.Guard,
	metrics *monitoring.Metrics, checks []monitoring.Check, log *slog.Logger) *API {
	if cfg.Timeouts == (Timeouts{}) {
		cfg.Timeouts = DefaultTimeouts()
	}
	queue := jobs.NewQueue(client, log)
	if cfg.APIVersion == "" {
		cfg.APIVersion = apiVersions[len(apiVersions)-1].name
	}
	if cfg.Requests == (limits.Requests{}) {
		cfg.Requests = limits.DefaultRequests()
	}
	a := &API{limiter: newLimiter(client, cfg.LimitTimeout, metrics, log), readings: newReadings(), cfg: cfg, db: db, vault: vault, log: log, metrics: metrics, queue: queue, waker: jobs.NewWaker(queue, log, metrics),
		workers: jobs.NewWorkers(db, vault), http: wire.NewHTTPClient(), guard: guard, proxies: egress.NewGuard(cfg.ProxyAllow), credentials: newCredentials(db, log), waiter: newWaiter(db),
		hashing: make(chan struct{}, 2), noPassword: sync.OnceValue(func() []byte { return hashOfNothing(cfg.BcryptRounds) }),
		readiness: readiness{checks: checks}, started: time.Now(),
		uploads: newUploads(cfg.Uploads), intakes: newUploads(cfg.Uploads)}
	a.tokenKeys = newTokenKeys(append([][]byte{cfg.JWTSecret}, cfg.MoreJWTSecrets...))
	a.accepter = models.NewAccepter(db.Pool, log, func(lanes []models.Woken, batch int) {
		metrics.AcceptBatch(batch)
		metrics.Messages("accepted", batch)
		a.waker.Messages(lanes...)
	})
	for _, path := range []string{"/auth/register", "/sessions"} { // what alerts ask for
		metrics.KnownRoute(http.MethodPost, basePath+path)
	}
	metrics.KnownFailures(serverFailures()...)
	a.dashboard = jobs.Dashboard(client, queuesPath, !cfg.AsynqmonWritable, cfg.PrometheusURL)

	a.meter = newMeter(func(ctx context.Context, process uuid.UUID, batch int64, hits []models.Hits) error {
		return models.CountHits(ctx, db, process, batch, hits)
	}, metrics, log)

	background, stop := context.WithCancel(context.Background())
	a.background, a.stop = background, stop
	a.hub = newHub(background, cfg.Streams, db, metrics, log)
	a.done.Go(func() {
		models.WatchCredentials(background, db, log, func(user uuid.UUID) {
			a.credentials.changed(user)
			a.hub.credentialsChanged()
		})
	})
	beating, endBeat := context.WithCancel(background)
	a.endBeat = endBeat
	a.done.Go(func() { a.beat(beating) })
	a.done.Go(func() { a.meter.run(background) })

	a.app = fiber.New(fiber.Config{
		AppName: "Kurir", DisableStartupMessage: true, Immutable: true, BodyLimit: bodyLimit, StreamRequestBody: true, ErrorHandler: a.fiberError,
		ReadTimeout: cfg.Timeouts.Read, IdleTimeout: cfg.Timeouts.Idle, ReadBufferSize: 16 << 10,
		CaseSensitive: true, DisablePreParseMultipartForm: true,
		EnableTrustedProxyCheck: true, TrustedProxies: texts(cfg.TrustedProxies), // for X-Forwarded-Proto; addresses are clientOf's
	})
	a.headers, a.crossOrigin = secureHeaders(cfg), crossOrigin(cfg.PublicURL)
	a.app.Server().Handler = a.secured(a.bodies(a.knownMethods(a.app.Server().Handler)))
	a.app.Server().ConnState = endOfAnswer
	a.middleware()
	a.systemRoutes()
	ourHuma()
	a.huma = humafiber.New(a.app, a.openAPI())
	a.huma.UseMiddleware(warn, a.bodiesInMemory, a.authenticate, a.metered, a.limitRequests, a.knownParameters, a.intake, a.unambiguous, a.idempotent, a.audited)
	a.routes()
	a.completeDocument()
	a.serveOpenAPI()
	return a
}

// ourHuma makes huma write our form of a failure, and look at names as they are written: a field in another case would pass its
// checks unseen and reach the handler all the same. And a list is a list, never null, where its type does not say so. huma keeps
// these in variables of its package, so they are set once.
var ourHuma = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true
	huma.DefaultArrayNullable = false
	huma.NewErrorWithContext = validationFailure
	validation.MsgExpectedRFC3339DateTime = expectedTime
	validation.MsgExpectedRFC4122UUID = "expected a UUID as in RFC 9562: %v"
	huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
		return validationFailure(nil, status, message, errs...)
	}
})

// Listen serves until Shutdown.
func (a *API) Listen(l net.Listener) error { return a.app.Listener(patientListener{l, a.cfg.Timeouts}) }

// Shutdown first says that it is no longer ready, and asks clients to close their connections, while it goes on serving for
// ShutdownDelay: a balancer that looks at /health/ready loses no request. Then it stops accepting, lets running requests
// end, and ends what runs beside them.
func (a *API) Shutdown(ctx context.Context) error {
	a.leaving.Store(true)
	select {
	case <-time.After(a.cfg.ShutdownDelay):
	case <-ctx.Done():
	}
	a.endBeat()
	close(a.waiter.stop)
	a.hub.close()
	err := a.drain(ctx)
	a.accepter.Close()
	a.waker.Close()
	a.stop()
	a.done.Wait()
	return err
}

// drain waits for running requests. fasthttp would also wait for connections on which no request ever came, as
// clients keep them in stock: those are given up as soon as nothing runs.
func (a *API) drain(ctx context.Context) error {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	closed := make(chan error, 1)
	go func() { closed <- a.app.ShutdownWithContext(ctx) }()
	quiet := time.NewTicker(250 * time.Millisecond)
	defer quiet.Stop()
	for {
		select {
		case err := <-closed:
			if a.running.Load() == 0 {
				return nil
			}
			return err
		case <-quiet.C:
			if a.running.Load() == 0 {
				giveUp()
			}
		}
	}
}

func texts(prefixes []netip.Prefix) []string {
	list := make([]string, len(prefixes))
	for i, p := range prefixes {
		list[i] = p.String()
	}
	return list
}

// requestInfo is what is known of a request, for its one log line.
type requestInfo struct {
	id      string
	user    uuid.UUID
	address netip.Addr // the client's
	rates   []rate     // what it was counted against
	session uuid.UUID  // that it is about
	failure string     // the code of its failure
	span    tracing.Span
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

// middleware is what every request passes, from the outside in. alias is the first because it begins anew.
func (a *API) middleware() {
	a.app.Use("/api", a.alias)
	a.app.Use(a.observe)
	if a.cfg.CORSOrigin != "" {
		a.app.Use(cors.New(cors.Config{Next: notForOthers, AllowOrigins: a.cfg.CORSOrigin, AllowHeaders: "Authorization, Content-Type, X-Api-Key, Idempotency-Key, Last-Event-ID, Prefer, Traceparent, Tracestate, X-Request-Id",
			ExposeHeaders: "Location, Retry-After, X-Request-Id, Idempotency-Replayed, Preference-Applied, " + deprecationHeaders + ", " + rateHeaders, MaxAge: 600}))
	}
	a.app.Use(knownVersions)
	a.app.Use(a.internalOnly)
	a.app.Use(a.limitPages)
	a.app.Use(a.refuseBody)
}

// knownMethods answers methods that Fiber does not know; it would do so itself, but not in our form.
func (a *API) knownMethods(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	known := map[string]bool{}
	for _, method := range fiber.DefaultMethods {
		known[method] = true
	}
	return func(r *fasthttp.RequestCtx) {
		if known[string(r.Method())] {
			next(r)
			return
		}
		a.refuse(r, fiber.ErrMethodNotAllowed)
	}
}

// observe names the request, gives it a deadline, catches panics, and writes the one line and the metrics.
func (a *API) observe(c *fiber.Ctx) (err error) {
	started := time.Now()
	a.running.Add(1)
	defer a.running.Add(-1)
	a.metrics.RequestsRunning(1)
	defer a.metrics.RequestsRunning(-1)
	info := &requestInfo{id: requestIDFor(c), address: a.clientOf(c)}
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), requestInfoKey{}, info), a.cfg.Timeouts.Request)
	defer cancel()
	ctx, info.span = a.traced(ctx, c)
	defer info.span.End()
	c.SetUserContext(ctx)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if err != nil {
			err = a.fiberError(c, err)
		}
		setRates(c, info.rates)
		took, status, route := time.Since(started), c.Response().StatusCode(), c.Route().Path
		if (status == http.StatusNotFound || status == http.StatusMethodNotAllowed) && route == "/" {
			route = noRoute
		}
		a.record(c, info, route, took)
		if a.leaving.Load() {
			c.Context().SetConnectionClose()
		}
	}()
	return c.Next()
}

// noRoute stands in logs and metrics for requests that reached no route.
const noRoute = "(none)"

// record writes a request's one line, and counts it. Path, query and headers are not in it: they may hold keys.
func (a *API) record(c *fiber.Ctx, info *requestInfo, route string, took time.Duration) {
	status, level := c.Response().StatusCode(), slog.LevelInfo
	switch {
	case strings.HasPrefix(route, "/health"): // asked every second, and a 503 is an answer
		level = slog.LevelDebug
	case status == http.StatusInternalServerError:
		level = slog.LevelError
	case status > http.StatusNotImplemented: // a worker or a server of ours; its cause is logged where it is known
		level = slog.LevelWarn
	}
	method := c.Method()
	if method == "" {
		method = "(unknown)"
	}
	waited := len(c.Response().Header.Peek("Preference-Applied")) > 0
	a.metrics.Request(method, route, status, took, waited)
	if status >= 500 && !strings.HasPrefix(route, "/health") {
		a.metrics.RequestFailed(cmp.Or(info.failure, "internal"))
	}
	attrs := []slog.Attr{slog.String("requestId", info.id), slog.String("method", method), slog.String("route", route),
		slog.Int("status", status), slog.Duration("took", took), slog.String("ip", info.address.String())}
	if info.user != uuid.Nil {
		attrs = append(attrs, slog.String("user", info.user.String()))
	}
	if trace := info.span.TraceID(); trace != "" {
		attrs = append(attrs, slog.String("traceId", trace))
	}
	info.tell(method, route, status)
	a.log.LogAttrs(c.UserContext(), level, "request", attrs...)
}

// requestIDFor takes the client's name for the request, or makes one, and puts it on the answer.
func requestIDFor(c *fiber.Ctx) string {
	id := c.Get("X-Request-Id")
	if !plainToken(id) {
		id = models.NewID().String()
	}
	c.Set("X-Request-Id", id)
	return id
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
	path = strings.TrimRight(path, "/") // as Fiber does when it looks for the route
	if path == "/metrics" || strings.HasPrefix(path, "/admin/") {
		return true
	}
	rest, ok := strings.CutPrefix(path, basePath+"/admin/workers/")
	if !ok {
		return false
	}
	return rest == "register" || strings.Contains(rest, "/media") || method == http.MethodPut && strings.HasSuffix(rest, "/heartbeat") ||
		method == http.MethodPost && strings.HasSuffix(rest, "/events")
}

var errNUL = fault.New(fault.Invalid, "invalid_request", "Text may not contain the character NUL (\\u0000).")

// refuseBody turns away compressed bodies, which a few bytes could make huge, and the one character that JSON can carry
// and PostgreSQL can't store. Worker events are exempt: what comes from the network is stored as far as it can be.
func (a *API) refuseBody(c *fiber.Ctx) error {
	if encoding := c.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return fiber.ErrUnsupportedMediaType
	}
	if incomingOf(c) != nil {
		return c.Next() // intake looks at what is left of it
	}
	if body := c.Request().Body(); bytes.Contains(body, []byte(`\u0000`)) && !strings.HasSuffix(c.Path(), "/events") && hasNUL(body) {
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

// fiberError writes what Fiber itself or a middleware refused. A request that could not be read comes here without
// having passed observe.
func (a *API) fiberError(c *fiber.Ctx, err error) error {
	if _, observed := c.UserContext().Value(requestInfoKey{}).(*requestInfo); !observed {
		info := &requestInfo{id: requestIDFor(c), address: a.clientOf(c)}
		c.SetUserContext(context.WithValue(context.Background(), requestInfoKey{}, info))
		a.secure(c.Context())
		awaitRest(c.Context().Conn())
		defer func() { a.record(c, info, noRoute, 0) }()
	}
	f := a.failure(c.UserContext(), err)
	for name, values := range f.GetHeaders() {
		c.Set(name, values[0])
	}
	return c.Status(f.status).JSON(f)
}

// failure maps an error and logs the cause of those that are ours.
func (a *API) failure(ctx context.Context, err error) *Failure {
	err = late(ctx, err)
	f := failureOf(err, requestIDOf(ctx))
	if info, ok := ctx.Value(requestInfoKey{}).(*requestInfo); ok {
		info.failure = f.Code
	}
	if f.status >= 500 && f.status != http.StatusNotImplemented { // what an engine cannot do is no fault of ours
		a.log.ErrorContext(ctx, "request failed", "requestId", f.RequestID, "code", f.Code, "error", err)
	}
	return f
}

// writeError answers from a middleware.
func (a *API) writeError(ctx huma.Context, err error) {
	f := a.failure(ctx.Context(), err)
	for name, values := range f.GetHeaders() {
		ctx.SetHeader(name, values[0])
	}
	_ = huma.WriteErr(a.huma, ctx, f.status, "", f)
}
