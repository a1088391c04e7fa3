package api_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

func (t *tenant) create(fields map[string]any) *answer {
	t.Helper()
	return t.do("POST", "/api/v1/sessions", t.auth(), fields)
}

func named(id string) map[string]any { return map[string]any{"name": id, "sessionId": id} }

func TestCreateSession(t *testing.T) {
	t.Parallel()
	w := start(t)
	u, other := w.register("u"), w.register("other")
	before := w.rows()
	a := u.create(named("shop")).refused(503, "no_worker_available")
	require.Equal(t, "30", a.header.Get("Retry-After"))
	u.create(map[string]any{"name": "x", "webhook": map[string]any{"url": "ftp://example.com"}}).refused(422, "invalid_request")
	w.unchanged(before, "no worker")
	w.worker()

	a = u.create(map[string]any{"name": "Personal WhatsApp", "sessionId": "user123-personal", "metadata": map[string]any{"a": 1}})
	data := a.ok(202)
	require.Equal(t, []any{"user123-personal", "user123-personal", "Personal WhatsApp", "initializing", "w1", "running"},
		[]any{data["sessionId"], data["id"], data["name"], data["status"], data["workerId"], data["desired"]})
	require.Equal(t, "/api/v1/jobs/"+str(data, "jobId"), a.header.Get("Location"))
	require.Empty(t, a.header.Values("Preference-Applied"))
	job := u.do("GET", a.header.Get("Location"), u.auth(), nil).ok(200)
	require.Equal(t, []any{"queued", "session:create", map[string]any{"sessionId": "user123-personal"}}, []any{job["status"], job["type"], job["subject"]})
	require.Equal(t, "user123-personal", u.do("GET", "/api/v1/sessions/user123-personal", bearer(str(data, "apiKey")), nil).ok(200)["id"])

	before = w.rows()
	u.create(named("user123-personal")).refused(409, "session_exists")
	taken := other.create(named("user123-personal")).refused(409, "session_exists")
	require.NotContains(t, taken.text, "Personal")
	for _, id := range []string{"-a", "_a", "a b", "ä", "a/b", strings.Repeat("a", 65), "a\n", "../x"} {
		u.create(named(id)).refused(422, "invalid_request")
	}
	u.create(map[string]any{"name": "  "}).refused(422, "invalid_request")
	for field, hook := range map[string]map[string]any{"webhook.url": {"url": "http://127.0.0.1/"}, "webhook.events": {"url": "https://example.com", "events": []string{"x"}}, "webhook.secret": {"url": "https://example.com", "secret": "short"}} {
		a := u.create(map[string]any{"name": "x", "webhook": hook}).refused(422, "invalid_request")
		require.Equal(t, field, a.body["details"].([]any)[0].(map[string]any)["field"])
	}
	w.unchanged(before, "refused sessions")
	require.Regexp(t, `^s-[a-z0-9]{16}$`, u.create(map[string]any{"name": "x"}).ok(202)["sessionId"])
	u.create(named(strings.Repeat("a", 64))).ok(202)
	hooked := u.create(map[string]any{"name": "x", "webhook": map[string]any{"url": "https://example.com/"}}).ok(202)
	require.Regexp(t, `^whsec_`, hooked["webhook"].(map[string]any)["secret"])
}

func TestParallelCreatesKeepTheTier(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	w.exec(`UPDATE users SET tier = 'BASIC'`)
	require.Equal(t, map[int]int{202: 1, 403: 19}, parallel(20, func(i int) int { return u.create(named(fmt.Sprintf("s%d", i))).status }))
	require.EqualValues(t, 1, w.count("sessions"))
	u.create(named("more")).refused(403, "session_limit")
	w.exec(`UPDATE users SET tier = 'MAX'`)
	require.Equal(t, map[int]int{202: 1, 409: 19}, parallel(20, func(int) int { return u.create(named("one-name")).status }))
	require.EqualValues(t, 2, w.count("jobs"))
}

// pages reads a list to its end and returns the IDs in it.
func (t *tenant) pages(path, plural string, limit int) []string {
	t.Helper()
	var ids []string
	cursor := ""
	for range 100 {
		data := t.do("GET", fmt.Sprintf("%s?limit=%d&cursor=%s", path, limit, cursor), t.auth(), nil).ok(200)
		list := data[plural].([]any)
		require.LessOrEqual(t, len(list), limit)
		for _, one := range list {
			ids = append(ids, str(one.(map[string]any), "id"))
		}
		if data["nextCursor"] == nil {
			return ids
		}
		cursor = fmt.Sprint(data["nextCursor"])
		require.NotEmpty(t, list)
	}
	t.Fatalf("%s has no end", path)
	return nil
}

func TestListSessions(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, other := w.register("u"), w.register("other")
	require.Contains(t, w.do("GET", "/api/v1/sessions", u.auth(), nil).text, `"sessions":[],"nextCursor":null`)
	other.session("foreign")
	var want []string
	for i := range 12 {
		u.session(fmt.Sprintf("s%d", i))
		want = append([]string{fmt.Sprintf("s%d", i)}, want...)
	}
	for _, limit := range []int{1, 3, 4, 11, 12, 13, 200} {
		require.Equal(t, want, u.pages("/api/v1/sessions", "sessions", limit), "limit %d", limit)
	}
	require.Len(t, u.pages("/api/v1/jobs", "jobs", 5), 12)
	u.do("DELETE", "/api/v1/sessions/s3", u.auth(), nil).ok(202)
	require.NotContains(t, u.pages("/api/v1/sessions", "sessions", 5), "s3")
	require.Equal(t, "Renamed", u.do("PATCH", "/api/v1/sessions/s4", u.auth(), map[string]any{"name": "Renamed"}).ok(200)["name"])
	require.Equal(t, "Renamed", u.do("GET", "/api/v1/sessions/s4", u.auth(), nil).ok(200)["name"])
}

func TestStatusWithoutItsWorker(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	data := u.do("GET", "/api/v1/sessions/shop/status", u.auth(), nil).ok(200)
	require.Equal(t, []any{"shop", "initializing", "database"}, []any{data["sessionId"], data["status"], data["source"]})
	u.do("GET", "/api/v1/sessions/shop/qr", u.auth(), nil).refused(409, "qr_not_ready")
	w.exec(`UPDATE sessions SET status = 'QR_REQUIRED', qr_code = 'x', qr_expires_at = now() - interval '1 second'`)
	a := u.do("GET", "/api/v1/sessions/shop/qr", append(u.auth(), "Accept", "image/png"), nil).refused(409, "qr_not_ready")
	require.Equal(t, "1", a.header.Get("Retry-After"))
}

// From creation to deletion, with a worker and phones.
func TestLifeOfASession(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.runner()
	phones := w.phones(simnet.Config{ScanDelay: -1})
	u, other := w.register("u"), w.register("other")

	a := u.do("POST", "/api/v1/sessions", append(u.auth(), "Prefer", "respond-async, wait=20"), named("shop"))
	data := a.ok(200)
	require.Equal(t, "wait=20", a.header.Get("Preference-Applied"))
	require.Equal(t, "qr_required", data["status"])
	key := str(data, "apiKey")
	u.eventually("the job's success", func() bool {
		return u.do("GET", a.header.Get("Location"), u.auth(), nil).ok(200)["status"] == "succeeded"
	})
	qr := u.do("GET", "/api/v1/sessions/shop/qr", bearer(key), nil)
	require.Equal(t, "no-store", qr.header.Get("Cache-Control"))
	encoded, ok := strings.CutPrefix(str(qr.ok(200), "qrCode"), "data:image/png;base64,")
	require.True(t, ok)
	fromJSON, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	picture := u.do("GET", "/api/v1/sessions/shop/qr", append(bearer(key), "Accept", "image/png"), nil)
	require.Equal(t, []any{200, "image/png"}, []any{picture.status, picture.header.Get("Content-Type")})
	for _, raw := range [][]byte{fromJSON, []byte(picture.text)} {
		decoded, err := png.Decode(bytes.NewReader(raw))
		require.NoError(t, err)
		require.Equal(t, 320, decoded.Bounds().Dx())
	}
	u.do("POST", "/api/v1/sessions/shop/send", bearer(key), text("6281234567890", "too early")).refused(409, "session_not_linked")

	uid := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT uid FROM sessions`)
	resp, err := client.Post(phones+"/sessions/"+uid.String()+"/scan", "application/json", nil)
	require.NoError(t, err)
	require.Equal(t, 200, read(t, resp).status)
	u.eventually("the connection", func() bool {
		return u.do("GET", "/api/v1/sessions/shop", u.auth(), nil).ok(200)["status"] == "connected"
	})
	live := u.do("GET", "/api/v1/sessions/shop/status", bearer(key), nil).ok(200)
	require.Equal(t, []any{"connected", "worker"}, []any{live["status"], live["source"]})
	u.do("GET", "/api/v1/sessions/shop/qr", u.auth(), nil).refused(409, "already_linked")

	rotated := str(u.do("POST", "/api/v1/sessions/shop/api-key/rotate", u.auth(), nil).ok(200), "apiKey")
	u.do("GET", "/api/v1/sessions/shop", bearer(key), nil).refused(401, "invalid_api_key")
	u.do("GET", "/api/v1/sessions/shop", bearer(rotated), nil).ok(200)
	statuses := parallel(6, func(int) int { return u.do("POST", "/api/v1/sessions/shop/api-key/rotate", u.auth(), nil).status })
	require.Equal(t, 6, statuses[200]+statuses[409], statuses)
	require.EqualValues(t, 1, w.count("api_keys WHERE session_uid = $1 AND is_active", uid))

	deleted := u.do("DELETE", "/api/v1/sessions/shop", u.auth(), nil)
	require.Equal(t, "deleting", deleted.ok(202)["status"])
	u.do("GET", "/api/v1/sessions/shop", u.auth(), nil).refused(404, "session_not_found")
	u.do("DELETE", "/api/v1/sessions/shop", u.auth(), nil).refused(404, "session_not_found")
	other.create(named("shop")).refused(409, "session_exists")
	u.eventually("the deletion's success", func() bool {
		return u.do("GET", deleted.header.Get("Location"), u.auth(), nil).ok(200)["status"] == "succeeded"
	})
	other.create(named("shop")).refused(409, "session_exists")
	again := u.create(named("shop")).ok(202)
	u.do("GET", "/api/v1/sessions/shop", bearer(rotated), nil).refused(401, "invalid_api_key")
	u.do("GET", "/api/v1/sessions/shop", bearer(str(again, "apiKey")), nil).ok(200)
}

func TestNameOfADeletedSession(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	require.Equal(t, map[int]int{202: 1, 404: 9}, parallel(10, func(int) int { return u.do("DELETE", "/api/v1/sessions/shop", u.auth(), nil).status }))
	require.EqualValues(t, 1, w.count("jobs WHERE kind = 'session:delete'"))
	u.create(named("shop")).refused(409, "session_deleting")
	w.exec(`UPDATE sessions SET released_at = now(), worker_id = NULL`)
	u.create(named("shop")).ok(202)
}

// Preferences are wishes: none is ever an error.
func TestPreferences(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	send := func(prefer string) *answer {
		return u.do("POST", "/api/v1/sessions/shop/send", append(u.auth(), "Prefer", prefer), text("6281234567890", "hello"))
	}
	for _, prefer := range []string{"", "wait", "wait=", "wait=0", "wait=-1", "wait=abc", "wait=99999999999999999999", "respond-async", "return=minimal", ",,,", "wait=1.5"} {
		a := send(prefer)
		a.ok(202)
		require.Empty(t, a.header.Values("Preference-Applied"), prefer)
	}
	for _, prefer := range []string{"wait=1", ` WAIT = "1" , foo`} {
		began := time.Now()
		a := send(prefer)
		require.Equal(t, "pending", a.ok(202)["status"])
		require.Equal(t, "wait=1", a.header.Get("Preference-Applied"))
		require.GreaterOrEqual(t, time.Since(began), time.Second)
	}
}
