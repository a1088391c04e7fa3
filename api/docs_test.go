package api_test

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/webhook"
)

// refs calls f with every $ref in a document.
func refs(v any, f func(string)) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			f(ref)
		}
		for _, inner := range v {
			refs(inner, f)
		}
	case []any:
		for _, inner := range v {
			refs(inner, f)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	w := start(t)
	require.Equal(t, map[string]int{w.do("GET", "/openapi.json", nil, nil).text: 8}, parallel(8, func(int) string { return w.do("GET", "/openapi.json", nil, nil).text }))
	d := w.document()
	require.Regexp(t, `^3\.1\.`, d.all["openapi"])
	refs(d.all, func(ref string) {
		require.NotEmpty(t, d.resolve(map[string]any{"$ref": ref}), "%s leads nowhere", ref)
	})
	schemes := d.all["components"].(map[string]any)["securitySchemes"].(map[string]any)
	ids := map[string]bool{}
	for path, item := range d.all["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			o, what := raw.(map[string]any), method+" "+path
			require.False(t, ids[o["operationId"].(string)], "%s: the operationId is taken", what)
			ids[o["operationId"].(string)] = true
			require.NotEmpty(t, o["summary"], what)
			require.NotEmpty(t, o["description"], what)
			require.NotEmpty(t, o["tags"], what)
			for _, alternative := range o["security"].([]any) {
				for name := range alternative.(map[string]any) {
					require.Contains(t, schemes, name, what)
				}
			}
			declared := map[string]bool{}
			parameters, _ := o["parameters"].([]any)
			for _, p := range parameters {
				parameter := p.(map[string]any)
				if parameter["in"] == "path" {
					declared[parameter["name"].(string)] = true
					require.Equal(t, true, parameter["required"], what)
				}
			}
			for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				require.True(t, declared[name[1]], "%s does not declare %s", what, name[1])
				delete(declared, name[1])
			}
			require.Empty(t, declared, what)
			success := 0
			for status, response := range o["responses"].(map[string]any) {
				require.NotEmpty(t, response.(map[string]any)["description"], what)
				if status == "304" {
					continue
				}
				if strings.HasPrefix(status, "2") && status != "206" {
					success++
					require.NotEmpty(t, response.(map[string]any)["content"], what)
				} else if status != "206" {
					require.Contains(t, mustJSON(t, d.resolve(response.(map[string]any))), `"#/components/schemas/Failure"`, what)
				}
			}
			if responses := o["responses"].(map[string]any); responses["202"] != nil && responses["200"] != nil {
				success-- // work that is started, or done
			}
			require.Equal(t, 1, success, what)
			if body, ok := o["requestBody"].(map[string]any); ok && o["tags"].([]any)[0] != "Worker protocol" { // a worker's are ours
				if asJSON, ok := body["content"].(map[string]any)["application/json"].(map[string]any); ok {
					require.Contains(t, mustJSON(t, d.resolve(asJSON["schema"].(map[string]any))), `"examples"`, what+" has no examples")
				}
			}
		}
	}
	hooks := d.all["webhooks"].(map[string]any)
	for _, event := range []string{webhook.EventMessageReceived, webhook.EventMessageRead, webhook.EventSessionStatus, webhook.EventSessionQR, webhook.EventSessionMigrated} {
		require.Contains(t, hooks, event)
	}
	operators := []string{"billing.period_closed", "scaling.recommended"}
	for _, event := range operators {
		require.Contains(t, hooks, event)
	}
	for event := range hooks {
		if !slices.Contains(operators, event) {
			require.NoError(t, webhook.ValidEvents([]string{event}))
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

var linked = regexp.MustCompile(`(?:src|href)="([^"]+)"`)

// assets fetches what a page names, all of it from here.
func (w *world) assets(base, page string, with headers) int {
	w.Helper()
	n := 0
	at, err := url.Parse(base)
	require.NoError(w, err)
	for _, match := range linked.FindAllStringSubmatch(page, -1) {
		ref, err := at.Parse(match[1])
		require.NoError(w, err)
		require.Empty(w, ref.Host, "%s is not ours", match[1])
		a := w.do("GET", ref.Path, with, nil)
		require.Equal(w, 200, a.status, ref.Path)
		require.NotEmpty(w, a.text)
		n++
	}
	return n
}

func TestDocsPage(t *testing.T) {
	t.Parallel()
	w := start(t)
	require.Equal(t, "/docs", w.do("GET", "/", nil, nil).header.Get("Location"))
	for _, path := range []string{"/docs", "/docs/"} {
		a := w.do("GET", path, nil, nil)
		require.Equal(t, 200, a.status)
		require.Contains(t, a.header.Get("Content-Type"), "text/html")
		require.Contains(t, a.text, "/openapi.json")
		require.Contains(t, a.header.Get("Content-Security-Policy"), "script-src 'self' 'sha256-")
		require.Greater(t, w.assets("/docs/", a.text, nil), 2)
	}
	metrics := w.do("GET", "/metrics", nil, nil)
	require.Equal(t, 200, metrics.status)
	require.Contains(t, metrics.text, `route="/docs"`)
}

func (w *world) logIn(email, password string, with headers) *answer {
	w.Helper()
	form := url.Values{"email": {email}, "password": {password}}.Encode()
	return w.do("POST", "/admin/login", append(headers{"Content-Type", "application/x-www-form-urlencoded"}, with...), form)
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.worker()
	admin, user := w.administrator(), w.register("u")
	user.session("shop") // something to see
	const queues = "/admin/queues"

	a := w.do("GET", queues, headers{"Accept", "text/html,*/*"}, nil)
	require.Equal(t, []any{303, "/admin/login"}, []any{a.status, a.header.Get("Location")})
	w.do("GET", queues+"/api/queues", nil, nil).refused(401, "unauthenticated")
	page := w.do("GET", "/admin/login", nil, nil)
	require.Equal(t, 200, page.status)
	require.Contains(t, page.text, "<form")
	require.Contains(t, page.header.Get("Content-Security-Policy"), "frame-ancestors 'none'")

	require.Equal(t, 401, w.logIn(admin.email, "wrong", nil).status)
	require.Equal(t, 401, w.logIn("nobody@example.com", password, nil).status)
	require.Equal(t, 403, w.logIn(user.email, password, nil).status)
	for _, with := range []headers{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null", "Sec-Fetch-Site", "cross-site"}} {
		w.logIn(admin.email, password, with).refused(403, "forbidden")
	}
	in := w.logIn(strings.ToUpper(admin.email), password, headers{"Origin", w.url, "Sec-Fetch-Site", "same-origin"})
	require.Equal(t, []any{303, queues}, []any{in.status, in.header.Get("Location")}, in.text)
	set := in.header.Get("Set-Cookie")
	for _, attribute := range []string{"HttpOnly", "SameSite=Strict", "path=/admin/queues"} {
		require.Contains(t, set, attribute)
	}
	require.NotContains(t, set, "secure", "not on plain HTTP, where it would be lost")
	cookie, _, _ := strings.Cut(set, ";")
	with := headers{"Cookie", cookie, "Accept", "text/html"}

	home := w.do("GET", queues, with, nil)
	require.Equal(t, 200, home.status, home.text)
	require.Contains(t, home.text, "<div id=\"root\">")
	require.Greater(t, w.assets(queues+"/", home.text, with), 2)
	list := w.do("GET", queues+"/api/queues", with, nil)
	require.Equal(t, 200, list.status)
	require.Contains(t, list.text, `"control"`)
	tasks := w.do("GET", queues+"/api/queues/control/pending_tasks", with, nil)
	require.Contains(t, tasks.text, "session:create")
	for _, order := range []struct{ method, path string }{{"POST", "/api/queues/control:pause"}, {"DELETE", "/api/queues/control"}, {"DELETE", "/api/queues/control/pending_tasks:delete_all"}, {"POST", "/api/queues/control/archived_tasks:run_all"}} {
		a := w.do(order.method, queues+order.path, with, nil)
		require.GreaterOrEqual(t, a.status, 400, "%s %s: %s", order.method, order.path, a.text)
	}
	left := w.do("GET", queues+"/api/queues/control/pending_tasks", with, nil).text
	require.Contains(t, left, `"pending":1,`, "nothing should have been done")
	require.Contains(t, left, `"paused":false`)

	// A cookie is no token, and a token is no cookie; another user's neither.
	_, token, _ := strings.Cut(cookie, "=")
	w.do("GET", "/api/v1/auth/me", bearer(token), nil).refused(401, "invalid_token")
	w.do("GET", "/api/v1/auth/me", headers{"Cookie", cookie}, nil).refused(401, "unauthenticated")
	w.do("GET", queues+"/api/queues", headers{"Cookie", "kurir_queues=" + admin.token}, nil).refused(401, "unauthenticated")
	require.Equal(t, 200, w.do("GET", queues+"/api/queues", admin.auth(), nil).status)
	w.do("GET", queues+"/api/queues", user.auth(), nil).refused(403, "forbidden")
	w.do("GET", queues+"/api/queues", headers{"X-Api-Key", admin.key}, nil).refused(401, "unauthenticated")
	w.do("POST", "/api/v1/auth/logout", admin.auth(), nil).ok(200)
	w.do("GET", queues+"/api/queues", headers{"Cookie", cookie}, nil).refused(401, "unauthenticated")
}
