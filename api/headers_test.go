package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/models"
)

var secure = map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
	"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"}

// isSecured demands the headers of every answer, each once.
func (a *answer) isSecured() {
	a.t.Helper()
	for name, value := range secure {
		require.Equal(a.t, []string{value}, a.header.Values(name), name)
	}
	referrer := a.header.Values("Referrer-Policy")
	require.Len(a.t, referrer, 1)
	require.Contains(a.t, []string{"no-referrer", "same-origin"}, referrer[0])
	policy := a.header.Values("Content-Security-Policy")
	require.Len(a.t, policy, 1)
	require.NotContains(a.t, policy[0], "script-src 'unsafe-inline'")
	require.NotContains(a.t, policy[0], "unsafe-eval")
	if !strings.Contains(policy[0], "sandbox") { // media, which are shown in frames of no origin
		require.Contains(a.t, policy[0], "frame-ancestors 'none'")
	}
}

func TestEveryAnswerHasSecureHeaders(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)), func(_ *world, c *api.Config) { c.PublicURL = "https://kurir.example.com" })
	w.worker()
	u, admin := w.register("u"), w.administrator()
	u.session("shop")
	link := str(u.do("POST", "/api/v1/sessions/shop/link", u.auth(), nil).ok(201), "url")
	html := headers{"Accept", "text/html"}
	in := w.logIn(admin.email, password, nil)
	cookie, _, _ := strings.Cut(in.header.Get("Set-Cookie"), ";")
	require.Contains(t, strings.ToLower(in.header.Get("Set-Cookie")), "; secure", "where PUBLIC_URL is https")
	within := headers{"Cookie", cookie, "Accept", "text/html"}
	pages := map[string]*answer{
		"docs": w.do("GET", "/docs", html, nil), "login": w.do("GET", "/admin/login", html, nil), "refused login": w.logIn("nobody@example.com", password, nil),
		"dashboard": w.do("GET", "/admin/queues", within, nil), "link": w.do("GET", link[strings.Index(link, "/link/"):], html, nil), "no link": w.do("GET", "/link/nothing", html, nil),
		"new password": w.do("GET", models.ResetPage, html, nil), "proof of mail": w.do("GET", models.VerifyPage, html, nil),
	}
	for name, page := range pages {
		require.Contains(t, page.header.Get("Content-Type"), "text/html", name)
		page.isSecured()
		require.Contains(t, page.header.Get("Content-Security-Policy"), "base-uri 'none'", name)
	}
	for name, a := range map[string]*answer{
		"success": w.do("GET", "/api/v1/auth/me", u.auth(), nil), "refusal": w.do("GET", "/api/v1/auth/me", nil, nil), "alias": w.do("GET", "/api/auth/me", u.auth(), nil),
		"nothing": w.do("GET", "/nowhere", html, nil), "health": w.do("GET", "/health/ready", nil, nil), "metrics": w.do("GET", "/metrics", nil, nil),
		"document": w.do("GET", "/openapi.json", nil, nil), "redirect": w.do("GET", "/", html, nil), "to login": w.do("GET", "/admin/queues", html, nil), "logged in": in,
		"no method": w.do("PROPFIND", "/docs", nil, nil), "foreign method": w.do("TRACE", "/docs", nil, nil), "large": w.do("POST", "/api/v1/auth/login", nil, strings.Repeat("x", 1<<20)),
		"unreadable": w.raw("nonsense\r\n\r\n"), "large header": w.raw("GET / HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + strings.Repeat("k", 20<<10) + "\r\n\r\n"),
		"asset": w.do("GET", "/docs/swagger-ui.css", nil, nil), "stream": u.do("GET", "/api/v1/events", u.auth(), nil), "figures": w.do("GET", "/admin/queues/api/queues", within, nil),
	} {
		require.NotZero(t, a.status, name)
		a.isSecured()
		require.Equal(t, "max-age=31536000", a.header.Get("Strict-Transport-Security"), name)
	}
	require.Equal(t, "no-store", u.do("GET", "/api/v1/auth/me", u.auth(), nil).header.Get("Cache-Control"))

	plain := startOn(t, w.db, func(_ *world, c *api.Config) { c.PublicURL = "http://kurir.example.com" })
	require.Empty(t, plain.do("GET", "/health/live", nil, nil).header.Get("Strict-Transport-Security"), "over HTTP it would mean nothing")
	off := startOn(t, w.db, func(_ *world, c *api.Config) { c.Helmet = false })
	require.Empty(t, off.do("GET", "/health/live", nil, nil).header.Get("X-Frame-Options"))
	require.Contains(t, off.do("GET", "/admin/login", nil, nil).header.Get("Content-Security-Policy"), "frame-ancestors 'none'", "pages keep theirs")
}

// What a browser lets pages of other sites do follows from these headers alone.
func TestOriginsThatMayCall(t *testing.T) {
	t.Parallel()
	const ours, second, foreign = "https://app.example.com", "http://localhost:3000", "https://evil.example"
	w := start(t, withRedis(embeddedtest.Redis(t)), func(_ *world, c *api.Config) { c.CORSOrigin = ours + ", " + second })
	u := w.register("u")
	ticket := str(u.do("POST", "/api/v1/events/ticket", u.auth(), nil).ok(201), "ticket")
	const allowed = "Access-Control-Allow-Origin"
	preflight := func(origin, path, method string) *answer {
		return w.do("OPTIONS", path, headers{"Origin", origin, "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "x-api-key,x-evil"}, nil)
	}
	for _, origin := range []string{ours, second} {
		for _, a := range []*answer{preflight(origin, "/api/v1/sessions", "POST"), w.do("GET", "/api/v1/auth/me", append(u.auth(), "Origin", origin), nil), w.do("GET", "/api/v1/auth/me", headers{"Origin", origin}, nil)} {
			require.Equal(t, []string{origin}, a.header.Values(allowed))
			require.Contains(t, a.header.Get("Vary"), "Origin")
			require.Empty(t, a.header.Get("Access-Control-Allow-Credentials"), "cookies are not for the API")
		}
	}
	a := preflight(ours, "/api/v1/sessions", "DELETE")
	require.Equal(t, http.StatusNoContent, a.status)
	require.Equal(t, "600", a.header.Get("Access-Control-Max-Age"))
	require.NotContains(t, a.header.Get("Access-Control-Allow-Headers"), "evil", "what is asked for is not what is allowed")
	require.NotContains(t, a.header.Get("Access-Control-Allow-Methods"), "TRACE")

	stream := w.do("GET", "/api/v1/events?ticket="+ticket, headers{"Origin", ours, "Accept", "text/event-stream"}, nil)
	require.Equal(t, []any{200, ours}, []any{stream.status, stream.header.Get(allowed)})
	for _, origin := range []string{foreign, "null", ours + ".evil.example", "https://evilapp.example.com", "http://app.example.com", ours + ":8443", "https://sub.app.example.com", "*", " ", ours + "," + foreign} {
		for _, a := range []*answer{preflight(origin, "/api/v1/sessions", "POST"), w.do("GET", "/api/v1/auth/me", append(u.auth(), "Origin", origin), nil)} {
			require.Empty(t, a.header.Values(allowed), origin)
			require.Contains(t, a.header.Get("Vary"), "Origin", "else a cache would tell the others the same")
		}
	}
	require.Contains(t, w.do("GET", "/api/v1/auth/me", u.auth(), nil).header.Get("Vary"), "Origin")

	open := startOn(t, w.db) // CORS_ORIGIN=*
	for _, path := range []string{"/admin/queues", "/admin/login", "/metrics", "/link/x", "/docs"} {
		require.Empty(t, open.do("GET", path, headers{"Origin", foreign}, nil).header.Values(allowed), path)
	}
	a = open.do("GET", "/api/v1/auth/me", append(u.auth(), "Origin", foreign), nil)
	require.Equal(t, "*", a.header.Get(allowed))
	require.Empty(t, a.header.Get("Access-Control-Allow-Credentials"))
	require.NotEmpty(t, open.do("GET", "/api/v1/auth/me", append(u.auth(), "Origin", foreign), nil).header.Get("Access-Control-Expose-Headers"))
}

// A page of another site has the administrator's browser send what it likes, with his cookie; this is what Kurir sees of it.
func TestOrdersOfOtherSitesAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)), func(_ *world, c *api.Config) {
		c.AsynqmonWritable, c.PublicURL = true, "https://kurir.example.com"
	})
	w.worker()
	admin, u := w.administrator(), w.register("u")
	u.session("shop") // a task to see
	cookie, _, _ := strings.Cut(w.logIn(admin.email, password, nil).header.Get("Set-Cookie"), ";")
	const queues = "/admin/queues/api/queues"
	forged := []headers{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, {"Origin", w.url, "Sec-Fetch-Site", "cross-site"},
		{"Origin", "https://evil.example/" + strings.TrimPrefix(w.url, "http://")}, {"Origin", w.url + ".evil.example"}}
	orders := []struct{ method, path string }{{"POST", "/control:pause"}, {"DELETE", "/control"}, {"DELETE", "/control/pending_tasks:delete_all"},
		{"POST", "/control/archived_tasks:run_all"}, {"POST", "/control/pending_tasks:archive_all"}}
	for _, with := range forged {
		for _, o := range orders {
			w.do(o.method, queues+o.path, append(headers{"Cookie", cookie}, with...), nil).refused(403, "forbidden")
		}
		w.logIn(admin.email, password, with).refused(403, "forbidden")
		for _, page := range []string{models.ResetPage, models.VerifyPage} {
			w.do("POST", page, append(headers{"Content-Type", "application/x-www-form-urlencoded"}, with...), "token=kum_x").refused(403, "forbidden")
		}
	}
	for _, o := range orders { // a link or a picture can make GETs alone, from anywhere
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			w.do(method, queues+o.path, headers{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, nil)
			w.do(method, queues+o.path+"?_method="+o.method, headers{"Cookie", cookie, "X-HTTP-Method-Override", o.method}, nil)
		}
	}
	left := w.do("GET", queues+"/control/pending_tasks", headers{"Cookie", cookie}, nil).text
	require.Contains(t, left, `"pending":1,`)
	require.Contains(t, left, `"paused":false`)
	require.Empty(t, w.do("GET", "/admin/login?email="+admin.email+"&password=x", nil, nil).header.Get("Set-Cookie"))

	// The page itself, a program that is no browser, and the page behind a proxy that changes the host's name.
	for i, with := range []headers{{"Origin", w.url, "Sec-Fetch-Site", "same-origin"}, {}, {"Origin", "https://kurir.example.com"}} {
		order, paused := []string{"pause", "resume"}[i%2], []string{"true", "false"}[i%2]
		a := w.do("POST", queues+"/control:"+order, append(headers{"Cookie", cookie}, with...), nil)
		require.Less(t, a.status, 300, a.text)
		require.Contains(t, w.do("GET", queues+"/control/pending_tasks", headers{"Cookie", cookie}, nil).text, `"paused":`+paused)
	}
}
