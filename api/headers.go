package api

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"kurir/monitoring"
)

// answerPolicy is the Content-Security-Policy of what is no page of ours: should a browser be made to show it, it loads nothing,
// runs nothing and stands in no frame.
const answerPolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// formReferrer is the Referrer-Policy of pages with a form: under no-referrer browsers would say that its Origin is null, and over
// HTTP that is all they say.
const formReferrer = "same-origin"

// secureHeaders are those of every answer that does not bring its own. HSTS speaks for our own name alone: others below it may
// not be ours.
func secureHeaders(cfg Config) map[string]string {
	if !cfg.Helmet {
		return nil
	}
	headers := map[string]string{
		"Content-Security-Policy": answerPolicy, "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Origin-Agent-Cluster": "?1",
		"Permissions-Policy": "camera=(), geolocation=(), microphone=()", "X-Permitted-Cross-Domain-Policies": "none", "X-XSS-Protection": "0",
	}
	if strings.HasPrefix(cfg.PublicURL, "https://") {
		headers["Strict-Transport-Security"] = "max-age=31536000"
	}
	return headers
}

// secured stands around everything, so that refusals which no route has seen have the headers too.
func (a *API) secured(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(r *fasthttp.RequestCtx) {
		next(r)
		a.secure(r)
	}
}

// secure adds what is missing. What the API answers may hold keys and messages, so nobody keeps it who is not told to.
func (a *API) secure(r *fasthttp.RequestCtx) {
	h := &r.Response.Header
	for name, value := range a.headers {
		if len(h.Peek(name)) == 0 {
			h.Set(name, value)
		}
	}
	if strings.HasPrefix(string(r.Path()), "/api/") && len(h.Peek("Cache-Control")) == 0 && len(h.Peek("ETag")) == 0 {
		h.Set("Cache-Control", "no-store")
	}
}

// pagePolicy lets the documentation page load what we serve, and run its own scripts, and nothing else: it works offline.
func pagePolicy(c *fiber.Ctx) error {
	if err := c.Next(); err != nil {
		return err
	}
	if strings.HasPrefix(string(c.Response().Header.ContentType()), "text/html") {
		c.Set("Content-Security-Policy", monitoring.PolicyFor(c.Response().Body()))
	}
	return nil
}

// crossOrigin finds what browsers were made to send by pages of other sites. Behind a proxy that changes the host's name it is
// PUBLIC_URL that tells our own pages, where a browser does not say by itself that they are.
func crossOrigin(publicURL string) *http.CrossOriginProtection {
	p := http.NewCrossOriginProtection()
	if u, err := url.Parse(publicURL); err == nil && u.Host != "" {
		_ = p.AddTrustedOrigin(u.Scheme + "://" + u.Host) // of this form it is one
	}
	return p
}

// ownPagesOnly guards routes that a cookie opens, and the one that sets it.
func (a *API) ownPagesOnly(c *fiber.Ctx) error {
	r := &http.Request{Method: c.Method(), Host: string(c.Request().Host()), URL: &url.URL{Path: c.Path()}, Header: http.Header{}}
	for _, name := range []string{"Origin", "Sec-Fetch-Site"} {
		if value := c.Get(name); value != "" {
			r.Header.Set(name, value)
		}
	}
	if err := a.crossOrigin.Check(r); err != nil {
		return errForbidden.WithCause(err)
	}
	c.Request().Header.Del("Origin") // the dashboard asks again, and knows no PUBLIC_URL
	return c.Next()
}

// notForOthers leaves out of CORS what pages of other sites have no business with: what belongs to operators, and our own pages.
func notForOthers(c *fiber.Ctx) bool {
	path := c.Path()
	return !strings.HasPrefix(path, "/api/") && !strings.HasPrefix(path, "/openapi") && !strings.HasPrefix(path, "/health")
}
