package api_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

const hookPath = "/api/v1/sessions/shop/webhook"

func (t *tenant) put(fields map[string]any) *answer {
	t.Helper()
	body := map[string]any{"url": "https://example.com/hook"}
	for name, value := range fields {
		body[name] = value
	}
	return t.do("PUT", hookPath, t.auth(), body)
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	u.do("GET", hookPath, u.auth(), nil).refused(404, "webhook_not_found")
	u.do("DELETE", hookPath, u.auth(), nil).refused(404, "webhook_not_found")
	u.do("GET", hookPath+"/deliveries", u.auth(), nil).refused(404, "webhook_not_found")

	made := u.put(map[string]any{"headers": map[string]string{"X-Token": "hush", "X-A'b|c": "1"}}).ok(200)
	require.Regexp(t, `^whsec_[A-Za-z0-9+/]{43}=$`, made["secret"])
	require.Equal(t, []any{"shop", []any{"*"}, []any{"X-A'b|c", "X-Token"}, true}, []any{made["sessionId"], made["events"], made["headerNames"], made["isActive"]})
	shown := u.do("GET", hookPath, u.auth(), nil)
	require.Equal(t, made["id"], shown.ok(200)["id"])
	require.NotContains(t, shown.text, "whsec_")
	require.NotContains(t, shown.text, "hush")
	row := modelstest.Scalar[string](t, w.db, `SELECT encode(secret, 'escape') || encode(headers, 'escape') FROM webhooks`)
	require.NotContains(t, row, "hush")

	sealed := func() []byte { return modelstest.Scalar[[]byte](t, w.db, `SELECT secret FROM webhooks`) }
	before := sealed()
	require.Equal(t, []any{"X-A'b|c", "X-Token"}, u.put(map[string]any{"headers": nil}).ok(200)["headerNames"], "left out, they stay")
	require.Equal(t, []any{"X-A'b|c", "X-Token"}, u.put(map[string]any{"url": "https://example.com/other"}).ok(200)["headerNames"], "the same host")
	require.Equal(t, []any{"X-Token"}, u.put(map[string]any{"headers": map[string]string{"X-Token": "hush"}}).ok(200)["headerNames"])
	for _, elsewhere := range []string{"http://example.com/hook", "https://example.com:8443/hook", "https://example.org/hook"} {
		require.Equal(t, []any{}, u.put(map[string]any{"url": elsewhere}).ok(200)["headerNames"], "they are for nobody else: %s", elsewhere)
		u.put(map[string]any{"headers": map[string]string{"X-Token": "hush"}}).ok(200)
	}
	require.Equal(t, []any{}, u.put(map[string]any{"headers": map[string]string{}}).ok(200)["headerNames"], "an empty object takes them away")
	kept := u.put(map[string]any{"events": []string{"message.read", "message.read", "*"}, "isActive": false, "ordered": true}).ok(200)
	require.Equal(t, []any{made["id"], nil, false, true, []any{}}, []any{kept["id"], kept["secret"], kept["isActive"], kept["ordered"], kept["headerNames"]})
	require.Equal(t, before, sealed(), "the secret should be kept")

	own := strings.Repeat("s", 24)
	require.Equal(t, "whsec_"+base64.StdEncoding.EncodeToString([]byte(own)), u.put(map[string]any{"secret": own}).ok(200)["secret"])
	require.NotEqual(t, before, sealed())
	require.Equal(t, map[int]int{200: 8}, parallel(8, func(int) int { return u.put(nil).status }))
	require.EqualValues(t, 1, w.count("webhooks"))
	require.EqualValues(t, 1, w.count("lanes WHERE kind = 'WEBHOOK'"))
	u.do("DELETE", hookPath, u.auth(), nil).ok(200)
	require.EqualValues(t, 0, w.count("webhooks"))
	require.EqualValues(t, 0, w.count("lanes WHERE kind = 'WEBHOOK'"))
	require.Equal(t, map[int]int{200: 8}, parallel(8, func(int) int { return u.put(nil).status }), "the first of many at once")
	require.EqualValues(t, 1, w.count("webhooks"))
}

func TestWebhooksThatAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	before := w.rows()
	for _, url := range []string{"http://127.0.0.1/", "https://127.0.0.1:8000/", "http://localhost/", "http://LOCALHOST./", "http://a.localhost/", "http://169.254.169.254/latest", "http://10.0.0.1/",
		"http://192.168.1.1/", "http://172.16.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[fd00::1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://0/", "http://0.0.0.0/",
		"http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://user:hunter2@example.com/", "http://user@example.com/", "ftp://example.com/", "file:///etc/passwd", "//example.com/", "example.com",
		"https://", "https:///x", "http://example.com:0/", "http://example.com:99999/", "https://example.com/#x", "https://exa mple.com/", "javascript:alert(1)", "https://example.com/\\@127.0.0.1", "https://" + strings.Repeat("a", 2048)} {
		a := u.put(map[string]any{"url": url}).refused(422, "invalid_request")
		require.Equal(t, "url", a.body["details"].([]any)[0].(map[string]any)["field"], url)
		require.NotContains(t, a.text, "hunter2", "credentials in a URL are not repeated")
	}
	for _, headers := range []map[string]string{{"Host": "x"}, {"content-type": "x"}, {"Content-Length": "1"}, {"webhook-id": "x"}, {"Webhook-Signature": "x"}, {"Connection": "close"}, {"Transfer-Encoding": "chunked"},
		{"X-Hub-Signature-256": "x"}, {"": "x"}, {"a b": "x"}, {"X-A": "a\r\nX-B: c"}, {"X-A": " a"}, {"X-A": "é"}, {"X-A": "1", "x-a": "2"}, {"X-A": strings.Repeat("x", 5000)}, many(21)} {
		a := u.put(map[string]any{"headers": headers}).refused(422, "invalid_request")
		require.Equal(t, "headers", a.body["details"].([]any)[0].(map[string]any)["field"], headers)
	}
	for _, events := range [][]string{{}, {""}, {"message"}, {"message.read", "message.*"}, {"MESSAGE.READ"}, {" *"}, {strings.Repeat("x", 500)}} {
		a := u.put(map[string]any{"events": events}).refused(422, "invalid_request")
		require.Contains(t, a.text, `"field":"events`, events)
	}
	for _, secret := range []string{"", "short", "whsec_", "whsec_AAAA", "whsec_" + strings.Repeat("!", 32), strings.Repeat("x", 65), " " + strings.Repeat("x", 30)} {
		a := u.put(map[string]any{"secret": secret}).refused(422, "invalid_request")
		require.Contains(t, a.text, `"field":"secret"`, secret)
	}
	w.unchanged(before, "refused webhooks")
}

func many(n int) map[string]string {
	headers := map[string]string{}
	for i := range n {
		headers[fmt.Sprintf("X-%d", i)] = "x"
	}
	return headers
}

func TestDeliveries(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	u.put(nil).ok(200)
	hook := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT id FROM webhooks`)
	w.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence, status) SELECT $1, gen_random_uuid(), 'message.read', n, CASE WHEN n % 3 = 0 THEN 'FAILED' ELSE 'DELIVERED' END FROM generate_series(1, 10) n`, hook)
	require.Contains(t, u.do("GET", hookPath+"/deliveries?status=pending", u.auth(), nil).text, `"deliveries":[],"nextCursor":null`)
	for _, limit := range []int{1, 3, 9, 10, 11} {
		require.Len(t, u.pages(hookPath+"/deliveries", "deliveries", limit), 10)
	}
	failed := u.do("GET", hookPath+"/deliveries?status=failed", u.auth(), nil).ok(200)["deliveries"].([]any)
	require.Len(t, failed, 3)
	require.EqualValues(t, 9, failed[0].(map[string]any)["sequence"])
	id := uuid.MustParse(str(failed[0].(map[string]any), "id"))
	w.exec(`INSERT INTO webhook_attempts (delivery_id, attempt, response_code, response_body, duration_ms) VALUES ($1, 2, 500, 'oh', 7), ($1, 1, NULL, NULL, 5)`, id)
	log := u.do("GET", "/api/v1/webhook-deliveries/"+id.String(), u.auth(), nil).ok(200)["attemptLog"].([]any)
	require.Len(t, log, 2)
	require.EqualValues(t, 500, log[1].(map[string]any)["responseCode"])
	u.do("GET", "/api/v1/webhook-deliveries/"+models.NewID().String(), u.auth(), nil).refused(404, "delivery_not_found")
}
