package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/jobs"
	"kurir/models"
	"kurir/models/modelstest"
)

// Both kinds of webhook, by the same calls.
var hookPaths = []string{hookPath, "/api/v1/webhook"}

func TestAccountWebhook(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, other := w.register("u"), w.register("other")
	u.session("shop")
	const path = "/api/v1/webhook"
	for _, call := range []struct{ method, path string }{{"GET", path}, {"DELETE", path}, {"GET", path + "/deliveries"}, {"POST", path + "/rotate-secret"}, {"POST", path + "/test"}} {
		u.do(call.method, call.path, u.auth(), nil).refused(404, "webhook_not_found")
	}
	made := u.do("PUT", path, u.auth(), map[string]any{"url": "https://example.com/all", "ordered": true, "onFailure": "skip", "skipAfter": 3}).ok(200)
	require.Nil(t, made["sessionId"])
	require.Equal(t, []any{true, "skip", 3.0, true, 0.0, nil}, []any{made["ordered"], made["onFailure"], made["skipAfter"], made["isActive"], made["waiting"], made["previousSecretUntil"]})
	require.Regexp(t, `^whsec_`, made["secret"])
	own := u.put(nil).ok(200)
	require.Equal(t, []any{"shop", "block", 5.0}, []any{own["sessionId"], own["onFailure"], own["skipAfter"]})
	require.NotEqual(t, made["id"], own["id"])
	require.Equal(t, made["id"], u.do("GET", path, u.auth(), nil).ok(200)["id"])
	other.do("GET", path, other.auth(), nil).refused(404, "webhook_not_found")
	require.Equal(t, map[int]int{200: 8}, parallel(8, func(int) int {
		return u.do("PUT", path, u.auth(), map[string]any{"url": "https://example.com/all"}).status
	}))
	require.EqualValues(t, 2, w.count("webhooks"))

	// What happens reaches both, and the account's outlives the session.
	key := u.do("POST", "/api/v1/sessions/shop/api-key/rotate", u.auth(), nil).ok(200)["apiKey"].(string)
	w.do("PUT", path, bearer(key), map[string]any{"url": "https://example.com/"}).refused(403, "forbidden")
	u.do("DELETE", "/api/v1/sessions/shop", u.auth(), nil).ok(202)
	require.EqualValues(t, 1, w.count("webhooks"))
	list := u.do("GET", path+"/deliveries", u.auth(), nil).ok(200)["deliveries"].([]any)
	require.Len(t, list, 1)
	require.Equal(t, "session.status", list[0].(map[string]any)["event"])
	require.EqualValues(t, 1, u.do("GET", path, u.auth(), nil).ok(200)["waiting"])
	u.do("DELETE", path, u.auth(), nil).ok(200)
	require.EqualValues(t, 0, w.count("webhooks")+w.count("lanes WHERE kind = 'WEBHOOK'")+w.count("webhook_deliveries WHERE webhook_id NOT IN (SELECT id FROM deleted_webhooks)"))
}

func TestPoliciesThatAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	for _, fields := range []map[string]any{{"onFailure": "wait"}, {"onFailure": ""}, {"skipAfter": 0}, {"skipAfter": 51}, {"skipAfter": -1}, {"skipAfter": 1.5}, {"onFailure": "BLOCK"}} {
		u.put(fields).refused(422, "invalid_request")
	}
	require.EqualValues(t, 0, w.count("webhooks"))
}

// secrets are those that sign now, the current one first.
func (w *world) secrets() []string {
	w.Helper()
	open := func(column string) string {
		sealed := modelstest.Scalar[[]byte](w, w.db, `SELECT coalesce(CASE WHEN '`+column+`' = 'secret' OR previous_until > now() THEN `+column+` END, '') FROM webhooks`)
		if len(sealed) == 0 {
			return ""
		}
		plain, err := w.vault.Open(jobs.SealSecret, sealed)
		require.NoError(w, err)
		return string(plain)
	}
	return []string{open("secret"), open("previous_secret")}
}

func TestSecretRotation(t *testing.T) {
	t.Parallel()
	for _, path := range hookPaths {
		w := start(t)
		w.worker()
		u := w.register("u")
		u.session("shop")
		put := func(secret any) string {
			return str(u.do("PUT", path, u.auth(), map[string]any{"url": "https://example.com/", "secret": secret}).ok(200), "secret")
		}
		rotate := func(body any) map[string]any {
			return u.do("POST", path+"/rotate-secret", u.auth(), body).ok(200)
		}
		first := put(strings.Repeat("a", 24))
		require.Equal(t, []string{first, ""}, w.secrets())
		require.Equal(t, first, put(strings.Repeat("a", 24)))
		require.Equal(t, []string{first, ""}, w.secrets(), "the same one is no rotation")

		data := rotate(nil)
		second := str(data, "secret")
		require.Equal(t, []string{second, first}, w.secrets())
		until, err := time.Parse(time.RFC3339Nano, str(data, "previousSecretUntil"))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(24*time.Hour), until, time.Minute)
		shown := u.do("GET", path, u.auth(), nil)
		require.NotContains(t, shown.text, "whsec_")
		require.Equal(t, data["previousSecretUntil"], shown.ok(200)["previousSecretUntil"])

		for _, body := range []any{nil, map[string]any{}, map[string]any{"force": false}} {
			u.do("POST", path+"/rotate-secret", u.auth(), body).refused(409, "rotation_in_progress")
		}
		require.Equal(t, []string{second, first}, w.secrets(), "receivers keep the secret that they hold")
		third := str(rotate(map[string]any{"secret": strings.Repeat("c", 30)}), "secret")
		require.Equal(t, []string{third, second}, w.secrets(), "the newest two sign")
		require.Equal(t, third, str(rotate(map[string]any{"secret": third}), "secret"))
		require.Equal(t, []string{third, second}, w.secrets(), "the one that it has changes nothing")
		require.Equal(t, second, str(rotate(map[string]any{"secret": second}), "secret"))
		require.Equal(t, []string{second, third}, w.secrets(), "back again")
		fourth := put(strings.Repeat("d", 24))
		require.Equal(t, []string{fourth, second}, w.secrets(), "setting another one rotates too")
		w.exec(`UPDATE webhooks SET previous_until = now() - interval '1 second'`)
		require.Nil(t, u.do("GET", path, u.auth(), nil).ok(200)["previousSecretUntil"])

		for _, body := range []any{map[string]any{"secret": "short"}, map[string]any{"secret": ""}, map[string]any{"secret": 7}, map[string]any{"other": 1}} {
			u.do("POST", path+"/rotate-secret", u.auth(), body).refused(422, "invalid_request")
		}
		require.Equal(t, map[int]int{200: 1, 409: 7}, parallel(8, func(int) int { return u.do("POST", path+"/rotate-secret", u.auth(), nil).status }))
		require.Equal(t, fourth, w.secrets()[1])
		fifth := str(rotate(map[string]any{"force": true}), "secret")
		require.Equal(t, fifth, w.secrets()[0])
		require.NotContains(t, w.secrets(), fourth)
		require.NotContains(t, w.log.String(), "whsec_")
	}
}

// receiver is an endpoint that verifies and counts.
type receiver struct {
	url    string
	came   atomic.Int64
	status atomic.Int64
	bad    atomic.Int64
	secret atomic.Value
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.status.Store(204)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if secret, ok := r.secret.Load().(string); ok {
			verifier, err := standard.NewWebhook(secret)
			if err != nil || verifier.Verify(body, req.Header) != nil {
				r.bad.Add(1)
			}
		}
		r.came.Add(1)
		w.WriteHeader(int(r.status.Load()))
		if r.status.Load() != 204 {
			_, _ = io.WriteString(w, strings.Repeat("é", 5000))
		}
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func TestTestEventsAndReplays(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)), allowLoopback)
	w.worker()
	w.runner()
	w.clockwork()
	u := w.register("u")
	u.session("shop")
	for _, path := range hookPaths {
		r := newReceiver(t)
		made := u.do("PUT", path, u.auth(), map[string]any{"url": r.url, "events": []string{"call.received"}}).ok(200)
		r.secret.Store(str(made, "secret"))
		wait := append(u.auth(), "Prefer", "wait=20")

		sent := u.do("POST", path+"/test", wait, nil)
		data := sent.ok(200)
		require.Equal(t, "wait=20", sent.header.Get("Preference-Applied"))
		require.Equal(t, []any{"webhook.test", "delivered", 1.0, 204.0, 1.0}, []any{data["event"], data["status"], data["attempts"], data["responseCode"], data["sequence"]})
		require.Len(t, data["attemptLog"], 1)
		require.Equal(t, "/api/v1/webhook-deliveries/"+str(data, "id"), sent.header.Get("Location"))
		require.EqualValues(t, 1, r.came.Load())

		r.status.Store(500)
		failed := u.do("POST", path+"/test", wait, nil).ok(200)
		require.Equal(t, []any{"retrying", 500.0, "answered with status 500"}, []any{failed["status"], failed["responseCode"], failed["error"]})
		require.Equal(t, strings.Repeat("é", 2048), failed["responseBody"], "the first 4 KB")
		r.status.Store(204)
		again := u.do("POST", "/api/v1/webhook-deliveries/"+str(failed, "id")+"/replay", wait, nil).ok(200)
		require.Equal(t, []any{failed["id"], failed["eventId"], failed["sequence"], "delivered", 2.0}, []any{again["id"], again["eventId"], again["sequence"], again["status"], again["attempts"]})

		// The answer does not wait unless asked to; a repeated request is one.
		once := append(u.auth(), "Idempotency-Key", "k"+path)
		one := u.do("POST", path+"/test", once, nil)
		require.Contains(t, []int{200, 202}, one.status, "it may be there before the answer")
		two := u.do("POST", path+"/test", once, nil)
		require.Equal(t, []any{one.ok(one.status)["id"], "true"}, []any{two.ok(one.status)["id"], two.header.Get("Idempotency-Replayed")})
		w.eventually("the third test", func() bool { return r.came.Load() == 4 })

		job := u.do("POST", path+"/replay", u.auth(), map[string]any{"since": time.Now().Add(-time.Hour)})
		id := str(job.ok(202), "jobId")
		var result map[string]any
		w.eventually("the replay", func() bool {
			result = u.do("GET", "/api/v1/jobs/"+id, u.auth(), nil).ok(200)
			return result["status"] == "succeeded"
		})
		require.Equal(t, "webhook:replay", result["type"])
		require.EqualValues(t, 3, result["result"].(map[string]any)["replayed"], result)
		require.NotNil(t, result["progress"])
		w.eventually("all three again", func() bool { return r.came.Load() == 7 })
		require.Zero(t, r.bad.Load(), "each is signed")

		u.do("PUT", path, u.auth(), map[string]any{"url": r.url, "isActive": false}).ok(200)
		u.do("POST", path+"/test", u.auth(), nil).refused(409, "webhook_inactive")
		u.do("POST", path+"/replay", u.auth(), map[string]any{"since": time.Now().Add(-time.Hour)}).refused(409, "webhook_inactive")
		u.do("POST", "/api/v1/webhook-deliveries/"+str(failed, "id")+"/replay", u.auth(), nil).refused(409, "webhook_inactive")
		require.EqualValues(t, 7, r.came.Load())
	}
}

func TestReplaysThatAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	u.put(nil).ok(200)
	before := w.rows()
	hour := time.Hour
	for _, body := range []any{nil, map[string]any{}, map[string]any{"since": "yesterday"}, map[string]any{"since": time.Now().Add(hour)}, map[string]any{"since": time.Now().Add(-hour), "until": time.Now().Add(-2 * hour)},
		map[string]any{"since": time.Now().Add(-hour), "status": "pending"}, map[string]any{"since": time.Now().Add(-hour), "until": nil, "x": 1}} {
		a := u.do("POST", hookPath+"/replay", u.auth(), body)
		require.Contains(t, []int{400, 422}, a.status, a.text)
		a.isFailure()
	}
	w.unchanged(before, "refused replays")
	ok := map[string]any{"since": "0001-01-02T00:00:00Z", "until": "9999-12-31T23:59:59Z"}
	require.Equal(t, map[int]int{202: 1, 409: 7}, parallel(8, func(int) int { return u.do("POST", hookPath+"/replay", u.auth(), ok).status }))
	u.do("POST", hookPath+"/replay", u.auth(), ok).refused(409, "replay_in_progress")

	w.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence, status) SELECT id, gen_random_uuid(), 'message.read', 1, 'FAILED' FROM webhooks`)
	id := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT id FROM webhook_deliveries`)
	u.do("POST", "/api/v1/webhook-deliveries/"+id.String()+"/replay", u.auth(), nil).refused(409, "event_not_kept")
	u.do("POST", "/api/v1/webhook-deliveries/"+models.NewID().String()+"/replay", u.auth(), nil).refused(404, "delivery_not_found")
}

func TestDeliveryFilters(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("other")
	u.session("shop")
	u.put(nil).ok(200)
	// One a minute, the oldest first; each third failed, each seventh a call.
	w.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence, status, created_at) SELECT h.id, gen_random_uuid(), CASE WHEN n % 7 = 0 THEN 'call.received' ELSE 'message.read' END, n,
		CASE WHEN n % 3 = 0 THEN 'FAILED' ELSE 'DELIVERED' END, now() - (100 - n) * interval '1 minute' FROM webhooks h, generate_series(1, 100) n`)
	ago := func(minutes float64) string {
		return time.Now().Add(-time.Duration(minutes * float64(time.Minute))).UTC().Format(time.RFC3339Nano)
	}
	below := func(sequence int) string { // the cursor of a page that ends with it
		page := u.do("GET", fmt.Sprintf("%s/deliveries?limit=%d", hookPath, 101-sequence), u.auth(), nil).ok(200)
		return "&cursor=" + str(page, "nextCursor")
	}
	for query, want := range map[string]string{
		"event=call.received&status=failed":                      "[84 63 42 21]",
		"since=" + ago(2.5):                                      "[100 99 98]",
		"until=" + ago(97.5):                                     "[2 1]",
		"since=" + ago(10.5) + "&until=" + ago(8.5):              "[91 90]",
		"since=" + ago(10.5) + "&status=failed" + below(96):      "[93 90]",
		"since=" + ago(-5):                                       "[]",
		"until=" + ago(500):                                      "[]",
		"since=" + ago(1.5) + "&until=" + ago(5):                 "[]",
		"since=0001-01-01T00:00:00Z&event=call.received":         "[98 91 84 77 70 63 56 49 42 35 28 21 14 7]",
		"until=9999-12-31T23:59:59Z&status=failed" + below(10):   "[9 6 3]",
		"status=retrying":                                        "[]",
		"event=session.qr":                                       "[]",
		"event=call.received&until=" + ago(85.5) + below(30):     "[14 7]",
		"event=call.received&status=delivered&since=" + ago(9.5): "[98 91]",
	} {
		var got []any
		for _, d := range u.do("GET", hookPath+"/deliveries?"+query, u.auth(), nil).ok(200)["deliveries"].([]any) {
			got = append(got, d.(map[string]any)["sequence"])
		}
		require.Equal(t, want, fmt.Sprint(got), query)
	}
	for _, query := range []string{"event=nothing", "event=*", "status=gone", "since=yesterday", "limit=0", "event=" + strings.Repeat("x", 100)} {
		u.do("GET", hookPath+"/deliveries?"+query, u.auth(), nil).refused(422, "invalid_request")
	}
	of := str(u.do("GET", "/api/v1/sessions?limit=1", u.auth(), nil).ok(200), "nextCursor") // of another kind of list
	require.NotEmpty(t, of)
	good := below(50)[len("&cursor="):]
	for _, cursor := range []string{"96", "-1", "0", "x", good + "=", good[1:], good[:len(good)-1], of} {
		u.do("GET", hookPath+"/deliveries?cursor="+cursor, u.auth(), nil).refused(422, "invalid_cursor")
		u.do("GET", "/api/v1/webhook/deliveries?cursor="+cursor, u.auth(), nil).refused(422, "invalid_cursor")
	}
}

// A page looks through a bounded number of deliveries and says where the next one begins.
func TestDeliveryPagesAreBounded(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	u.put(nil).ok(200)
	w.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence, status) SELECT h.id, gen_random_uuid(), CASE WHEN n = 3 THEN 'call.received' ELSE 'message.read' END, n, 'DELIVERED' FROM webhooks h, generate_series(1, 25000) n`)
	pages, cursor := 0, ""
	var found []any
	for {
		data := u.do("GET", hookPath+"/deliveries?event=call.received"+cursor, u.auth(), nil).ok(200)
		found = append(found, data["deliveries"].([]any)...)
		pages++
		if data["nextCursor"] == nil {
			break
		}
		cursor = "&cursor=" + str(data, "nextCursor")
	}
	require.Len(t, found, 1)
	require.Equal(t, 3, pages)
}
