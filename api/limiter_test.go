package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/limits"
)

// strict are limits that a test can reach.
func strict(change func(r *limits.Requests)) setting {
	return func(_ *world, c *api.Config) {
		c.Requests = generous
		change(&c.Requests)
	}
}

// behind says that requests come through a proxy on this machine, so that a test can choose where from.
func behind(_ *world, c *api.Config) {
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

func from(address string) headers { return headers{"X-Forwarded-For", address} }

const mePath = "/api/v1/auth/me"

// Requests without a credential, or with a bad one, count by address at all processes together; those with a good one by it.
func TestRequestLimits(t *testing.T) {
	t.Parallel()
	worlds := fleetOf(t, 3, behind, strict(func(r *limits.Requests) { r.PerAddress, r.PerCredential, r.SessionOps = 20, 30, 5 }))
	w := worlds[0]
	w.worker()
	owner := w.register("u")
	second := owner.newKey(nil, "manage").secret
	u := func(i int, method, path string, address string) *answer {
		return owner.at(worlds[i%3]).do(method, path, append(owner.auth(), from(address)...), nil)
	}

	// Guessing keys: after 20 of them there is no difference between a wrong one and the next.
	guess := func(i int, address string) *answer {
		with := []headers{{"X-Api-Key", "kur_" + strconv.Itoa(i)}, bearer("a.b.c"), bearer("kus_x"), nil, bearer(workerToken)}[i%5]
		return worlds[i%3].do("GET", mePath, append(append(headers{}, with...), from(address)...), nil)
	}
	require.Equal(t, map[int]int{401: 20, 429: 40}, parallel(60, func(i int) int { return guess(i, "203.0.113.7").status }))
	a := guess(0, "203.0.113.7").refused(429, "address_limit")
	require.Equal(t, "Too many requests from this address: without a valid credential it has 20 per 15 minutes.", a.body["error"])
	require.Equal(t, `"address";q=20;w=900`, a.header.Get("RateLimit-Policy"))
	require.Regexp(t, `^"address";r=0;t=\d+$`, a.header.Get("RateLimit"))
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	require.NoError(t, err)
	require.Greater(t, wait, 890)
	require.LessOrEqual(t, wait, 960)
	guess(0, "203.0.113.8").refused(401, "invalid_api_key")
	for _, path := range []string{"/docs", "/openapi.json", "/nothing", "/admin/login", "/link/x"} {
		require.Equal(t, 429, w.do("GET", path, from("203.0.113.7"), nil).status, path)
		require.NotEqual(t, 429, w.do("GET", path, from("203.0.113.9"), nil).status, path)
	}
	w.do("POST", "/api/v1/auth/login", from("203.0.113.7"), map[string]any{"email": owner.email, "password": password}).refused(429, "address_limit")
	for _, path := range []string{"/health", "/health/live", "/health/ready", "/metrics"} {
		require.Equal(t, 200, w.do("GET", path, from("203.0.113.7"), nil).status, "%s is exempt", path)
	}
	heartbeat := w.do("PUT", "/api/v1/admin/workers/w1/heartbeat", append(bearer(workerToken), from("203.0.113.7")...), map[string]any{})
	require.NotEqual(t, 429, heartbeat.status, "workers are exempt")
	require.Empty(t, heartbeat.header.Get("RateLimit"))
	w.do("PUT", "/api/v1/admin/workers/w1/heartbeat", append(bearer("wrong"), from("203.0.113.7")...), map[string]any{}).refused(429, "address_limit")

	// A good credential has its own limit, wherever it comes from.
	require.Equal(t, map[int]int{200: 29, 429: 11}, parallel(40, func(i int) int { return u(i, "GET", mePath, "203.0.113.7").status }))
	a = u(0, "GET", mePath, "203.0.113.99").refused(429, "request_limit")
	require.Equal(t, "Too many requests with this credential: it has 30 per 15 minutes.", a.body["error"])
	with := headers{"X-Api-Key", owner.key, "X-Forwarded-For", "203.0.113.7"}
	a = w.do("GET", mePath, with, nil)
	a.ok(200)
	require.Equal(t, []string{"30", "29"}, []string{a.header.Get("RateLimit-Limit"), a.header.Get("RateLimit-Remaining")})

	// Operations on sessions count by user, whatever he calls with, and tell of both limits.
	token := str(w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": owner.email, "password": password}).ok(200), "token")
	w.do("GET", mePath, bearer(token), nil).refused(429, "request_limit") // who logs in again goes on where he was
	got := parallel(10, func(i int) int {
		return worlds[i%3].do("POST", "/api/v1/sessions", [][]string{with, bearer(second)}[i%2], map[string]any{"name": "x"}).status
	})
	require.Equal(t, map[int]int{202: 5, 429: 5}, got)
	a = w.do("DELETE", "/api/v1/sessions/x", with, nil).refused(429, "session_operations_limit")
	require.Equal(t, "Session operation rate limit exceeded: an account has 5 per minute.", a.body["error"])
	require.Equal(t, `"credential";q=30;w=900, "session_operations";q=5;w=60`, a.header.Get("RateLimit-Policy"))
	require.Equal(t, "5", a.header.Get("RateLimit-Limit"))
	w.do("GET", "/api/v1/sessions", with, nil).ok(200)
	metrics := w.do("GET", "/metrics", nil, nil).text
	for _, name := range []string{limits.OfAddress, limits.OfCredential, limits.OfSessionOps} {
		require.Regexp(t, fmt.Sprintf(`kurir_rate_limited_total\{limit="%s"\} [1-9]`, name), metrics)
	}
	for _, name := range limits.Names() {
		require.Contains(t, metrics, fmt.Sprintf(`kurir_rate_limited_total{limit="%s"}`, name))
	}
}

// Sends count by the tier alone.
func TestSendsAreNoRequests(t *testing.T) {
	t.Parallel()
	w := fleetOf(t, 1, strict(func(r *limits.Requests) { r.PerCredential, r.SessionOps = 3, 3 }))[0]
	w.worker()
	u := w.register("u")
	key := u.connected("shop")
	for range 10 {
		a := u.do("POST", fmt.Sprintf(sendPath, "shop"), bearer(key), text("6281234567890", "x"))
		a.ok(202)
		require.Equal(t, "10000", a.header.Get("RateLimit-Limit"))
	}
	for range 3 {
		u.do("GET", "/api/v1/sessions/shop", bearer(key), nil).ok(200)
	}
	u.do("GET", "/api/v1/sessions/shop", bearer(key), nil).refused(429, "request_limit")
	u.do("POST", fmt.Sprintf(sendPath, "shop"), bearer(key), text("6281234567890", "x")).ok(202)
}

func TestRegistrationLimit(t *testing.T) {
	t.Parallel()
	worlds := fleetOf(t, 2, behind, strict(func(r *limits.Requests) { r.Registrations = 3 }))
	register := func(i int, address string) *answer {
		return worlds[i%2].do("POST", "/api/v1/auth/register", from(address), map[string]any{"email": fmt.Sprintf("u%d@example.com", i), "password": password})
	}
	require.Equal(t, map[int]int{201: 3, 429: 5}, parallel(8, func(i int) int { return register(i, "2001:db8:1:2::"+strconv.Itoa(i)).status }), "a /64 is one")
	worlds[0].do("POST", "/api/v1/auth/register", from("2001:db8:1:4::1"), map[string]any{"email": "u@example.com", "password": "short"}).refused(422, "invalid_request")
	for i := range 3 {
		require.Equal(t, 201, register(200+i, "2001:db8:1:4::1").status, "what could be no account does not count")
	}
	a := register(100, "2001:db8:1:2:ffff::1").refused(429, "registration_limit")
	require.Equal(t, "Too many registrations from this address: it has 3 per hour.", a.body["error"])
	require.Equal(t, 201, register(101, "2001:db8:1:3::1").status)
}

// Without Redis requests pass, at once.
func TestRequestsWithoutRedis(t *testing.T) {
	t.Parallel()
	w := start(t, strict(func(r *limits.Requests) { r.PerAddress, r.PerCredential, r.Registrations = 2, 2, 1 }))
	for i := range 10 {
		u := w.register(fmt.Sprintf("u%d", i))
		for range 3 {
			a := w.do("GET", mePath, u.auth(), nil)
			a.ok(200)
			require.Empty(t, a.header.Get("RateLimit"))
		}
		w.do("GET", mePath, bearer("x"), nil).refused(401, "invalid_token")
	}
	require.Equal(t, 1, strings.Count(w.log.String(), "limits are not looked at"), "once in a while is enough")
	require.Regexp(t, `kurir_limit_unchecked_total\{limit="credential"\} 30`, w.do("GET", "/metrics", nil, nil).text)
}

// What a client writes into X-Forwarded-For is nothing to us unless it comes through our proxies, and then only what they wrote.
func TestSpoofedAddresses(t *testing.T) {
	t.Parallel()
	few := strict(func(r *limits.Requests) { r.PerAddress = 3 })
	open := fleetOf(t, 1, few)[0]
	require.Equal(t, map[int]int{401: 3, 429: 7}, parallel(10, func(i int) int {
		return open.do("GET", mePath, headers{"X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i), "X-Real-Ip", fmt.Sprintf("203.0.113.%d", i), "Forwarded", fmt.Sprintf("for=203.0.113.%d", i)}, nil).status
	}), "no proxy is trusted: the header is not read")
	proxied := fleetOf(t, 1, few, behind)[0]
	require.Equal(t, map[int]int{401: 3, 429: 7}, parallel(10, func(i int) int {
		return proxied.do("GET", mePath, from(fmt.Sprintf("203.0.113.%d, 198.51.100.1, 127.0.0.9", i)), nil).status
	}), "what stands left of the last address that is not ours was written by the client")
	r, err := http.NewRequest("GET", proxied.url+me, nil)
	require.NoError(t, err)
	r.Header["X-Forwarded-For"] = []string{"198.51.100.1", "198.51.100.2"} // two lines
	resp, err := client.Do(r)
	require.NoError(t, err)
	read(t, resp).refused(401, "unauthenticated")
	proxied.eventually("the log", func() bool { return strings.Contains(proxied.log.String(), `"ip":"198.51.100.2"`) })
	require.NotContains(t, proxied.log.String(), "203.0.113")
	require.Contains(t, open.log.String(), `"ip":"127.0.0.1"`)
}

// Each limit is described where clients look.
func TestLimitsAreDocumented(t *testing.T) {
	t.Parallel()
	d := start(t).document()
	for path, item := range d.all["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			o := raw.(map[string]any)
			response, ok := o["responses"].(map[string]any)["429"].(map[string]any)
			what := method + " " + path
			require.True(t, ok, what)
			response = d.resolve(response)
			if o["tags"].([]any)[0] == "Worker protocol" {
				continue
			}
			for _, name := range []string{"Retry-After", "RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"} {
				text, err := json.Marshal(response["headers"])
				require.NoError(t, err)
				require.Contains(t, response["headers"], name, "%s: %s", what, text)
			}
		}
	}
}

// Somebody who guesses is stopped; the owner is not, wherever he is.
func TestGuessingPasswords(t *testing.T) {
	t.Parallel()
	worlds := fleetOf(t, 3, behind, strict(func(r *limits.Requests) {
		r.Logins = limits.Logins{Failures: 5, PerAddress: 12, PerAccount: 20}
	}))
	w := worlds[0]
	owner, second := w.register("owner"), w.register("second")
	logIn := func(i int, email, pass, address string) *answer {
		return worlds[i%3].do("POST", "/api/v1/auth/login", from(address), map[string]any{"email": email, "password": pass})
	}
	// One address, one account: five tries, and then neither a wrong nor the right one is looked at. An account that does not
	// exist answers the same.
	for _, email := range []string{owner.email, "nobody@example.com"} {
		address := map[string]string{owner.email: "203.0.113.1", "nobody@example.com": "203.0.113.2"}[email]
		for i := range 5 {
			logIn(i, email, "wrong"+password, address).refused(401, "invalid_credentials")
		}
		for i := range 3 {
			a := logIn(i, strings.ToUpper(email), "wrong"+password, address).refused(429, "login_throttled")
			require.Equal(t, "Too many failed logins. Wait before you try again.", a.body["error"])
		}
	}
	logIn(0, owner.email, password, "203.0.113.1").refused(429, "login_throttled")
	logIn(0, owner.email, password, "198.51.100.7").ok(200)
	require.Equal(t, http.StatusTooManyRequests, w.logIn(owner.email, password, from("203.0.113.1")).status, "the page of the dashboard asks for the same password")

	// He may be wrong himself: a success forgets it.
	for range 3 {
		for i := range 4 {
			logIn(i, owner.email, "wrong"+password, "198.51.100.7").refused(401, "invalid_credentials")
		}
		logIn(0, owner.email, password, "198.51.100.7").ok(200)
	}

	// One address, many accounts.
	got := map[int]int{}
	for i := range 20 {
		got[logIn(i, fmt.Sprintf("u%d@example.com", i), "wrong"+password, "203.0.113.1").status]++
	}
	require.Equal(t, map[int]int{401: 7, 429: 13}, got, "five had failed before")
	logIn(0, second.email, password, "203.0.113.1").refused(429, "login_throttled")

	// Many addresses, one account: each of them has one try. The owner gets in from where he was before and from where nobody
	// failed.
	for i := range 20 {
		logIn(i, second.email, "wrong"+password, fmt.Sprintf("203.0.113.%d", 50+i)).refused(401, "invalid_credentials")
	}
	logIn(0, second.email, "wrong"+password, "203.0.113.50").refused(429, "login_throttled")
	logIn(0, second.email, "wrong"+password, "203.0.113.80").refused(401, "invalid_credentials")
	logIn(0, second.email, "wrong"+password, "203.0.113.80").refused(429, "login_throttled")
	logIn(0, second.email, password, "203.0.113.90").ok(200)
	for i := range 4 {
		logIn(i, second.email, "wrong"+password, "203.0.113.90").refused(401, "invalid_credentials")
	}
	logIn(0, second.email, password, "203.0.113.90").ok(200)
	require.Equal(t, map[int]int{200: 10}, parallel(10, func(i int) int { return logIn(i, second.email, password, "198.51.100.44").status }),
		"who has not failed is never refused, however often he logs in at once")
	for _, line := range strings.Split(w.log.String(), "\n") {
		require.NotContains(t, line, owner.email)
	}
	for _, key := range w.redis.Keys(t.Context(), "*").Val() {
		require.NotContains(t, key, "@", "Redis should not know mail addresses")
		require.Greater(t, w.redis.PTTL(t.Context(), key).Val(), time.Duration(0), "%s stays for ever", key)
	}
}

// A stolen token is no way to guess the password: what asks for it counts like logins, all of it together.
func TestGuessingPasswordsWithAToken(t *testing.T) {
	t.Parallel()
	worlds := fleetOf(t, 2, behind, strict(func(r *limits.Requests) { r.Logins = limits.Logins{Failures: 6, PerAddress: 50, PerAccount: 50} }))
	w := worlds[0]
	u := w.register("u")
	asks := []func(pass string) (method, path string, body map[string]any){
		func(pass string) (string, string, map[string]any) {
			return "PUT", "/api/v1/auth/password", map[string]any{"currentPassword": pass, "newPassword": "another " + password}
		},
		func(pass string) (string, string, map[string]any) {
			return "PATCH", "/api/v1/users/me", map[string]any{"currentPassword": pass, "email": "thief@example.com"}
		},
		func(pass string) (string, string, map[string]any) {
			return "DELETE", "/api/v1/users/me", map[string]any{"currentPassword": pass}
		},
	}
	ask := func(i int, pass string) *answer {
		method, path, body := asks[i%3](pass)
		return worlds[i%2].do(method, path, append(u.auth(), from("203.0.113.1")...), body)
	}
	for i := range 6 {
		ask(i, "wrong"+password).refused(403, "wrong_password")
	}
	for i := range 3 {
		require.NotEmpty(t, ask(i, password).refused(429, "login_throttled").header.Get("Retry-After"))
	}
	logIn := map[string]any{"email": u.email, "password": password}
	w.do("POST", "/api/v1/auth/login", from("203.0.113.1"), logIn).refused(429, "login_throttled")
	w.do("POST", "/api/v1/auth/login", from("198.51.100.7"), logIn).ok(200)
	require.Contains(t, w.do("GET", "/api/v1/users/me", u.auth(), nil).text, u.email, "nothing was changed")
}

// While Redis is down, each process counts for itself.
func TestGuessingPasswordsWithoutRedis(t *testing.T) {
	t.Parallel()
	w := start(t, behind, strict(func(r *limits.Requests) { r.Logins = limits.Logins{Failures: 3, PerAddress: 10, PerAccount: 50} }))
	u := w.register("u")
	logIn := func(pass, address string) int {
		return w.do("POST", "/api/v1/auth/login", from(address), map[string]any{"email": u.email, "password": pass}).status
	}
	got := parallel(20, func(int) int { return logIn("wrong"+password, "203.0.113.1") })
	require.LessOrEqual(t, got[401], 3+2, "those under way when the limit was reached")
	require.Equal(t, 20, got[401]+got[429])
	require.Equal(t, 429, logIn(password, "203.0.113.1"))
	require.Equal(t, 200, logIn(password, "203.0.113.2"))
}
