package api_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/models"
	"kurir/models/modelstest"
)

// proxyOf is what is kept of a session's proxy, and what comes out of it.
func (w *world) proxyOf(session string) (sealed []byte, proxy string) {
	w.Helper()
	sealed = modelstest.Scalar[[]byte](w, w.db, `SELECT coalesce(proxy, '') FROM sessions WHERE id = $1`, session)
	if len(sealed) == 0 {
		return nil, ""
	}
	plain, err := w.vault.Open(models.SealProxy, sealed)
	require.NoError(w, err)
	return sealed, string(plain)
}

func TestProxyOfASession(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, other := w.register("u"), w.register("other")
	const given, shown = "socks5h://secretuser:secret%40word@proxy.example.com:1080", "socks5h://***@proxy.example.com:1080"
	body := map[string]any{"name": "Shop", "sessionId": "shop", "proxy": given}
	made := u.do("POST", "/api/v1/sessions", append(u.auth(), "Idempotency-Key", "once"), body)
	require.Equal(t, shown, made.ok(202)["proxy"])
	again := u.do("POST", "/api/v1/sessions", append(u.auth(), "Idempotency-Key", "once"), body)
	require.Equal(t, shown, again.ok(202)["proxy"])
	sealed, plain := w.proxyOf("shop")
	require.Equal(t, given, plain)
	require.NotContains(t, string(sealed), "example")

	path := "/api/v1/sessions/shop"
	reads := []*answer{made, again, u.do("GET", path, u.auth(), nil), u.do("GET", "/api/v1/sessions", u.auth(), nil), u.do("GET", path+"/status", u.auth(), nil),
		u.do("GET", "/api/v1/admin/sessions", w.administrator().auth(), nil), u.do("POST", path+"/stop", u.auth(), nil)}
	for i, a := range reads {
		require.NotContains(t, a.text, "secret", "%d", i)
		require.Equal(t, i != 4, strings.Contains(a.text, shown), "%d: %s", i, a.text)
	}
	u.do("POST", path+"/start", u.auth(), nil).ok(202)

	// What is held is held no more until the worker has heard of a change.
	w.exec(`UPDATE sessions SET held_term = 1, held_at = now()`)
	patch := func(body string) map[string]any {
		t.Helper()
		return u.do("PATCH", path, u.auth(), json.RawMessage(body)).ok(200)
	}
	require.Equal(t, shown, patch(`{"name": "Other"}`)["proxy"], "what is not named stays")
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, w.db, `SELECT held_term FROM sessions`))
	require.Equal(t, "http://proxy.example.com", patch(`{"proxy": "http://proxy.example.com"}`)["proxy"])
	require.EqualValues(t, 0, modelstest.Scalar[int64](t, w.db, `SELECT held_term FROM sessions`))
	require.Equal(t, "https://***@[2606:4700::1111]:8443", patch(`{"proxy": "https://secretuser@[2606:4700::1111]:8443/"}`)["proxy"])
	w.exec(`UPDATE sessions SET held_term = 1, held_at = now()`)
	require.Nil(t, patch(`{"proxy": null}`)["proxy"])
	require.EqualValues(t, 0, modelstest.Scalar[int64](t, w.db, `SELECT held_term FROM sessions`))
	require.True(t, modelstest.Scalar[bool](t, w.db, `SELECT proxy IS NULL FROM sessions`))
	require.Nil(t, u.do("GET", path, u.auth(), nil).ok(200)["proxy"])
	patch(`{"proxy": "` + given + `"}`)
	require.Nil(t, patch(`{"proxy": ""}`)["proxy"], "clients that cannot say null")
	require.Nil(t, u.do("POST", "/api/v1/sessions", u.auth(), json.RawMessage(`{"name": "None", "sessionId": "none", "proxy": null}`)).ok(202)["proxy"])

	// Another tenant's, and the session's own key.
	patch(`{"proxy": "` + given + `"}`)
	before := w.rows()
	other.do("PATCH", path, other.auth(), map[string]any{"proxy": "http://proxy.example.com"}).refused(404, "session_not_found")
	other.do("GET", path, other.auth(), nil).refused(404, "session_not_found")
	u.do("PATCH", path, bearer(str(made.ok(202), "apiKey")), map[string]any{"proxy": nil}).refused(403, "forbidden")
	w.unchanged(before, "another one's proxy")

	w.eventually("the log", func() bool { return strings.Contains(w.log.String(), "PATCH") })
	require.NotContains(t, w.log.String(), "secret")
	require.NotContains(t, w.log.String(), "proxy.example.com")
	for _, table := range []string{"system_logs", "jobs", "events", "idempotency_keys", "sessions"} {
		require.Zero(t, w.count(table+" t WHERE t::text LIKE '%secret%'"), table)
	}
	w.exec(`UPDATE sessions SET proxy = 'of another key'`)
	require.Equal(t, "***", u.do("GET", path, u.auth(), nil).ok(200)["proxy"])
}

func TestProxiesThatAreNone(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) { c.ProxyAllow = []netip.Prefix{netip.MustParsePrefix("10.7.0.0/16")} })
	w.worker()
	u := w.register("u")
	u.session("shop")
	before := w.rows()
	long := strings.Repeat("secret", 400)
	for _, body := range []string{`" "`, `"proxy.example.com:3128"`, `"ftp://u:secret@proxy.example.com"`, `"socks4://proxy.example.com"`, `"javascript:alert(1)"`, `"file:///etc/passwd"`,
		`"http://u:secret@"`, `"http://"`, `"http://u:secret@proxy.example.com:0"`, `"http://u:secret@proxy.example.com:65536"`, `"http://u:secret@proxy.example.com:x"`, `"http://u:secret@proxy.example.com:"`,
		`"http://u:secret@proxy.example.com/path"`, `"http://u:secret@proxy.example.com?q"`, `"http://u:secret@proxy.example.com#f"`, `"http://u:secret@proxy.example.com\\"`,
		`"http://u:secret@proxy.example.com\r\nX: y"`, `"http://u:secret@proxy\u0001.example.com"`, `" http://u:secret@proxy.example.com"`, `"http://u:sec%ret@proxy.example.com"`,
		`"http://:secret@proxy.example.com"`, `"http://secret%3Auser:p@proxy.example.com"`, `"socks5://u:` + long[:256] + `@proxy.example.com"`, `"http://` + long + `"`,
		`"http://***@proxy.example.com"`, `"http://***:secret@proxy.example.com"`,
		`"http://127.0.0.1:3128"`, `"http://localhost:3128"`, `"socks5://[::1]:1080"`, `"socks5h://169.254.169.254"`, `"http://10.0.0.1"`, `"http://192.168.1.1"`, `"http://[::ffff:127.0.0.1]"`, `"http://2130706433"`, `"http://0x7f.1"`, `"http://168.63.129.16"`,
		`7`, `true`, `[]`, `["http://u:secret@proxy.example.com"]`, `{"url": "http://u:secret@proxy.example.com"}`} {
		for _, a := range []*answer{
			u.do("PATCH", "/api/v1/sessions/shop", u.auth(), json.RawMessage(`{"proxy": `+body+`}`)),
			u.do("POST", "/api/v1/sessions", u.auth(), json.RawMessage(`{"name": "Shop", "sessionId": "`+uuid.NewString()+`", "proxy": `+body+`}`)),
		} {
			a.refused(422, "invalid_request")
			require.Contains(t, a.text, `"field":"proxy"`, body)
			require.NotContains(t, a.text, "secret", body)
		}
	}
	u.do("PATCH", "/api/v1/sessions/shop", u.auth(), json.RawMessage(`{"proxy": "http://a.example.com", "proxy": "http://b.example.com"}`)).refused(422, "invalid_request")
	u.do("PATCH", "/api/v1/sessions/shop", u.auth(), json.RawMessage(`{"Proxy": "http://a.example.com"}`)).refused(422, "invalid_request")
	w.unchanged(before, "a wrong proxy")
	require.NotContains(t, w.log.String(), "secret")
	require.Equal(t, "http://10.7.1.2:3128", u.do("PATCH", "/api/v1/sessions/shop", u.auth(), map[string]any{"proxy": "http://10.7.1.2:3128"}).ok(200)["proxy"], "the operator allows it")
}
