package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// pretender answers as a worker would, or not.
func pretender(t testing.TB, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s.URL
}

// says answers in the worker's form.
func says(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "data": data})
}

// refuses answers with a worker's refusal.
func refuses(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"success":false,"error":"No.","code":%q}`, code)
}

// hang answers nothing until the caller has left.
func hang(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // net/http sees the caller leave when the body is read
	<-r.Context().Done()
}

// nobody is an endpoint where nothing listens.
func nobody(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return "http://" + l.Addr().String()
}

func (t *tenant) announce(fields map[string]any) *answer {
	t.Helper()
	return t.do("POST", workersPath, t.auth(), fields)
}

func (t *tenant) read(path string) *answer {
	t.Helper()
	return t.do("GET", "/api/v1"+path, t.auth(), nil)
}

func TestAnnounceWorker(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	secrets := make(chan string, 10)
	endpoint := pretender(t, func(w http.ResponseWriter, r *http.Request) {
		secrets <- r.Header.Get("Authorization") + r.Header.Get(wire.HeaderToken)
		says(w, wire.Health{Status: "ok", Engine: "simulator"})
	})
	// The brief's form.
	data := admin.announce(map[string]any{"endpoint": endpoint + "/", "maxSessions": 20}).ok(201)
	id := str(data, "workerId")
	require.Regexp(t, `^worker-ext-[a-z0-9]{8,}$`, id)
	require.Equal(t, []any{id, endpoint, "offline", 20.0, true, models.ProblemNotRegistered, 0.0}, []any{data["id"], data["endpoint"], data["status"],
		data["maxSessions"], data["reachable"], data["problem"], data["sessionCount"]})
	require.Equal(t, "Bearer", strings.TrimSpace(<-secrets), "who is there is not known yet, so no secret goes along")
	require.Equal(t, "offline", admin.read("/admin/workers/" + id).ok(200)["status"])
	require.Len(t, admin.read("/admin/workers").ok(200)["workers"], 1)
	w.register("u").create(named("shop")).refused(503, "no_worker_available")

	// It registers with more room than it was granted.
	w.ask(id, "", map[string]any{"endpoint": endpoint, "maxSessions": 500}).ok(200)
	worker := admin.read("/admin/workers/" + id).ok(200)
	require.Equal(t, []any{"online", 20.0, nil}, []any{worker["status"], worker["maxSessions"], worker["problem"]})

	before := w.rows()
	admin.announce(map[string]any{"workerId": id, "endpoint": "http://127.0.0.1:9"}).refused(409, "worker_exists")
	admin.announce(map[string]any{"endpoint": endpoint}).refused(409, "endpoint_taken")
	for field, values := range map[string][]any{
		"workerId":    {"metrics", "register", "broadcast", "-a", "a b", "a/b", "ä", "..", strings.Repeat("x", 65), "", 5},
		"endpoint":    {"", "nothing", "ftp://x", "http://", "http://u:p@x", "http://x?a=b", "http://x#a", "http://" + strings.Repeat("x", 2048), "javascript:alert(1)", "file:///etc/passwd"},
		"maxSessions": {-1, 1_000_001, "5", 1.5},
		"description": {strings.Repeat("x", 501), "a\x00b"},
	} {
		for _, value := range values {
			body := map[string]any{"endpoint": "http://127.0.0.1:9", field: value}
			require.Equal(t, 422, admin.announce(body).status, "%s=%.40v", field, value)
		}
	}
	w.unchanged(before, "refused announcements")
	require.EqualValues(t, 0, admin.announce(map[string]any{"workerId": "w0", "endpoint": nobody(t), "maxSessions": 0}).ok(201)["maxSessions"])
	require.EqualValues(t, 50, admin.announce(map[string]any{"workerId": "w50", "endpoint": nobody(t)}).ok(201)["maxSessions"])
	require.EqualValues(t, 3, w.audited("worker.announced"))
	require.EqualValues(t, 3, w.count("system_logs WHERE message = 'worker.announced' AND user_id = $1 AND service = 'api' AND level = 'INFO'", admin.id))
}

// Whatever is at the endpoint, the worker is announced, and the answer says what to do.
func TestAnnounceWorkerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	elsewhere := pretender(t, func(w http.ResponseWriter, _ *http.Request) { says(w, wire.Health{}) })
	for what, x := range map[string]struct{ endpoint, problem string }{
		"nobody":     {nobody(t), "Nobody can be reached"},
		"a hang":     {pretender(t, hang), "within 3 seconds"},
		"a web page": {pretender(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>hello")) }), "no worker of Kurir's"},
		"a redirect": {pretender(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, http.StatusFound) }), "no worker of Kurir's"},
		"a flood":    {pretender(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 3<<20)) }), "no worker of Kurir's"},
		"JSON":       {pretender(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"success":true,"data":5}`)) }), "no worker of Kurir's"},
		"a refusal":  {pretender(t, func(w http.ResponseWriter, _ *http.Request) { refuses(w, 403, "keep_out") }), "refuses to say how it is: keep_out"},
		"a break":    {pretender(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "Nobody can be reached"},
	} {
		began := time.Now()
		data := admin.announce(map[string]any{"endpoint": x.endpoint}).ok(201)
		require.Equal(t, []any{false, "offline"}, []any{data["reachable"], data["status"]}, what)
		require.Contains(t, data["problem"], x.problem, what)
		require.Contains(t, data["problem"], models.ProblemNotRegistered, what)
		require.Less(t, time.Since(began), 5*time.Second, what)
	}
	require.EqualValues(t, 8, w.count("workers"))
}

func TestAnnounceRemovedWorker(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	n := w.node("w1")
	admin.do("DELETE", workersPath+"/w1?force=true", admin.auth(), nil).ok(200)
	data := admin.announce(map[string]any{"workerId": "w1", "endpoint": nobody(t), "maxSessions": 3, "description": "again"}).ok(201)
	require.Equal(t, []any{"offline", 3.0, "again"}, []any{data["status"], data["maxSessions"], data["description"]})
	require.Greater(t, data["term"], float64(n.term))
	n.beat(nil).refused(409, "stale_term")
	w.lapse()
	n.again().ok(200) // it is wanted again, with its past
	require.Equal(t, "online", admin.read("/admin/workers/w1").ok(200)["status"])
	admin.announce(map[string]any{"workerId": "w1", "endpoint": nobody(t)}).refused(409, "worker_exists")
}

func TestAnnounceAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	endpoint := nobody(t)
	require.Equal(t, map[int]int{201: 1, 409: 9}, parallel(10, func(int) int {
		return admin.announce(map[string]any{"workerId": "w1", "endpoint": endpoint}).status
	}))
	require.EqualValues(t, 1, w.audited("worker.announced"))
}

func TestAnnounceOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	endpoint := nobody(t)
	for i, body := range []map[string]any{{"endpoint": endpoint}, {"endpoint": endpoint, "workerId": "w1", "maxSessions": 7}} {
		announce := func() *answer {
			return admin.do("POST", workersPath, keyed(admin.auth(), fmt.Sprint("k", i)), body)
		}
		id := announce().ok(201)["workerId"]
		again := announce()
		require.True(t, replayed(again))
		require.Equal(t, id, again.ok(201)["workerId"])
		// The process died after its commit.
		w.exec(`UPDATE idempotency_keys SET status_code = NULL, response = NULL, locked_until = now() - interval '1 second'`)
		taken := announce()
		require.False(t, replayed(taken))
		require.Equal(t, id, taken.ok(201)["workerId"])
		require.EqualValues(t, i+1, w.count("workers"))
	}
	require.EqualValues(t, 2, w.audited("worker.announced"))
	admin.do("POST", workersPath, keyed(admin.auth(), "k9"), map[string]any{"endpoint": endpoint, "workerId": "w1", "maxSessions": 8}).refused(409, "worker_exists")
}

func TestUpdateWorker(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker() // w1, of 1000
	admin, u := w.administrator(), w.register("u")
	u.session("a")
	data := admin.patch("w1", map[string]any{"maxSessions": 1, "description": "Rack 3"}).ok(200)
	require.Equal(t, []any{"w1", 1.0, "Rack 3", "online", 1.0}, []any{data["id"], data["maxSessions"], data["description"], data["status"], data["sessionCount"]})
	u.create(named("b")).refused(503, "no_worker_available")
	require.EqualValues(t, 1000, admin.patch("w1", map[string]any{"maxSessions": 1_000_000}).ok(200)["maxSessions"], "never more than it offers")
	u.session("b")

	require.Equal(t, "maintenance", admin.patch("w1", map[string]any{"status": "maintenance"}).ok(200)["status"])
	u.create(named("c")).refused(503, "no_worker_available")
	require.EqualValues(t, 2, w.count("sessions WHERE worker_id = 'w1' AND moving_to IS NULL"), "nothing moves")
	require.EqualValues(t, 0, w.count("jobs WHERE kind IN ('worker:drain', 'session:migrate')"))
	require.Equal(t, []any{"online", "Rack 3"}, []any{admin.patch("w1", map[string]any{"status": "online"}).ok(200)["status"], data["description"]})
	u.session("c")
	require.EqualValues(t, 4, w.count(`system_logs WHERE message = 'worker.changed' AND user_id = $1 AND worker_id = 'w1'`, admin.id))
	require.JSONEq(t, `{"status":"online"}`, modelstest.Scalar[string](t, w.db, `SELECT details::text FROM system_logs WHERE message = 'worker.changed' ORDER BY id DESC LIMIT 1`))

	before := w.rows()
	admin.patch("w1", map[string]any{}).refused(422, "invalid_request").contains("at least one of maxSessions, description and status")
	for _, bad := range []map[string]any{{"status": "offline"}, {"status": ""}, {"status": 1}, {"maxSessions": -1}, {"maxSessions": "x"}, {"endpoint": "http://x"}, {"description": strings.Repeat("x", 501)}} {
		admin.patch("w1", bad).refused(422, "invalid_request")
	}
	admin.patch("none", map[string]any{"status": "online"}).refused(404, "worker_not_found")
	w.unchanged(before, "refused changes")

	// Of one that is away, status is only a wish.
	w.exec(`UPDATE workers SET lease_expires_at = now(), status = 'OFFLINE'`)
	require.Equal(t, "offline", admin.patch("w1", map[string]any{"status": "maintenance"}).ok(200)["status"])
	require.True(t, modelstest.Scalar[bool](t, w.db, `SELECT maintenance FROM workers`))
	w.remove("w1")
	admin.patch("w1", map[string]any{"status": "online"}).refused(404, "worker_not_found")
}

func TestDrainIsAskedForOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	admin, second, u := w.administrator(), w.register("second"), w.register("u")
	w.exec(`UPDATE users SET role = 'ADMINISTRATOR' WHERE email = $1`, second.email)
	u.session("a")
	drain := func(by *tenant) *answer { return by.do("POST", workersPath+"/w1/drain", by.auth(), nil) }
	a := drain(admin)
	data := a.ok(202)
	require.Equal(t, []any{"w1", "draining"}, []any{data["workerId"], data["status"]})
	require.Equal(t, "/api/v1/jobs/"+str(data, "jobId"), a.header.Get("Location"))
	require.Equal(t, "maintenance", admin.read("/admin/workers/w1").ok(200)["status"])
	require.Equal(t, map[string]int{str(data, "jobId"): 10}, parallel(10, func(int) string { return str(drain(admin).ok(202), "jobId") }))
	w.eventually("the role", func() bool { return second.read("/admin/workers").status == 200 })
	require.Equal(t, data["jobId"], drain(second).ok(202)["jobId"])
	remove := func(by *tenant) any {
		return by.do("DELETE", workersPath+"/w1", by.auth(), nil).ok(202)["jobId"]
	}
	removal := remove(second)
	require.NotEqual(t, data["jobId"], removal, "a removal is more than a drain")
	require.Equal(t, removal, remove(admin))
	require.Equal(t, data["jobId"], drain(admin).ok(202)["jobId"])
	require.EqualValues(t, 2, w.count(`jobs WHERE kind = 'worker:drain' AND worker_id = 'w1'`))
	require.EqualValues(t, 13, w.audited("worker.drain_requested"))
	require.EqualValues(t, 2, w.audited("worker.removal_requested"))

	for _, by := range []*tenant{admin, second} { // whoever asked
		job := by.read("/jobs/" + str(data, "jobId")).ok(200)
		require.Equal(t, []any{"worker:drain", "queued", map[string]any{"workerId": "w1"}, nil, nil}, []any{job["type"], job["status"], job["subject"], job["progress"], job["result"]})
		by.read("/jobs/" + removal.(string)).ok(200)
	}
	require.Len(t, admin.read("/jobs").ok(200)["jobs"], 1)
	u.read("/jobs/"+str(data, "jobId")).refused(404, "job_not_found")
	w.do("GET", "/api/v1/jobs/"+str(data, "jobId"), headers{"X-Api-Key", second.key}, nil).refused(404, "job_not_found")

	before := w.rows()
	for _, order := range []struct{ method, path string }{{"POST", "/none/drain"}, {"DELETE", "/none"}, {"DELETE", "/none?force=true"}} {
		admin.do(order.method, workersPath+order.path, admin.auth(), nil).refused(404, "worker_not_found")
	}
	admin.do("DELETE", workersPath+"/w1?force=perhaps", admin.auth(), nil).refused(422, "invalid_request")
	w.unchanged(before, "refused orders")
}

// Removed by force, a worker is gone at once; its sessions follow when its lease is over, since until then it may hold them.
func TestRemoveByForce(t *testing.T) {
	t.Parallel()
	w := start(t)
	n, admin, u := w.node("w1"), w.administrator(), w.register("u")
	u.session("shop")
	data := admin.do("DELETE", workersPath+"/w1?force=true", admin.auth(), nil)
	require.Equal(t, map[string]any{"workerId": "w1", "status": "removed", "jobId": nil}, data.ok(200))
	require.Empty(t, data.header.Values("Location"))
	admin.read("/admin/workers/w1").refused(404, "worker_not_found")
	require.Empty(t, admin.read("/admin/workers").ok(200)["workers"])
	for _, order := range []string{"?force=true", "?force=false", ""} {
		admin.do("DELETE", workersPath+"/w1"+order, admin.auth(), nil).refused(404, "worker_not_found")
	}
	admin.do("POST", workersPath+"/w1/drain", admin.auth(), nil).refused(404, "worker_not_found")
	require.EqualValues(t, 1, w.count(`system_logs WHERE message = 'worker.removed' AND user_id = $1 AND worker_id = 'w1'`, admin.id))
	n.beat(nil).refused(403, "worker_removed")

	w.node("w2")
	require.EqualValues(t, 1, w.count("sessions WHERE worker_id = 'w1'"), "it may hold it still")
	w.lapseOf("w1")
	require.EqualValues(t, 1, w.count("sessions WHERE worker_id = 'w2' AND epoch = 2"))
	require.Equal(t, map[int]int{404: 1, 200: 1}, parallel(2, func(int) int {
		return admin.do("DELETE", workersPath+"/w2?force=true", admin.auth(), nil).status
	}))
}

// The jobs of administrators name no session, and tenants' jobs are none of theirs.
func TestJobsOfAdministrators(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	admin, u := w.administrator(), w.register("u")
	u.session("shop")
	tenants := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT id FROM jobs`).String()
	admin.read("/jobs/"+tenants).refused(404, "job_not_found")
	job := u.read("/jobs/" + tenants).ok(200)
	require.Contains(t, job, "progress")
	require.Equal(t, map[string]any{"sessionId": "shop"}, job["subject"])
	// What the platform moves by itself, they see too; its tenant does not.
	w.exec(`UPDATE jobs SET kind = 'session:migrate', user_id = NULL, worker_id = 'w1', progress = '{"state":"waiting"}'`)
	job = admin.read("/jobs/" + tenants).ok(200)
	require.Equal(t, []any{map[string]any{"sessionId": "shop"}, map[string]any{"state": "waiting"}}, []any{job["subject"], job["progress"]})
	u.read("/jobs/"+tenants).refused(404, "job_not_found")
}
