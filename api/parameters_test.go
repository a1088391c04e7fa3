package api_test

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
)

// field is what a refusal says of a field, "" if nothing.
func (a *answer) field(name string) string {
	a.t.Helper()
	details, _ := a.body["details"].([]any)
	for _, d := range details {
		if detail := d.(map[string]any); detail["field"] == name {
			return str(detail, "message")
		}
	}
	return ""
}

// A parameter that an operation does not have is refused, whichever the operation, before anything is done.
func TestUnknownParametersAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	admin := w.administrator()
	admin.connected("shop")
	before, n := w.rows(), 0
	for _, r := range routesDescribed() {
		workers := strings.HasPrefix(r.path, "/api/v1/admin/workers/") &&
			(strings.HasSuffix(r.path, "/register") || strings.HasSuffix(r.path, "/heartbeat") || strings.HasSuffix(r.path, "/events") || strings.Contains(r.path, "/media"))
		if workers {
			continue
		}
		n++
		path := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(r.path, "x")
		a := admin.do(r.method, path+"?surprise=1", admin.auth(), nil).refused(422, "invalid_request")
		require.Contains(t, a.field("surprise"), "there is no such parameter", "%s %s", r.method, r.path)
	}
	require.Greater(t, n, 100)
	w.unchanged(before, "a parameter that is not known")

	a := admin.do("GET", "/api/v1/sessions/shop/messages?statuss=sent&Limit=5&limit=5", admin.auth(), nil).refused(422, "invalid_request")
	require.Contains(t, a.field("statuss"), "this address takes limit, cursor, direction, status")
	require.NotEmpty(t, a.field("Limit"), "in another case it is another one")
	require.Empty(t, a.field("limit"))
	a = admin.do("GET", "/api/v1/sessions/shop/messages?status=sent&status=failed", admin.auth(), nil).refused(422, "invalid_request")
	require.Contains(t, a.field("status"), "twice")
	admin.do("GET", "/api/sessions/shop/messages?statuss=sent", admin.auth(), nil).refused(422, "invalid_request") // the alias
	many := ""
	for i := range 2000 {
		many += "&" + strings.Repeat(string(rune('a'+i%26)), i%300+1)
	}
	admin.do("GET", "/api/v1/sessions?"+many[:12_000], admin.auth(), nil).refused(422, "invalid_request")
	admin.do("GET", "/api/v1/sessions?%00%ff%22=%ff", admin.auth(), nil).refused(422, "invalid_request")
	admin.do("GET", "/api/v1/sessions?&&", admin.auth(), nil).ok(200)
	admin.do("GET", "/api/v1/sessions?surprise=1", nil, nil).refused(401, "unauthenticated") // nobody learns what there is
}

// Probes append what they like, and a worker may be newer than its gateway.
func TestParametersThatArePassedOver(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, path := range []string{"/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs", "/admin/login"} {
		require.Less(t, w.do("GET", path+"?probe=1&probe=2", nil, nil).status, 400, path)
	}
	w.do("POST", "/api/v1/admin/workers/register?since=v9", bearer(workerToken),
		map[string]any{"workerId": "w9", "endpoint": "http://127.0.0.1:9/", "maxSessions": 1, "version": "v9", "engine": "simulator"}).ok(200)
}

// Credentials in the address are no unknown parameters, where they may stand there.
func TestCredentialsInTheAddressAreKnown(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	w.do("GET", "/api/v1/sessions?limit=1&apiKey="+u.key, nil, nil).ok(200)
	w.do("POST", "/api/v1/sessions/shop/stop?apiKey="+u.key, u.auth(), nil).refused(422, "invalid_request")
	w.do("GET", "/api/v1/sessions?ticket=x", u.auth(), nil).refused(422, "invalid_request")
	w.follow(shopEvents+"?ticket="+u.ticket(shopEvents, u.auth()), nil).ready()
	closed := startOn(t, w.db, func(_ *world, c *api.Config) { c.AllowQueryAPIKey = false })
	a := closed.do("GET", "/api/v1/sessions?apiKey="+u.key, u.auth(), nil).refused(422, "invalid_request")
	require.NotContains(t, a.text, u.key)
}

// Two credentials in one request are never taken for one: whose would count is nothing to guess.
func TestCredentialsThatContradictEachOther(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, v := w.register("u"), w.register("v")
	session, other := u.session("shop"), u.session("branch")
	const me = "/api/v1/users/me"
	both := func(key string, with headers) headers { return append(headers{"X-Api-Key", key}, with...) }
	w.do("GET", me, both(u.key, v.auth()), nil).refused(401, "unauthenticated")
	w.do("GET", me, both(u.key, bearer(v.key)), nil).refused(401, "unauthenticated")
	w.do("GET", me+"?apiKey="+v.key, u.auth(), nil).refused(401, "unauthenticated")
	w.do("GET", me+"?apiKey="+v.key, bearer(u.key), nil).refused(401, "unauthenticated")
	w.do("GET", "/api/v1/sessions/shop", both(session, bearer(other)), nil).refused(401, "unauthenticated")
	w.do("GET", me, both(u.key, bearer("a.b.c")), nil).refused(401, "invalid_token")
	w.do("GET", me, both("kur_wrong", u.auth()), nil).refused(401, "invalid_api_key")

	w.do("GET", me, both(u.key, bearer(u.key)), nil).ok(200)
	w.do("GET", me+"?apiKey="+u.key, bearer(u.key), nil).ok(200)
	w.do("GET", me, both(u.key, u.auth()), nil).ok(200)
	w.do("GET", me, both(session, u.auth()), nil).refused(403, "forbidden") // the key counts
}

// Words of filters and of what administrators set are taken as the database writes them, too.
func TestWordsInAnyCase(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	admin := w.administrator()
	u := w.register("u")
	u.connected("shop")
	made := admin.do("POST", "/api/v1/admin/users", admin.auth(), map[string]any{"email": "pro@example.com", "tier": "PRO", "role": "User"}).ok(201)["user"].(map[string]any)
	require.Equal(t, []any{"pro", "user"}, fields(made, "tier", "role"))
	user := "/api/v1/admin/users/" + str(made, "id")
	changed := admin.do("PATCH", user, admin.auth(), map[string]any{"tier": "Max", "role": "ADMINISTRATOR"}).ok(200)["user"].(map[string]any)
	require.Equal(t, []any{"max", "administrator"}, fields(changed, "tier", "role"))
	for field, wrong := range map[string]string{"tier": "GOLD", "role": "root"} {
		for _, value := range []string{wrong, ""} {
			require.NotEmpty(t, admin.do("PATCH", user, admin.auth(), map[string]any{field: value}).refused(422, "invalid_request").field(field))
		}
		require.NotEmpty(t, admin.do("POST", "/api/v1/admin/users", admin.auth(), map[string]any{"email": "x@example.com", field: wrong}).refused(422, "invalid_request").field(field))
	}
	emails := func(query string) (list []string) {
		for _, row := range admin.do("GET", "/api/v1/admin/users?sort=Email&"+query, admin.auth(), nil).ok(200)["users"].([]any) {
			list = append(list, str(row.(map[string]any), "email"))
		}
		return list
	}
	require.Equal(t, []string{"pro@example.com", "u@example.com"}, slices.DeleteFunc(emails("tier=MAX"), func(e string) bool { return e == admin.email }))
	require.Equal(t, []string{"u@example.com"}, emails("role=USER&tier=Max&active=TRUE"))
	require.Len(t, admin.do("GET", "/api/v1/admin/sessions?status=CONNECTED", admin.auth(), nil).ok(200)["sessions"], 1)
	admin.do("GET", "/api/v1/admin/logs?level=INFO&actor=ADMINISTRATOR", admin.auth(), nil).ok(200)
	admin.do("GET", "/api/v1/admin/analytics/messages?range=24H", admin.auth(), nil).refused(422, "invalid_request") // no word
	require.Contains(t, admin.do("GET", "/api/v1/admin/users?tier=gold", admin.auth(), nil).refused(422, "invalid_request").field("tier"), "basic, pro, max")
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "hi")).ok(202)
	require.Len(t, u.do("GET", "/api/v1/sessions/shop/messages?status=FAILED,Pending", u.auth(), nil).ok(200)["messages"], 1)
	data := w.do("POST", "/api/v1/auth/register", nil, map[string]any{"email": "any@example.com", "password": password, "tier": "Pro"}).ok(201)
	require.Equal(t, "pro", data["user"].(map[string]any)["tier"])
}

// What is wrong is told in words for people who write to the API, not for those who wrote it.
func TestWordsOfRefusals(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	admin := w.administrator()
	admin.connected("shop")
	const aTime = "expected an RFC 3339 time such as 2026-01-31T12:00:00Z"
	for _, wrong := range []string{"yesterday", "2026-01-31", "1700000000"} {
		for path, name := range map[string]string{"/sessions/shop/messages": "since", "/admin/logs": "until"} {
			a := admin.do("GET", "/api/v1"+path+"?"+name+"="+url.QueryEscape(wrong), admin.auth(), nil).refused(422, "invalid_request")
			require.Equal(t, aTime, a.field(name), "%s of %s", wrong, path)
		}
		a := admin.do("POST", "/api/v1/sessions/shop/send", admin.auth(), map[string]any{"to": "6281234567890", "message": "x", "sendAt": wrong}).refused(422, "invalid_request")
		require.Equal(t, aTime, a.field("sendAt"))
	}
	a := admin.do("GET", "/api/v1/admin/logs?user=x", admin.auth(), nil).refused(422, "invalid_request")
	require.Contains(t, a.field("user"), "RFC 9562")
	a = admin.do("POST", "/api/v1/admin/users", admin.auth(), map[string]any{"email": admin.email}).refused(409, "email_taken")
	require.NotContains(t, a.text, "Log in")
	a = w.do("POST", "/api/v1/auth/register", nil, map[string]any{"email": admin.email, "password": password}).refused(409, "email_taken")
	require.Contains(t, a.text, "Log in")
}

// A text of white space shows nothing.
func TestTextsOfWhiteSpace(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	pending := str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "hi")).ok(202), "messageId")
	sent := str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "sent")).ok(202), "messageId")
	w.exec(`UPDATE messages SET status = 'SENT', sent_at = now() WHERE id = $1`, sent)
	before := w.rows()
	for _, blank := range []string{" ", "\n\t ", "\u00a0", "\u2003\u3000"} {
		require.NotEmpty(t, u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", blank)).refused(422, "invalid_request").field("message"), "%q", blank)
		u.do("POST", "/api/v1/sessions/shop/messages/batch", u.auth(), map[string]any{"messages": []any{text("6281234567890", "x"), text("6281234567890", blank)}}).refused(422, "invalid_request")
		for _, id := range []string{pending, sent} {
			require.NotEmpty(t, u.do("POST", "/api/v1/messages/"+id+"/edit", u.auth(), map[string]any{"message": blank}).refused(422, "invalid_request").field("message"), "%q", blank)
		}
	}
	w.unchanged(before, "a text of white space")
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", " hi ")).ok(202)
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), map[string]any{"to": "6281234567890", "type": "image", "mediaUrl": "https://example.com/x.png", "caption": ""}).ok(202)
	require.Equal(t, "hi", u.do("GET", "/api/v1/messages/"+pending, u.auth(), nil).ok(200)["message"])
}

// A month that was never counted was never closed.
func TestAMonthBeforeTheFirstIsNotClosed(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	closed := func(month string) any {
		return admin.do("GET", "/api/v1/admin/usage?month="+month, admin.auth(), nil).ok(200)["closed"]
	}
	require.Equal(t, false, closed("2020-01"))
	w.exec(`INSERT INTO billing_periods (month, id, users, messages, api_hits) VALUES ('2020-02-01', gen_random_uuid(), 0, 0, 0)`)
	require.Equal(t, true, closed("2020-02"))
	require.Equal(t, false, closed("2020-01"))
}
