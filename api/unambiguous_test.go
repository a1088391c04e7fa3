package api_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
)

// What is checked is what is done: a body cannot show the check one value and the handler another.
func TestBodiesThatSayTwoThings(t *testing.T) {
	t.Parallel()
	w := start(t, allowLoopback)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	u.session("unlinked")
	message := `{"to":"6281234567890","message":"x"}`
	before, many := w.rows(), strings.TrimSuffix(strings.Repeat(message+",", 1001), ",")
	for _, c := range []struct{ method, path, body, field string }{
		{"POST", "/sessions/unlinked/link", `{"expiresIn":60,"EXPIRESIN":999999999}`, "EXPIRESIN"},
		{"POST", "/sessions/unlinked/link", `{"expiresIn":999999999,"expiresIn":null}`, "expiresIn"},
		{"POST", "/sessions/unlinked/link", `{"expiresIn":999999999,"expires\u0049n":60}`, "expiresIn"},
		{"POST", "/sessions/unlinked/link", `{"language":"` + strings.Repeat("x", 1000) + `","language":null}`, "language"},
		{"POST", "/sessions/shop/messages/batch", `{"messages":[` + message + `],"MESSAGES":[` + many + `]}`, "MESSAGES"},
		{"POST", "/sessions/shop/send", `{"to":"6281234567890","message":"x","message":"y"}`, "message"},
		{"POST", "/sessions/shop/send", `{"to":"6281234567890","message":"x","Message":"y"}`, "Message"},
		{"POST", "/sessions/shop/send", `{"to":"6281234567890","message":"x","metadata":{"a":1,"b":{"c":1,"c":2}}}`, "c"},
		{"PUT", "/account/retention", `{"messageDays":30,"MessageDays":-1}`, "MessageDays"},
		{"PUT", "/sessions/shop/webhook", `{"url":"http://127.0.0.1:9/","ordered":true,"onFailure":"skip","skipAfter":9999999999,"skipAfter":null}`, "skipAfter"},
		{"POST", "/sessions", `{"name":"x","NAME":"` + strings.Repeat("x", 50_000) + `"}`, "NAME"},
		{"POST", "/sessions", `{"name":"x","webhook":{"url":"http://127.0.0.1:9/","skipAfter":9999999999},"webhook":{"url":"http://127.0.0.1:9/"}}`, "webhook"},
	} {
		a := u.do(c.method, "/api/v1"+c.path, u.auth(), c.body)
		a.refused(422, "invalid_request")
		require.Contains(t, a.text, c.field+`"`, "%.200s", c.body)
	}
	w.unchanged(before, "what says two things")
	require.Zero(t, w.count("session_links"))
}

// What is wrong with a body is told in a few words, and takes no more memory than its length allows.
func TestBodiesFullOfFaults(t *testing.T) {
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	for path, limit := range map[string]int{"/api/v1/sessions/shop/messages/batch": 8 << 20, "/api/v1/sessions/shop/contacts/check": 900 << 10} {
		for begin, one := range map[string]string{`{"messages":[`: "1,", `{"numbers":[`: "{},", `[`: "[],"} {
			body := begin + strings.Repeat(one, (limit-100)/len(one)) + "1]"
			if begin != "[" {
				body += "}"
			}
			var from, to runtime.MemStats
			runtime.ReadMemStats(&from)
			u.do("POST", path, u.auth(), body).refused(422, "invalid_request")
			runtime.ReadMemStats(&to)
			require.Less(t, (to.TotalAlloc-from.TotalAlloc)>>20, uint64(100), "MB for %s of %s", one, path)
		}
	}
}

// An Idempotency-Key is documented where it holds, and nowhere else.
func TestIdempotencyKeysAreDocumentedWhereTheyHold(t *testing.T) {
	t.Parallel()
	var a *api.API
	w := start(t, func(w *world, _ *api.Config) { w.made = func(made *api.API) { a = made } })
	documented := map[string]bool{}
	for _, item := range w.document().all["paths"].(map[string]any) {
		for _, raw := range item.(map[string]any) {
			o := raw.(map[string]any)
			parameters, _ := o["parameters"].([]any)
			for _, p := range parameters {
				if p.(map[string]any)["name"] == "Idempotency-Key" {
					documented[o["operationId"].(string)] = true
				}
			}
		}
	}
	require.Equal(t, a.TakeKeys(), documented)
}
