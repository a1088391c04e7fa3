package api

import (
	"context"
	_ "embed"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/adaptor"
	"github.com/swaggest/swgui"
	"github.com/swaggest/swgui/v5emb"

	"kurir/fault"
	"kurir/models"
	"kurir/monitoring"
)

const (
	queuesPath   = "/admin/queues"
	loginPath    = "/admin/login"
	queuesCookie = "kurir_queues"
	queuesLogin  = 12 * time.Hour
)

// systemRoutes are those at the root: health, metrics, documentation, dashboard.
func (a *API) systemRoutes() {
	a.app.Get("/", func(c *fiber.Ctx) error { return c.Redirect("/docs", http.StatusFound) })
	a.app.Get("/health", a.health)
	a.app.Get("/health/live", func(c *fiber.Ctx) error {
		return c.JSON(map[string]any{"success": true, "status": "ok", "data": map[string]string{"status": "ok"}})
	})
	a.app.Get("/health/ready", func(c *fiber.Ctx) error {
		if a.leaving.Load() {
			f := failureOf(errLeaving, requestIDOf(c.UserContext()))
			c.Set("Retry-After", f.GetHeaders().Get("Retry-After"))
			return c.Status(f.status).JSON(f)
		}
		return a.health(c)
	})
	if a.cfg.Metrics {
		a.app.Get("/metrics", a.fromHTTP(a.metrics.Handler()))
	}

	docs := v5emb.NewHandlerWithConfig(swgui.Config{Title: "Kurir", SwaggerJSON: "/openapi.json", BasePath: "/docs",
		HideCurl: false, JsonEditor: false, SettingsUI: map[string]string{"defaultModelsExpandDepth": "0", "docExpansion": "'list'", "tryItOutEnabled": "true"}})
	a.app.Use("/docs", pagePolicy, a.fromHTTP(docs))

	a.linkRoutes()
	a.accountPages()

	a.app.Get(loginPath, a.loginPage)
	a.app.Post(loginPath, a.ownPagesOnly, a.loginForm)
	a.app.Use(queuesPath, a.ownPagesOnly, a.queuesOnly, a.fromHTTP(a.dashboard))
}

// fromHTTP serves a net/http handler. The request gets a context of its own: fasthttp's reads a field of the server that
// its Shutdown writes, which is a race wherever somebody waits for that context.
func (a *API) fromHTTP(h http.Handler) fiber.Handler {
	return adaptor.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Timeouts.Request)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	}))
}

// HealthData is how this process and what it needs are.
type HealthData struct {
	monitoring.Report
	Version string `json:"version"`
	Uptime  int64  `json:"uptime"` // seconds
}

// readinessKept is how long a report is good for others who ask.
const readinessKept = time.Second

// readiness lets all who ask within a second have one report: nobody counts those who ask, and each report asks the database.
type readiness struct {
	checks []monitoring.Check

	mu     sync.Mutex // held while the checks run, which takes 2 s at most
	report monitoring.Report
	until  time.Time
}

func (r *readiness) ask() monitoring.Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().After(r.until) {
		r.report = monitoring.Ready(context.Background(), r.checks) // for others too: not of one request
		r.until = time.Now().Add(readinessKept)
	}
	return r.report
}

func (a *API) health(c *fiber.Ctx) error {
	report := a.readiness.ask()
	answer := map[string]any{"success": report.Ready(), "status": report.Status,
		"data": HealthData{Report: report, Version: a.cfg.Version, Uptime: int64(time.Since(a.started).Seconds())}}
	if !report.Ready() {
		f := failureOf(errNotReady, requestIDOf(c.UserContext()))
		answer["error"], answer["code"], answer["requestId"] = f.Sentence, f.Code, f.RequestID
		c.Status(f.status).Set("Retry-After", f.GetHeaders().Get("Retry-After"))
	}
	return c.JSON(answer)
}

var errNotReady = fault.New(fault.Unavailable, "not_ready", "Something that we need is down; data.checks says what.").After(2 * time.Second)

var errLeaving = fault.New(fault.Unavailable, "shutting_down", "This process is about to stop. Ask another one.").After(time.Second)

// queuesOnly lets administrators through: by the cookie of the login page, or by a token.
func (a *API) queuesOnly(c *fiber.Ctx) error {
	token, audience := c.Cookies(queuesCookie), audienceQueues
	if bearer := bearerOf(c.Get("Authorization")); bearer != "" {
		token, audience = bearer, audienceAPI
	}
	if token != "" {
		p, err := a.byToken(c.UserContext(), token, audience)
		if err == nil && p.user.Role == models.RoleAdministrator {
			return a.changeQueues(c, p.user)
		}
		if err == nil {
			return errForbidden
		}
		if fault.Of(err) != fault.Unauthenticated {
			return err
		}
	}
	if c.Method() == http.MethodGet && strings.Contains(c.Get("Accept"), "text/html") {
		return c.Redirect(loginPath, http.StatusSeeOther)
	}
	return a.refusedCaller(c.UserContext(), errNoCredential)
}

//go:embed login.html
var loginHTML string

var loginTemplate = template.Must(template.New("login").Parse(loginHTML))

func (a *API) loginPage(c *fiber.Ctx) error { return showLogin(c, http.StatusOK, "") }

func showLogin(c *fiber.Ctx, status int, message string) error {
	c.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	c.Set("Cache-Control", "no-store")
	c.Set("Referrer-Policy", formReferrer)
	c.Type("html", "utf-8").Status(status)
	return loginTemplate.Execute(c.Response().BodyWriter(), map[string]string{"Message": message, "Action": loginPath})
}

// What a form for logging in may hold, in bytes; as of LoginInput.
const (
	maxEmail = 254
	maxPlain = 1000
)

// loginForm sets the cookie.
func (a *API) loginForm(c *fiber.Ctx) error {
	email, plain := c.FormValue("email"), c.FormValue("password")
	if len(email) > maxEmail || len(plain) > maxPlain || strings.ContainsRune(email, 0) || !utf8.ValidString(email) { // nobody's
		return showLogin(c, http.StatusUnauthorized, errLogin.Sentence)
	}
	u, err := a.checkPassword(c.UserContext(), email, plain)
	switch {
	case fault.Of(err) == fault.Unauthenticated && err != nil:
		return showLogin(c, http.StatusUnauthorized, errLogin.Sentence)
	case err != nil:
		return err
	case u.Role != models.RoleAdministrator:
		return showLogin(c, http.StatusForbidden, "Only administrators may see the queues.")
	}
	token, err := a.newToken(u, audienceQueues, queuesLogin, time.Now())
	if err != nil {
		return err
	}
	c.Cookie(&fiber.Cookie{Name: queuesCookie, Value: token, Path: queuesPath, HTTPOnly: true, SameSite: fiber.CookieSameSiteStrictMode,
		Secure: c.Protocol() == "https" || strings.HasPrefix(a.cfg.PublicURL, "https://"), MaxAge: int(queuesLogin.Seconds())})
	a.auditQueues(c, u, "queues.logged_in", nil)
	return c.Redirect(queuesPath, http.StatusSeeOther)
}
