package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

func (w *world) health(path string, status int) string {
	w.Helper()
	a := w.do("GET", path, nil, nil)
	require.Equal(w, status, a.status, a.text)
	require.Equal(w, status == 200, a.body["success"])
	if status != 200 {
		a.code("not_ready")
	}
	return a.text
}

// code demands the fields of a failure, whatever else there is.
func (a *answer) code(want string) {
	a.t.Helper()
	require.Equal(a.t, want, a.body["code"], a.text)
	require.NotEmpty(a.t, a.body["error"])
	require.Equal(a.t, a.header.Get("X-Request-Id"), a.body["requestId"])
	require.NotEmpty(a.t, a.header.Get("Retry-After"))
}

// PostgreSQL is the truth: without Redis everything is accepted, and quickly.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	store := embeddedtest.NewRedis(t, "")
	w := start(t, withRedis(store.URL()), func(_ *world, c *api.Config) { c.LimitTimeout = 0 }) // its default
	w.phones(simnet.Config{})
	u := w.register("u")
	require.Contains(t, w.health("/health/ready", 200), `"status":"ok"`)
	key := u.connected("shop")
	store.Stop()
	began := time.Now()
	for range 20 {
		u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "x")).ok(202)
	}
	u.do("POST", "/api/v1/sessions", u.auth(), named("second")).ok(202)
	u.do("DELETE", "/api/v1/sessions/second", u.auth(), nil).ok(202)
	u.do("PUT", hookPath, u.auth(), map[string]any{"url": "https://example.com/"}).ok(200)
	require.Less(t, time.Since(began), patience, "who waits for Redis does it 23 times")
	u.do("GET", "/api/v1/sessions/shop/messages", bearer(key), nil).ok(200)
	var report string
	w.eventually("degraded", func() bool {
		report = w.health("/health/ready", 200)
		return strings.Contains(report, `"status":"degraded"`)
	})
	require.Contains(t, report, `"name":"redis","status":"down"`)
	w.health("/health", 200)
	require.Contains(t, w.health("/health/live", 200), `"status":"ok"`)
	require.EqualValues(t, 20, w.count("messages"))

	store.Start()
	w.eventually("health", func() bool { return strings.Contains(w.health("/health/ready", 200), `"status":"ok"`) })
}

// Without PostgreSQL nothing is accepted, everybody is told to come again, and when it is back all goes on.
func TestWithoutPostgres(t *testing.T) {
	t.Parallel()
	url, way := relayed(t, modelstest.URL(t))
	w := startOn(t, modelstest.Open(t, url))
	w.worker()
	u, admin := w.register("u"), w.administrator()
	key := u.connected("shop")
	secret := w.vault.WorkerSecret("w1", 1)
	u.do("PUT", hookPath, u.auth(), map[string]any{"url": "https://example.com/"}).ok(200)
	d := w.document()
	operations := d.operations()
	w.health("/health/ready", 200)

	way.cut()
	who := map[string]headers{"": nil, "token": u.auth(), "workerToken": {"X-Worker-Token", workerToken, "X-Worker-Secret", secret, "X-Kurir-Term", "1", "X-Kurir-Session", u.id}}
	for _, op := range operations {
		var body any
		if op.body != nil {
			body = d.example(op.body)
		}
		path := strings.NewReplacer("{id}", "shop", "{workerId}", "w1", "{messageId}", u.id, "{jobId}", u.id, "{deliveryId}", u.id, "{mediaId}", u.id, "{address}", "6281234567890").Replace(op.path)
		with := who[op.need]
		if op.admin && op.need == "token" {
			with = admin.auth()
		}
		if op.id == "send-by-key" {
			with = bearer(key)
		}
		began := time.Now()
		a := w.do(op.method, path, keyed(with, "k"), body)
		require.Equal(t, 503, a.status, "%s: %s", op.id, a.text)
		a.refused(503, "database_unavailable")
		require.Less(t, time.Since(began), 5*time.Second, op.id)
	}
	w.eventually("not ready", func() bool { return w.do("GET", "/health/ready", nil, nil).status == 503 })
	report := w.health("/health/ready", 503)
	require.Contains(t, report, `"name":"postgres","status":"down"`)
	require.NotContains(t, report, "127.0.0.1")
	w.health("/health", 503)
	w.health("/health/live", 200)
	require.Equal(t, 200, w.do("GET", "/docs/", nil, nil).status)

	way.mend()
	w.eventually("recovery", func() bool { return w.do("GET", "/api/v1/auth/me", u.auth(), nil).status == 200 })
	w.eventually("ready", func() bool { return w.do("GET", "/health/ready", nil, nil).status == 200 })
	u.do("POST", "/api/v1/sessions/shop/send", keyed(u.auth(), "k"), text("6281234567890", "x")).ok(202)
	require.EqualValues(t, 1, w.count("messages"))
	// Changes made elsewhere are heard again.
	u.do("GET", "/api/v1/sessions/shop", bearer(key), nil).ok(200)
	w.eventually("the ear", func() bool {
		return w.count("pg_stat_activity WHERE query = 'LISTEN kurir_credentials' AND datname = current_database()") > 0
	})
	w.exec(`UPDATE users SET is_active = false`)
	began := time.Now()
	w.eventually("the news", func() bool { return w.do("GET", "/api/v1/auth/me", bearer(u.key), nil).status == 401 })
	require.Less(t, time.Since(began), time.Second)
}
