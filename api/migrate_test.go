package api_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

func (t *tenant) migrate(session string, body any) *answer {
	t.Helper()
	return t.do("POST", "/api/v1/admin/sessions/"+session+"/migrate", t.auth(), body)
}

func to(worker string) map[string]any { return map[string]any{"workerId": worker} }

func TestMigrate(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	admin, u := w.administrator(), w.register("u")
	u.connected("shop")
	admin.migrate("shop", nil).refused(503, "no_worker_available")
	modelstest.Worker(t, w.db, "w2", 10)
	a := admin.migrate("shop", nil)
	data := a.ok(202)
	require.Equal(t, []any{"shop", "w1", "w2", "migrating"}, []any{data["sessionId"], data["from"], data["to"], data["status"]})
	require.Equal(t, "/api/v1/jobs/"+str(data, "jobId"), a.header.Get("Location"))
	require.EqualValues(t, 1, w.count("sessions WHERE worker_id = 'w1' AND moving_to = 'w2' AND epoch = 1"), "it stays until it is let go of")
	job := admin.read("/jobs/" + str(data, "jobId")).ok(200)
	require.Equal(t, []any{"session:migrate", "queued", map[string]any{"sessionId": "shop"}, nil}, []any{job["type"], job["status"], job["subject"], job["progress"]})
	require.EqualValues(t, 1, w.count(`system_logs WHERE message = 'session.migration_requested' AND user_id = $1 AND session_id = 'shop' AND worker_id = 'w1'
		AND details = jsonb_build_object('from', 'w1', 'to', 'w2', 'job', $2::text)`, admin.id, str(data, "jobId")))

	u.read("/jobs/"+str(data, "jobId")).refused(404, "job_not_found")
	require.Len(t, u.read("/jobs").ok(200)["jobs"], 1, "the making of the session")
	for _, path := range []string{"", "/status"} { // its tenant goes on as before
		require.Equal(t, "connected", u.read("/sessions/shop" + path).ok(200)["status"])
	}
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "x")).ok(202)

	before := w.rows()
	for _, body := range []any{nil, map[string]any{}, to("w2")} {
		admin.migrate("shop", body).refused(409, "session_migrating")
	}
	admin.migrate("shop", to("w1")).refused(409, "already_there")
	admin.migrate("none", nil).refused(404, "session_not_found")
	for _, body := range []any{"{", "null", "[]", `{"workerId":5}`, `{"workerId":""}`, `{"to":"w2"}`, to(string(make([]byte, 10)))} {
		require.Contains(t, []int{400, 422}, admin.migrate("shop", body).status, "%v", body)
	}
	u.migrate("shop", nil).refused(403, "forbidden")
	w.do("POST", "/api/v1/admin/sessions/shop/migrate", headers{"X-Api-Key", admin.key}, nil).refused(403, "forbidden")
	w.unchanged(before, "refused moves")
	require.EqualValues(t, 1, w.audited("session.migration_requested"))
}

// Where to is the administrator's choice, if that worker can take it.
func TestMigrateTo(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	admin, u := w.administrator(), w.register("u")
	u.connected("shop")
	for _, id := range []string{"empty", "chosen", "full", "resting", "away", "upkeep", "removed"} {
		modelstest.Worker(t, w.db, id, 10)
	}
	w.ask("stranger", "", map[string]any{"engine": "another"}).ok(200)
	w.exec(`UPDATE workers SET max_sessions = 0 WHERE id = 'full'`)
	w.exec(`UPDATE workers SET resting_until = now() + interval '1 hour' WHERE id = 'resting'`)
	w.exec(`UPDATE workers SET lease_expires_at = now() WHERE id = 'away'`)
	admin.patch("upkeep", map[string]any{"status": "maintenance"}).ok(200)
	w.remove("removed")
	before := w.rows()
	for _, id := range []string{"full", "away", "upkeep", "stranger"} {
		admin.migrate("shop", to(id)).refused(409, "worker_not_ready")
	}
	for _, id := range []string{"nothing", "removed", "'; --", "../w1"} {
		admin.migrate("shop", to(id)).refused(404, "worker_not_found")
	}
	admin.migrate("none", to("nothing")).refused(404, "session_not_found")
	w.unchanged(before, "refused moves")
	require.Equal(t, "resting", admin.migrate("shop", to("resting")).ok(202)["to"], "who names it, means it")
}

func TestMigrateWhatDoesNotRun(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	modelstest.Worker(t, w.db, "w2", 10)
	admin, u := w.administrator(), w.register("u")
	u.connected("homeless")
	u.connected("deleted")
	w.exec(`UPDATE sessions SET worker_id = NULL WHERE id = 'homeless'`)
	u.do("DELETE", "/api/v1/sessions/deleted", u.auth(), nil).ok(202)
	admin.migrate("homeless", nil).refused(409, "session_not_running")
	admin.migrate("deleted", nil).refused(404, "session_not_found")
	// One that was never scanned may move like any other.
	u.session("new")
	admin.migrate("new", nil).ok(202)
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	for i := range 5 {
		modelstest.Worker(t, w.db, fmt.Sprint("x", i), 10)
	}
	admin, u := w.administrator(), w.register("u")
	u.connected("shop")
	require.Equal(t, map[int]int{202: 1, 409: 9}, parallel(10, func(int) int { return admin.migrate("shop", nil).status }))
	require.EqualValues(t, 1, w.count("jobs WHERE kind = 'session:migrate'"))
	require.EqualValues(t, 1, w.count("sessions WHERE moving_to IS NOT NULL"))
	require.EqualValues(t, 1, w.audited("session.migration_requested"))
}

func TestMigrateOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	modelstest.Worker(t, w.db, "w2", 10)
	admin, u := w.administrator(), w.register("u")
	u.connected("shop")
	u.connected("second")
	order := func(path string) *answer {
		return admin.do("POST", "/api/v1/admin"+path, keyed(admin.auth(), "k"), nil)
	}
	moved, balanced := order("/sessions/shop/migrate"), order("/rebalance")
	require.True(t, replayed(order("/sessions/shop/migrate")))
	require.True(t, replayed(order("/rebalance")))
	order("/sessions/second/migrate").refused(409, "idempotency_mismatch")
	// The process died after its commits.
	w.exec(`UPDATE idempotency_keys SET status_code = NULL, response = NULL, locked_until = now() - interval '1 second'`)
	before := w.rows()
	for path, first := range map[string]*answer{"/sessions/shop/migrate": moved, "/rebalance": balanced} {
		again := order(path)
		require.False(t, replayed(again))
		require.Equal(t, first.ok(202), again.ok(202))
		require.Equal(t, first.header.Get("Location"), again.header.Get("Location"))
	}
	w.unchanged(before, "takeovers")
	require.Equal(t, []int64{1, 1}, []int64{w.audited("session.migration_requested"), w.audited("sessions.rebalance_requested")})
}

func TestRebalance(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	modelstest.Worker(t, w.db, "w1", 10)
	admin, u := w.administrator(), w.register("u")
	for i := range 10 {
		u.connected(fmt.Sprint("s", i))
	}
	modelstest.Worker(t, w.db, "w2", 10)
	a := admin.do("POST", "/api/v1/admin/rebalance", admin.auth(), nil)
	id := str(a.ok(202), "jobId")
	require.Equal(t, "/api/v1/jobs/"+id, a.header.Get("Location"))
	require.Equal(t, []any{"sessions:rebalance", "queued", map[string]any{}}, func() []any {
		job := admin.read("/jobs/" + id).ok(200)
		return []any{job["type"], job["status"], job["subject"]}
	}())
	require.EqualValues(t, 1, w.count(`system_logs WHERE message = 'sessions.rebalance_requested' AND user_id = $1`, admin.id))
	w.runner()
	w.eventually("the job's success", func() bool { return admin.read("/jobs/" + id).ok(200)["status"] == "succeeded" })
	result := admin.read("/jobs/" + id).ok(200)["result"].(map[string]any)
	moves := result["jobs"].([]any)
	require.NotEmpty(t, moves)
	require.EqualValues(t, len(moves), w.count(`jobs WHERE kind = 'session:migrate' AND params->>'reason' = 'rebalance'`))
	require.Equal(t, "session:migrate", admin.read("/jobs/" + moves[0].(string)).ok(200)["type"], "an administrator may follow each move")
	u.do("POST", "/api/v1/admin/rebalance", u.auth(), nil).refused(403, "forbidden")
}

// While a session is on the move, what only its worker can do has to wait; the rest goes on.
func TestSessionOnTheMove(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	for what, change := range map[string]string{
		"moving":   `UPDATE sessions SET status = 'INIT', reason = 'migrating', worker_id = 'w1'`,
		"linked":   `UPDATE sessions SET status = 'RECONNECTING', reason = 'migrating', linked_at = now(), worker_id = 'w1'`,
		"homeless": `UPDATE sessions SET status = 'RECONNECTING', reason = 'no_worker_available', worker_id = NULL`,
	} {
		w.exec(change)
		require.Equal(t, "2", u.read("/sessions/shop/qr").refused(503, "session_migrating").header.Get("Retry-After"), what)
		status := u.read("/sessions/shop/status").ok(200)
		require.Equal(t, "database", status["source"], what)
		require.NotEmpty(t, status["reason"], what)
		u.read("/sessions/shop").ok(200)
	}
	w.exec(`UPDATE sessions SET status = 'RECONNECTING', reason = 'connection_lost', worker_id = 'w1'`)
	u.read("/sessions/shop/qr").refused(409, "already_linked")
	w.exec(`UPDATE sessions SET status = 'INIT', reason = NULL, linked_at = NULL`)
	u.read("/sessions/shop/qr").refused(409, "qr_not_ready")
}

// With real nodes: a move, a drain, its end, and a removal. Nothing is scanned again.
func TestSessionsMoveBetweenNodes(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.runner()
	w.clockwork()
	w.fleet(simnet.Config{}, "a", "b")
	admin, u := w.administrator(), w.register("u")
	connected := func(n int64) {
		t.Helper()
		w.eventually("all are connected", func() bool { return w.count("sessions WHERE status = 'CONNECTED'") == n })
	}
	where := func(worker string) int64 { return w.count("sessions WHERE worker_id = $1", worker) }
	for i := range 4 {
		u.session(fmt.Sprint("s", i))
	}
	connected(4)
	require.Equal(t, []int64{2, 2}, []int64{where("a"), where("b")})
	from := modelstest.Scalar[string](t, w.db, `SELECT worker_id FROM sessions WHERE id = 's0'`)
	target := map[string]string{"a": "b", "b": "a"}[from]
	done := func(id string) map[string]any {
		t.Helper()
		w.eventually("the job's success", func() bool {
			job := admin.read("/jobs/" + id).ok(200)
			require.NotEqual(t, "failed", job["status"], job)
			return job["status"] == "succeeded"
		})
		return admin.read("/jobs/" + id).ok(200)
	}

	job := done(str(admin.migrate("s0", to(target)).ok(202), "jobId"))
	result := map[string]any{"sessionId": "s0", "from": from, "to": target, "reason": "admin"}
	require.Equal(t, result, job["result"])
	require.Equal(t, "creating", job["progress"].(map[string]any)["state"])
	connected(4)
	live := u.read("/sessions/s0/status").ok(200)
	require.Equal(t, []any{"connected", "worker"}, []any{live["status"], live["source"]})
	require.EqualValues(t, 1, w.count(`events WHERE type = 'session.migrated'`))
	admin.migrate("s0", to(target)).refused(409, "already_there")

	job = done(str(admin.do("POST", workersPath+"/b/drain", admin.auth(), nil).ok(202), "jobId"))
	progress := job["progress"].(map[string]any)
	require.Equal(t, []any{"b", "drain", 0.0}, []any{progress["workerId"], progress["reason"], progress["remaining"]})
	require.Equal(t, map[string]any{"workerId": "b"}, job["subject"])
	require.Equal(t, job["progress"], job["result"])
	require.Equal(t, []int64{4, 0}, []int64{where("a"), where("b")})
	require.Equal(t, []any{"maintenance", 0.0}, []any{admin.read("/admin/workers/b").ok(200)["status"], admin.read("/admin/workers/b").ok(200)["sessionCount"]})
	connected(4)

	// Asked for again when there is nothing to do, and ended.
	done(str(admin.do("POST", workersPath+"/b/drain", admin.auth(), nil).ok(202), "jobId"))
	require.Equal(t, "online", admin.patch("b", map[string]any{"status": "online"}).ok(200)["status"])
	u.session("s4")
	require.EqualValues(t, 1, where("b"))
	connected(5)

	removal := str(admin.do("DELETE", workersPath+"/a", admin.auth(), nil).ok(202), "jobId")
	require.Equal(t, "removed", done(removal)["result"].(map[string]any)["reason"])
	admin.read("/admin/workers/a").refused(404, "worker_not_found")
	require.Equal(t, []int64{0, 5}, []int64{where("a"), where("b")})
	connected(5)
	require.EqualValues(t, 3, w.audited("worker.drained"), "two drains and a removal")
	// With nobody to move to, a drain waits and says so; then it is called off.
	drain := str(admin.do("POST", workersPath+"/b/drain", admin.auth(), nil).ok(202), "jobId")
	w.eventually("the drain to wait", func() bool {
		progress, _ := admin.read("/jobs/" + drain).ok(200)["progress"].(map[string]any)
		return progress["waiting"] == 5.0
	})
	admin.patch("b", map[string]any{"status": "online"}).ok(200)
	require.Contains(t, done(drain)["result"].(map[string]any)["skipped"], "wanted again")
	require.EqualValues(t, 0, w.count("sessions WHERE moving_to IS NOT NULL"), "no room stays reserved")
}

// A removal that is asked for while a drain is under way, or about to end, is done.
func TestDrainBecomesARemoval(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.runner()
	w.clockwork()
	admin := w.administrator()
	for i := range 40 {
		id := fmt.Sprint("w", i)
		modelstest.Worker(t, w.db, id, 10)
		admin.do("POST", workersPath+"/"+id+"/drain", admin.auth(), nil).ok(202)
		for range i % 4 { // another moment each time
			admin.read("/admin/workers/" + id)
		}
		admin.do("DELETE", workersPath+"/"+id, admin.auth(), nil).ok(202)
	}
	w.eventually("all jobs end", func() bool {
		return w.count("jobs WHERE kind = 'worker:drain' AND status IN ('QUEUED', 'RUNNING')") == 0
	})
	require.EqualValues(t, 0, w.count("workers WHERE removed_at IS NULL"))
}
