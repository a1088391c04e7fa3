package api_test

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// ask registers a worker with fields beside the usual ones, and the given secret.
func (w *world) ask(id, secret string, more map[string]any) *answer {
	w.Helper()
	body := map[string]any{"workerId": id, "endpoint": "http://" + id, "maxSessions": 10, "engine": "simulator"}
	maps.Copy(body, more)
	return w.do("POST", workersPath+"/register", headers{"X-Worker-Token", workerToken, "X-Worker-Secret", secret}, body)
}

// again registers a node as the process that it was.
func (n *node) again() *answer {
	n.Helper()
	return n.ask(n.id, n.secret, map[string]any{"previousTerm": n.term})
}

// lapse lets the leases of all workers be over, and has the lease tick see it.
func (w *world) lapse() {
	w.Helper()
	w.lapseOf("%")
}

// lapseOf is lapse for workers whose ID is like the given one.
func (w *world) lapseOf(id string) {
	w.Helper()
	w.eventually("a beat", func() bool { return w.count("intake") == 1 })
	w.exec(`UPDATE intake SET since = now() - interval '1 hour'`)
	w.exec(`UPDATE workers SET lease_expires_at = now() - interval '1 second' WHERE id LIKE $1`, id)
	f, err := models.ExpireLeases(context.Background(), w.db)
	require.NoError(w, err)
	require.False(w, f.Waiting)
}

func (w *world) remove(id string) {
	w.Helper()
	ok, err := models.RemoveWorker(context.Background(), w.db.Pool, id)
	require.NoError(w, err)
	require.True(w, ok)
}

func termOf(data map[string]any) int64 { return int64(data["term"].(float64)) }

// audited is how many lines of the audit trail have a message.
func (w *world) audited(message string) int64 {
	w.Helper()
	return w.count("system_logs WHERE message = $1", message)
}

// A process that lost its lease, and says so, need not wait for it to lapse by our count; nobody else gets in before.
func TestWorkerResumes(t *testing.T) {
	t.Parallel()
	w := start(t)
	n := w.node("w1")
	before := w.rows()
	for what, refused := range map[string]*answer{
		"no secret":              w.ask("w1", "", map[string]any{"previousTerm": n.term}),
		"a wrong secret":         w.ask("w1", "wrong", map[string]any{"previousTerm": n.term}),
		"another worker's":       w.ask("w1", w.vault.WorkerSecret("w2", 1), map[string]any{"previousTerm": n.term}),
		"no previous term":       w.ask("w1", n.secret, nil),
		"a later term":           w.ask("w1", n.secret, map[string]any{"previousTerm": n.term + 1}),
		"a later term's secret":  w.ask("w1", w.vault.WorkerSecret("w1", n.term+1), map[string]any{"previousTerm": n.term + 1}),
		"term 0":                 w.ask("w1", w.vault.WorkerSecret("w1", 0), map[string]any{"previousTerm": 0}),
		"the worker token":       w.ask("w1", workerToken, map[string]any{"previousTerm": n.term}),
		"the secret in the body": w.ask("w1", "", map[string]any{"previousTerm": n.term, "secret": n.secret}),
	} {
		require.Equal(t, 409, refused.status, what)
		refused.refused(409, "worker_live")
	}
	w.unchanged(before, "refused registrations")
	n.beat(nil).ok(200)

	data := n.again().ok(200)
	require.Greater(t, termOf(data), n.term)
	require.NotEqual(t, n.secret, data["secret"])
	n.beat(nil).refused(409, "stale_term")
	n.again().refused(409, "worker_live")

	// The lease tick has ended the term meanwhile: whoever comes first is let in, with or without a past.
	now := node{world: w, id: "w1", secret: str(data, "secret"), term: termOf(data)}
	w.lapse()
	now.beat(nil).refused(409, "stale_term")
	require.Greater(t, termOf(now.again().ok(200)), now.term+1, "the lapse ended a term too")
	w.lapse()
	w.ask("w1", "", nil).ok(200)
	require.EqualValues(t, 4, w.audited("worker.registered"))
	w.do("GET", "/metrics", nil, nil).contains(`kurir_worker_registrations_refused_total{reason="worker_live"} 10`)
}

func (a *answer) contains(text string) {
	a.t.Helper()
	require.Contains(a.t, a.text, text)
}

// Who is registered with the same ID at the same moment is decided once.
func TestWorkersRegisterAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	require.Equal(t, map[int]int{200: 1, 409: 9}, parallel(10, func(int) int { return w.ask("w1", "", nil).status }))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, w.db, `SELECT term FROM workers`))
	secret := w.vault.WorkerSecret("w1", 1)
	require.Equal(t, map[int]int{200: 1, 409: 9}, parallel(10, func(int) int { return w.ask("w1", secret, map[string]any{"previousTerm": 1}).status }))
	require.Equal(t, map[int]int{200: 1, 409: 9}, parallel(10, func(i int) int {
		return w.enroll("x"+string(rune('a'+i)), "http://one-endpoint").status
	}))
	require.EqualValues(t, 3, w.audited("worker.registered"), "refusals are no registrations")
}

// A removed worker may not come back by itself. Its process started anew may, under a higher term.
func TestRemovedWorkerRegisters(t *testing.T) {
	t.Parallel()
	w := start(t)
	n, admin := w.node("w1"), w.administrator()
	w.remove("w1")
	n.beat(nil).refused(403, "worker_removed")
	n.tell().refused(403, "worker_removed")
	n.again().refused(403, "worker_removed")
	w.ask("w1", "", nil).refused(409, "worker_live") // its process may still hold sessions
	w.lapse()
	n.again().refused(403, "worker_removed")
	w.do("GET", workersPath+"/w1", admin.auth(), nil).refused(404, "worker_not_found")

	data := w.ask("w1", "", nil).ok(200)
	require.Greater(t, termOf(data), n.term)
	require.Equal(t, "online", w.do("GET", workersPath+"/w1", admin.auth(), nil).ok(200)["status"])
	n.again().refused(409, "worker_live")
}

func TestWorkersOfOtherVersions(t *testing.T) {
	t.Parallel()
	w := start(t)
	before := w.rows()
	w.ask("w1", "", map[string]any{"protocol": wire.Protocol + 1}).refused(409, "unsupported_protocol")
	w.ask("w1", "", map[string]any{"protocol": 1 << 40}).refused(409, "unsupported_protocol")
	w.ask("w1", "", map[string]any{"protocol": -1}).refused(422, "invalid_request")
	w.unchanged(before, "a protocol that we do not speak")
	w.do("GET", "/metrics", nil, nil).contains(`kurir_worker_registrations_refused_total{reason="unsupported_protocol"} 2`)

	// Fields that we do not know are passed over, wherever they stand.
	data := w.ask("w1", "", map[string]any{"protocol": wire.Protocol, "region": "ap-southeast-3", "labels": map[string]any{"a": []int{1}}}).ok(200)
	n := node{world: w, id: "w1", secret: str(data, "secret"), term: termOf(data)}
	u := w.register("u")
	u.session("shop")
	uid := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT uid FROM sessions`).String()
	put := func(path string, body map[string]any) *answer {
		method := map[bool]string{true: "PUT", false: "POST"}[strings.HasSuffix(path, "heartbeat")]
		return w.do(method, workersPath+"/w1/"+path, n.auth(), body)
	}
	answer := put("heartbeat", map[string]any{"status": "online", "term": n.term, "mood": "fine",
		"metrics":  map[string]any{"sessionCount": 1, "cpuUsage": 50, "memoryUsage": 1, "messageCount": 1, "uptime": 1, "goroutines": 99, "disks": map[string]any{"a": 1}},
		"sessions": []map[string]any{{"sessionId": uid, "epoch": 1, "status": "connected", "since": "2026-01-01"}}}).ok(200)
	require.Empty(t, answer["drop"])
	require.EqualValues(t, 50, modelstest.Scalar[float64](t, w.db, `SELECT cpu_usage FROM workers`))
	answer = put("events", map[string]any{"term": n.term, "compressed": false, "events": []map[string]any{{"eventId": uuid.NewString(), "sessionId": uid, "epoch": 1, "seq": 1,
		"type": "session.status", "timestamp": time.Now(), "data": map[string]any{"status": "connected", "battery": 80}, "trace": "abc"}}}).ok(200)
	require.EqualValues(t, 2, answer["next"])
	require.Equal(t, "connected", u.do("GET", "/api/v1/sessions/shop", u.auth(), nil).ok(200)["status"])
}

// Some names are addresses beside those of workers.
func TestNamesThatNoWorkerHas(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, id := range []string{"metrics", "register", "broadcast"} {
		w.enroll(id, "http://"+id).refused(422, "invalid_request").contains(`"field":"workerId"`)
	}
	require.EqualValues(t, 0, w.count("workers"))
	w.enroll("Metrics", "http://x").ok(200)
	for _, endpoint := range []string{"http://:8001", "http://x?y=1", "http://x?", "http://x#y", "//x", "http://x y"} {
		w.enroll("w1", endpoint).refused(422, "invalid_request").contains(`"field":"endpoint"`)
	}
}

// After its goodbye a worker is gone, whatever was still on the way.
func TestHeartbeatAfterTheGoodbye(t *testing.T) {
	t.Parallel()
	w := start(t)
	n := w.node("w1")
	require.Empty(t, n.beat(func(h *wire.Heartbeat) { h.Status = wire.HeartbeatOffline }).ok(200)["drop"])
	for _, status := range []string{wire.HeartbeatOnline, wire.HeartbeatMaintenance, wire.HeartbeatOffline} {
		n.beat(func(h *wire.Heartbeat) { h.Status = status }).refused(409, "stale_term")
	}
	n.tell().refused(409, "stale_term")
	require.Equal(t, []any{"OFFLINE", true}, []any{modelstest.Scalar[string](t, w.db, `SELECT status FROM workers`),
		modelstest.Scalar[bool](t, w.db, `SELECT lease_expires_at <= now() FROM workers`)})
	require.EqualValues(t, 1, w.audited("worker.left"))
	n.again().ok(200)
}

// An administrator's maintenance outlives terms; a worker's own ends with it.
func TestMaintenanceOutlivesTerms(t *testing.T) {
	t.Parallel()
	w := start(t)
	n, admin := w.node("w1"), w.administrator()
	status := func() any { return w.do("GET", workersPath+"/w1", admin.auth(), nil).ok(200)["status"] }
	n.beat(func(h *wire.Heartbeat) { h.Status = wire.HeartbeatMaintenance }).ok(200)
	require.Equal(t, "maintenance", status())
	n.beat(nil).ok(200)
	require.Equal(t, "online", status())
	admin.patch("w1", map[string]any{"status": "maintenance"}).ok(200)
	n.beat(nil).ok(200)
	require.Equal(t, "maintenance", status())
	n.again().ok(200)
	require.Equal(t, "maintenance", status())
	w.register("u").create(named("shop")).refused(503, "no_worker_available")
	admin.patch("w1", map[string]any{"status": "online"}).ok(200)
	require.Equal(t, "online", status())
}

// A worker that is about to stop is told to wait only if somebody can take its sessions.
func TestHandOver(t *testing.T) {
	t.Parallel()
	w := start(t)
	n := w.node("w1")
	u := w.register("u")
	u.session("shop")
	uid := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT uid FROM sessions`).String()
	leave := func(sessions ...wire.HeldSession) any {
		t.Helper()
		return n.beat(func(h *wire.Heartbeat) { h.Status, h.Sessions = wire.HeartbeatMaintenance, sessions }).ok(200)["handOver"]
	}
	held := wire.HeldSession{SessionID: uid, Epoch: 1, Status: wire.StatusConnected}
	drains := "jobs WHERE kind = 'worker:drain'"
	require.Nil(t, leave(held), "nobody else is there")
	other := w.ask("w2", "", map[string]any{"engine": "another"}).ok(200)
	require.Nil(t, leave(held), "another engine")
	w.exec(`UPDATE workers SET engine = 'simulator', session_cap = 0 WHERE id = 'w2'`)
	require.Nil(t, leave(held), "no room")
	w.exec(`UPDATE workers SET session_cap = NULL, maintenance = true, status = 'MAINTENANCE' WHERE id = 'w2'`)
	require.Nil(t, leave(held), "in maintenance itself")
	w.exec(`UPDATE workers SET maintenance = false, status = 'ONLINE' WHERE id = 'w2'`)
	require.Nil(t, leave(), "it holds nothing")
	require.Nil(t, n.beat(func(h *wire.Heartbeat) { h.Sessions = []wire.HeldSession{held} }).ok(200)["handOver"], "it stays")
	require.EqualValues(t, 0, w.count(drains))

	require.Equal(t, true, leave(held))
	require.Equal(t, true, leave(held), "still")
	require.EqualValues(t, 1, w.count(drains+" AND params->>'reason' = 'shutdown' AND worker_id = 'w1' AND user_id IS NULL"))
	require.EqualValues(t, 1, w.count(drains))
	// The drain has reserved the last room elsewhere: that is no reason to leave before the session has moved.
	w.exec(`UPDATE workers SET session_cap = 1 WHERE id = 'w2'`)
	w.exec(`UPDATE sessions SET moving_to = 'w2'`)
	require.Equal(t, true, leave(held), "on its way")
	w.exec(`UPDATE sessions SET moving_to = NULL`)
	// The other one leaves as well: nobody is left to hand over to.
	second := node{world: w, id: "w2", secret: str(other, "secret"), term: termOf(other)}
	second.beat(func(h *wire.Heartbeat) { h.Status = wire.HeartbeatMaintenance }).ok(200)
	require.Nil(t, leave(held))
}

// What a worker lists and should not hold, it is to drop; what it should hold and has confirmed, but does not list, is
// lost. A list that is absent says nothing.
func TestHeartbeatsList(t *testing.T) {
	t.Parallel()
	w := start(t)
	n := w.node("w1")
	u := w.register("u")
	var uids []string
	for _, name := range []string{"mine", "newer", "foreign", "deleted"} {
		u.session(name)
		uids = append(uids, modelstest.Scalar[uuid.UUID](t, w.db, `SELECT uid FROM sessions WHERE id = $1`, name).String())
	}
	w.node("w2")
	w.exec(`UPDATE sessions SET epoch = 2 WHERE id = 'newer'`)
	w.exec(`UPDATE sessions SET worker_id = 'w2' WHERE id = 'foreign'`)
	u.do("DELETE", "/api/v1/sessions/deleted", u.auth(), nil).ok(202)
	all := []wire.HeldSession{}
	for _, uid := range uids {
		all = append(all, wire.HeldSession{SessionID: uid, Epoch: 1, Status: wire.StatusConnected})
	}
	listing := func(sessions []wire.HeldSession) map[string]any {
		t.Helper()
		return n.beat(func(h *wire.Heartbeat) { h.Sessions = sessions }).ok(200)
	}
	require.ElementsMatch(t, []any{uids[1], uids[2]}, listing(all)["drop"], "a deleted one is still to be unlinked")
	all[1].Epoch = 2
	require.ElementsMatch(t, []any{uids[2]}, listing(all)["drop"])
	require.Nil(t, listing(nil)["drop"])
	require.Nil(t, listing([]wire.HeldSession{})["drop"])

	confirmed := func(age string) {
		w.exec(`UPDATE sessions SET held_term = $1, held_at = now() - $2::interval WHERE id = 'mine'`, n.term, age)
	}
	held := func() int64 {
		return modelstest.Scalar[int64](t, w.db, `SELECT held_term FROM sessions WHERE id = 'mine'`)
	}
	confirmed("10 seconds")
	listing([]wire.HeldSession{})
	require.Equal(t, n.term, held(), "confirmed after the list was written, perhaps")
	confirmed("16 seconds")
	listing(nil)
	require.Equal(t, n.term, held(), "no list is no news")
	n.do("PUT", workersPath+"/w1/heartbeat", n.auth(), map[string]any{"status": "online", "term": n.term, "metrics": wire.Metrics{}, "sessions": nil}).ok(200)
	n.do("POST", workersPath+"/w1/events", n.auth(), map[string]any{"term": n.term, "events": nil}).ok(200)
	require.Equal(t, n.term, held(), "null is none either")
	listing(all)
	require.Equal(t, n.term, held(), "it is in the list")
	listing(all[1:])
	require.EqualValues(t, 0, held(), "lost")
	w.do("GET", "/metrics", nil, nil).contains(`kurir_session_repairs_total{kind="lost"} 1`)
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, w.db, `SELECT epoch FROM sessions WHERE id = 'mine'`), "it stays where it is")
}

// Heartbeats of a worker with thousands of sessions are no larger than a body may be.
func TestLongHeartbeat(t *testing.T) {
	t.Parallel()
	w := start(t)
	n := w.node("w1")
	sessions := make([]wire.HeldSession, 8000)
	for i := range sessions {
		sessions[i] = wire.HeldSession{SessionID: uuid.NewString(), Epoch: 1 << 40, Status: wire.StatusReconnecting}
	}
	require.Len(t, n.beat(func(h *wire.Heartbeat) { h.Sessions = sessions }).ok(200)["drop"], len(sessions))
	raw, err := json.Marshal(sessions)
	require.NoError(t, err)
	require.Less(t, len(raw), 900<<10)
}
