package api_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

func keyed(with headers, key string) headers {
	return append(append(headers{}, with...), "Idempotency-Key", key)
}

func replayed(a *answer) bool { return a.header.Get("Idempotency-Replayed") == "true" }

func TestTheSameKeyIsTheSameRequest(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, other := w.register("u"), w.register("other")
	sessionKey := u.connected("shop")
	u.connected("second")
	other.connected("foreign")
	const path = "/api/v1/sessions/shop/send"
	hello := text("6281234567890", "hello")

	first := u.do("POST", path, keyed(u.auth(), "k"), hello)
	data := first.ok(202)
	require.False(t, replayed(first))
	// Aliases of the route and of the version are one, and so are a user's credentials.
	for _, alias := range []string{path, "/api/v1/sessions/shop/messages", "/api/sessions/shop/send", "/api/sessions/shop/messages"} {
		for _, with := range []headers{u.auth(), bearer(u.key)} {
			again := u.do("POST", alias, keyed(with, "k"), hello)
			require.Equal(t, data, again.ok(202), alias)
			require.True(t, replayed(again), alias)
			require.Equal(t, first.header.Get("Location"), again.header.Get("Location"))
		}
	}
	require.EqualValues(t, 1, w.count("messages"))
	u.do("POST", path, keyed(u.auth(), "k"), text("6281234567890", "bye")).refused(409, "idempotency_mismatch")
	u.do("POST", "/api/v1/sessions/second/send", keyed(u.auth(), "k"), hello).refused(409, "idempotency_mismatch")
	require.EqualValues(t, 1, w.count("messages"))

	// A session's key is an owner of its own; on its session, all three routes are one.
	require.NotEqual(t, data["messageId"], u.do("POST", "/api/v1/messages", keyed(bearer(sessionKey), "k"), hello).ok(202)["messageId"])
	for _, alias := range []string{"/api/v1/messages", path, "/api/v1/sessions/shop/messages"} {
		require.True(t, replayed(u.do("POST", alias, keyed(bearer(sessionKey), "k"), hello)), alias)
	}
	require.EqualValues(t, 2, w.count("messages"))
	other.do("POST", "/api/v1/sessions/foreign/send", keyed(other.auth(), "k"), hello).ok(202)
	created := u.do("POST", "/api/v1/sessions", keyed(u.auth(), "k"), map[string]any{"name": "x"}) // another route
	created.ok(202)
	require.False(t, replayed(created))
	require.EqualValues(t, 3, w.count("messages"))

	w.exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`)
	require.NotEqual(t, data["messageId"], u.do("POST", path, keyed(u.auth(), "k"), text("6281234567890", "another day")).ok(202)["messageId"])
}

func TestReplaysHoldNoSecrets(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	body := map[string]any{"name": "x", "sessionId": "shop", "webhook": map[string]any{"url": "https://example.com/"}}
	first := u.do("POST", "/api/v1/sessions", keyed(u.auth(), "k"), body)
	data := first.ok(202)
	again := u.do("POST", "/api/v1/sessions", keyed(u.auth(), "k"), body)
	require.True(t, replayed(again))
	replay := again.ok(202)
	require.NotContains(t, again.text, "kus_")
	require.NotContains(t, again.text, "whsec_")
	stored := modelstest.Scalar[string](t, w.db, `SELECT encode(response, 'escape') FROM idempotency_keys`)
	require.NotContains(t, stored, "kus_")
	require.NotContains(t, stored, "whsec_")
	delete(data, "apiKey")
	delete(data["webhook"].(map[string]any), "secret")
	require.Equal(t, data, replay, "all but the secrets should be as before")
	require.EqualValues(t, 1, w.count("sessions"))
}

func TestKeysAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	ids := parallel(20, func(int) string {
		a := u.do("POST", "/api/v1/sessions/shop/send", keyed(u.auth(), "k"), text("6281234567890", "x"))
		if a.status == 409 {
			return a.body["code"].(string)
		}
		return str(a.body["data"].(map[string]any), "messageId")
	})
	delete(ids, "idempotency_in_progress")
	require.Len(t, ids, 1)
	require.EqualValues(t, 1, w.count("messages"))
	statuses := parallel(10, func(int) int {
		return u.do("POST", "/api/v1/sessions", keyed(u.auth(), "k"), map[string]any{"name": "x"}).status
	})
	require.Equal(t, 10, statuses[202]+statuses[409], statuses)
	require.EqualValues(t, 2, w.count("sessions"))
}

// A process that died after its commit leaves a key without an answer; whoever comes then finds what it made.
func TestTakeoverOfADeadProcess(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	send := func() *answer {
		return u.do("POST", "/api/v1/sessions/shop/send", keyed(u.auth(), "k"), text("6281234567890", "x"))
	}
	create := func() *answer { return u.do("POST", "/api/v1/sessions", keyed(u.auth(), "k"), named("second")) }
	message, session := send().ok(202), create().ok(202)
	w.exec(`UPDATE idempotency_keys SET status_code = NULL, response = NULL, location = NULL`)
	require.NotEmpty(t, send().refused(409, "idempotency_in_progress").header.Get("Retry-After"))
	w.exec(`UPDATE idempotency_keys SET locked_until = now() - interval '1 second'`)
	before := w.rows()
	again := send()
	require.False(t, replayed(again))
	require.Equal(t, message["messageId"], again.ok(202)["messageId"])
	taken := create().ok(202)
	require.Equal(t, []any{session["sessionId"], session["jobId"], nil}, []any{taken["sessionId"], taken["jobId"], taken["apiKey"]})
	w.unchanged(before, "a takeover")
	require.True(t, replayed(send()))

	// Taken over when the message has long been refused elsewhere: still the same one.
	w.exec(`UPDATE idempotency_keys SET status_code = NULL, locked_until = now()`)
	w.exec(`UPDATE messages SET status = 'FAILED'`)
	w.exec(`UPDATE lanes SET open = false`)
	require.Equal(t, message["messageId"], send().ok(202)["messageId"])
	require.EqualValues(t, 1, w.count("messages"))
}

// Only what was done is remembered: what failed may be tried again with the same key, repaired or not.
func TestRefusalsAreNotRemembered(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	u.do("POST", "/api/v1/sessions", keyed(u.auth(), "k"), named("shop")).refused(503, "no_worker_available")
	resource := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT resource_id FROM idempotency_keys`)
	w.worker()
	u.do("POST", "/api/v1/sessions", keyed(u.auth(), "k"), named("other")).refused(409, "idempotency_mismatch")
	u.do("POST", "/api/v1/sessions", keyed(u.auth(), "k"), named("shop")).ok(202)
	require.Equal(t, resource, modelstest.Scalar[uuid.UUID](t, w.db, `SELECT uid FROM sessions`), "after a 5xx nobody knows: it is the same session")

	send := func(to string) *answer {
		return u.do("POST", "/api/v1/sessions/shop/send", keyed(u.auth(), "s"), text(to, "x"))
	}
	send("nobody").refused(422, "invalid_request")
	send("6281234567890").refused(409, "session_not_linked")
	require.EqualValues(t, 0, w.count("idempotency_keys WHERE key = 's'"))
	w.exec(`UPDATE lanes SET open = true`)
	require.False(t, replayed(send("6281234567890")))
	require.True(t, replayed(send("6281234567890")))
}

func TestKeysThatAreNone(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	before := w.rows()
	for _, key := range []string{strings.Repeat("k", 256), "é", "a\tb", "\xff"} {
		a := u.do("POST", "/api/v1/sessions/shop/send", keyed(u.auth(), key), text("6281234567890", "x")).refused(422, "invalid_request")
		require.Contains(t, a.text, `"field":"Idempotency-Key"`)
	}
	w.unchanged(before, "bad keys")
	for _, key := range []string{strings.Repeat("k", 255), `a "b" 'c' ?0; --`} {
		u.do("POST", "/api/v1/sessions/shop/send", keyed(u.auth(), key), text("6281234567890", "x")).ok(202)
		require.True(t, replayed(u.do("POST", "/api/v1/sessions/shop/send", keyed(u.auth(), key), text("6281234567890", "x"))))
	}
	require.EqualValues(t, 2, w.count("messages"))
	u.do("GET", "/api/v1/sessions", keyed(u.auth(), "k"), nil).ok(200)
	require.EqualValues(t, 2, w.count("idempotency_keys"))
}
