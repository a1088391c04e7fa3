package api_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// analysed has what waits for it counted, as the job does.
func (w *world) analysed() {
	w.Helper()
	for {
		taken, err := models.CountAnalytics(w.Context(), w.db)
		require.NoError(w, err)
		if taken == 0 {
			return
		}
	}
}

func keys(v any) []string { return slices.Sorted(maps.Keys(v.(map[string]any))) }

// figures reads numbers of an object.
func figures(v any, names ...string) (list []float64) {
	for _, name := range names {
		list = append(list, v.(map[string]any)[name].(float64))
	}
	return list
}

// series checks that an answer's series has a point for each of its steps, at whole steps, and returns it.
func (w *world) series(data map[string]any, span string, seconds, points int) []any {
	w.Helper()
	require.Equal(w, []any{span, float64(seconds)}, []any{data["range"], data["stepSeconds"]})
	from, err := time.Parse(time.RFC3339, str(data, "from"))
	require.NoError(w, err)
	list := data["series"].([]any)
	require.Len(w, list, points)
	for i, p := range list {
		require.Equal(w, from.Add(time.Duration(i*seconds)*time.Second).Format(time.RFC3339), p.(map[string]any)["at"], "of %s", span)
	}
	require.Zero(w, from.Unix()%int64(seconds))
	require.Equal(w, from.Add(time.Duration(points*seconds)*time.Second).Format(time.RFC3339), data["until"])
	require.WithinDuration(w, time.Now(), from.Add(time.Duration(points*seconds)*time.Second), time.Duration(seconds)*time.Second+time.Minute)
	return list
}

var ranges = []struct {
	name            string
	seconds, points int
}{{"1h", 60, 60}, {"24h", 900, 96}, {"7d", 3600, 168}, {"30d", 21600, 120}}

func TestAnalytics(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin, u := w.administrator(), w.register("u")
	w.analysed()

	// Nothing there but two users.
	d := admin.read("/admin/analytics").ok(200)
	require.Equal(t, map[string]any{
		"overview": map[string]any{"totalUsers": 2.0, "totalSessions": 0.0, "totalWorkers": 0.0, "totalMessages": 0.0},
		"workers":  map[string]any{"online": 0.0, "offline": 0.0, "avgCpuUsage": 0.0, "avgMemoryUsage": 0.0},
		"sessions": map[string]any{"connected": 0.0, "disconnected": 0.0, "successRate": 0.0},
	}, d, "exactly these names")
	require.Equal(t, []float64{0, 0, 0}, figures(admin.read("/admin/analytics/messages").ok(200), "total", "successRate", "sent"))
	require.Empty(t, admin.read("/admin/analytics/workers").ok(200)["workers"])

	// Seven sessions, three connected; two workers alive, one of them in maintenance, one lost and one removed.
	for id, load := range map[string]string{"w1": "40, 60.06", "w2": "61, 70", "lost": "99, 99", "removed": "98, 98"} {
		modelstest.Worker(t, w.db, id, 10)
		w.exec(`UPDATE workers SET (cpu_usage, memory_usage) = (` + load + `) WHERE id = '` + id + `'`)
	}
	w.exec(`UPDATE workers SET lease_expires_at = now() - interval '1 second' WHERE id = 'lost'`)
	w.exec(`UPDATE workers SET removed_at = now(), lease_expires_at = '-infinity' WHERE id = 'removed'`)
	w.exec(`UPDATE workers SET status = 'MAINTENANCE', maintenance = true WHERE id = 'w2'`)
	w.exec(`INSERT INTO sessions (uid, id, user_id, name, status, desired, deleted_at) SELECT kurir_uuid_v7(), 's' || n, id, 's', (ARRAY['CONNECTED', 'QR_REQUIRED', 'DISCONNECTED', 'CONNECTED', 'ERROR', 'CONNECTED', 'RECONNECTING', 'CONNECTED'])[n],
		CASE n WHEN 8 THEN 'DELETED' ELSE 'RUNNING' END, CASE n WHEN 8 THEN now() END FROM users, generate_series(1, 8) n WHERE email = $1`, u.email)
	put := func(n int, direction, kind, status, age string) {
		w.exec(`INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, status, whatsapp_id, created_at)
			SELECT kurir_uuid_v7(), uid, $2, 'c', 't', $3, $4, 'x', now() - $5::text::interval FROM sessions, generate_series(1, $1) WHERE id = 's1'`, n, direction, kind, status, age)
	}
	put(3, "OUTBOUND", "TEXT", "SENT", "0")
	put(4, "OUTBOUND", "IMAGE", "DELIVERED", "30 minutes")
	put(5, "OUTBOUND", "TEXT", "READ", "5 hours")
	put(1, "OUTBOUND", "TEXT", "FAILED", "3 days")
	put(2, "OUTBOUND", "TEXT", "SENDING", "3 days")
	put(6, "INBOUND", "VOICE", "DELIVERED", "20 days")
	put(7, "OUTBOUND", "TEXT", "EXPIRED", "60 days")
	w.analysed()
	d = admin.read("/admin/analytics").ok(200)
	require.Equal(t, map[string]any{
		"overview": map[string]any{"totalUsers": 2.0, "totalSessions": 7.0, "totalWorkers": 3.0, "totalMessages": 28.0},
		"workers":  map[string]any{"online": 2.0, "offline": 1.0, "avgCpuUsage": 50.5, "avgMemoryUsage": 65.0},
		"sessions": map[string]any{"connected": 3.0, "disconnected": 4.0, "successRate": 42.9},
	}, d)

	names := []string{"total", "sent", "delivered", "failed", "successRate"}
	want := map[string][]float64{"1h": {7, 3, 4, 0, 100}, "24h": {12, 3, 4, 0, 100}, "7d": {15, 3, 4, 1, 80}, "30d": {21, 3, 4, 1, 80}}
	for _, r := range ranges {
		d := admin.read("/admin/analytics/messages?range=" + r.name).ok(200)
		require.Equal(t, []string{"byDirection", "byStatus", "byType", "delivered", "failed", "from", "range", "sent", "series", "stepSeconds", "successRate", "total", "until"}, keys(d))
		require.Equal(t, want[r.name], figures(d, names...), r.name)
		sums := map[string]float64{}
		for _, p := range w.series(d, r.name, r.seconds, r.points) {
			require.Equal(t, []string{"at", "cancelled", "delivered", "expired", "failed", "inbound", "outbound", "pending", "read", "sent", "total", "unknown"}, keys(p))
			for name, n := range p.(map[string]any) {
				if name != "at" {
					sums[name] += n.(float64)
				}
			}
		}
		for _, of := range []string{"byStatus", "byDirection"} {
			for name, n := range d[of].(map[string]any) {
				require.Equal(t, n, sums[name], "%s of %s", name, r.name)
			}
		}
		types := 0.0
		for _, n := range d["byType"].(map[string]any) {
			types += n.(float64)
		}
		require.Equal(t, []float64{want[r.name][0], want[r.name][0]}, []float64{sums["total"], types})
	}
	d = admin.read("/admin/analytics/messages?range=30d").ok(200)
	require.Equal(t, map[string]any{"pending": 2.0, "sent": 3.0, "delivered": 4.0, "read": 5.0, "failed": 1.0, "unknown": 0.0, "cancelled": 0.0, "expired": 0.0}, d["byStatus"])
	require.Equal(t, map[string]any{"outbound": 15.0, "inbound": 6.0}, d["byDirection"])
	require.Equal(t, []string{"audio", "contact", "delete", "document", "edit", "image", "location", "poll", "reaction", "sticker", "text", "unknown", "video", "voice", "vote"}, keys(d["byType"]))
	require.Equal(t, []float64{11, 4, 6, 0}, figures(d["byType"], "text", "image", "voice", "poll"))
	last := admin.read("/admin/analytics/messages?range=1h").ok(200)["series"].([]any)
	require.LessOrEqual(t, figures(last[len(last)-1], "sent")[0], 3.0)

	// What is removed has been counted.
	admin.do("DELETE", "/api/v1/admin/users/"+u.id, admin.auth(), nil).ok(202)
	w.exec(`DELETE FROM messages`)
	w.analysed()
	require.Equal(t, []float64{1, 28}, figures(admin.read("/admin/analytics").ok(200)["overview"], "totalUsers", "totalMessages"))
	require.Equal(t, 21.0, admin.read("/admin/analytics/messages?range=30d").ok(200)["total"])
}

func TestAnalyticsOfUsersAndWorkers(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin, u := w.administrator(), w.register("u")
	w.exec(`INSERT INTO users (id, name, email, password_hash, tier, created_at, last_login_at)
		SELECT kurir_uuid_v7(), 'x', n || '@x', 'x', (ARRAY['BASIC', 'PRO', 'PRO', 'MAX'])[n], now() - age, now() - age FROM (VALUES
			(1, interval '61 minutes'), (2, interval '3 days'), (3, interval '10 days'), (4, interval '50 days')) AS v (n, age)`)
	w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": password}).ok(200)
	w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": password}).ok(200)
	w.analysed()
	today := modelstest.Scalar[int64](t, w.db, `SELECT count(*) FROM users WHERE created_at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'`)
	came := map[string]float64{"1h": 2, "24h": 3, "7d": 4, "30d": 5}
	here := map[string]float64{"1h": 1, "24h": 2, "7d": 3, "30d": 4}
	for _, r := range ranges {
		d := admin.read("/admin/analytics/users?range=" + r.name).ok(200)
		require.Equal(t, []string{"activeUsers", "byTier", "from", "newUsers", "newUsersToday", "range", "series", "stepSeconds", "total", "until"}, keys(d))
		require.Equal(t, map[string]any{"basic": 1.0, "pro": 2.0, "max": 3.0}, d["byTier"])
		require.Equal(t, []float64{6, 3, float64(today), came[r.name]}, figures(d, "total", "activeUsers", "newUsersToday", "newUsers"), r.name)
		var news, active float64
		for _, p := range w.series(d, r.name, r.seconds, r.points) {
			require.Equal(t, []string{"activeUsers", "at", "newUsers"}, keys(p))
			f := figures(p, "newUsers", "activeUsers")
			news, active = news+f[0], active+f[1]
		}
		require.Equal(t, came[r.name], news, r.name)
		require.GreaterOrEqual(t, active, here[r.name], "who logs in in two steps stands in both")
		require.LessOrEqual(t, active, here[r.name]+1)
	}

	modelstest.Worker(t, w.db, "b", 10)
	w.node("a").beat(func(h *wire.Heartbeat) { h.Metrics.CPUUsage = 10 }).ok(200)
	w.exec(`DELETE FROM worker_metrics`)
	w.exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT id, cpu, memory, sessions, 1, date_bin('6 hours', now(), 'epoch') - age + n * interval '1 second' FROM (VALUES
			('a', 10, 40, 3, interval '12 hours', 0), ('a', 20, 50, 4, interval '12 hours', 1), ('b', 40, 60.02, 5, interval '12 hours', 0), ('a', 45, 45, 9.0, interval '18 hours', 0),
			('b', 90, 90, 9, interval '20 days', 0)) AS v (id, cpu, memory, sessions, age, n)`)
	for _, r := range ranges {
		d := admin.read("/admin/analytics/workers?range=" + r.name).ok(200)
		require.Equal(t, []string{"from", "range", "series", "stepSeconds", "until", "workers"}, keys(d))
		var heard float64
		for _, p := range w.series(d, r.name, r.seconds, r.points) {
			require.Equal(t, []string{"at", "avgCpuUsage", "avgMemoryUsage", "sessions", "workers"}, keys(p))
			f := figures(p, "workers", "avgCpuUsage", "avgMemoryUsage", "sessions")
			heard += f[0]
			if f[0] == 2 {
				require.Equal(t, []float64{2, 27.5, 52.5, 8.5}, f, "a's average of the step with b's")
			}
		}
		require.Equal(t, map[string]float64{"1h": 0, "24h": 3, "7d": 3, "30d": 4}[r.name], heard, r.name)
		workers := d["workers"].([]any)
		if r.name == "1h" {
			require.Empty(t, workers)
			continue
		}
		require.Equal(t, []string{"avgCpu", "avgMemory", "avgSessions", "endpoint", "samples", "workerId"}, keys(workers[0]))
		require.Equal(t, []any{"a", 2}, []any{str(workers[0].(map[string]any), "workerId"), len(workers[0].(map[string]any)["samples"].([]any))})
		require.Equal(t, []float64{30, 45, 6.3}, figures(workers[0], "avgCpu", "avgMemory", "avgSessions"))
		require.Equal(t, "http://b", str(workers[1].(map[string]any), "endpoint"))
		sample := workers[0].(map[string]any)["samples"].([]any)[1]
		require.Equal(t, []string{"cpuUsage", "memoryUsage", "sessionCount", "timestamp"}, keys(sample))
		require.Equal(t, []float64{15, 45, 3.5}, figures(sample, "cpuUsage", "memoryUsage", "sessionCount"))
	}

	for _, path := range []string{"/messages", "/users", "/workers"} {
		require.Equal(t, "24h", str(admin.read("/admin/analytics"+path).ok(200), "range"), "the default")
		for _, bad := range []string{"2h", "24H", "24h,7d", "-1h", "24h'", "86400", "1h%00", "%F0%9F%98%80"} {
			admin.read("/admin/analytics"+path+"?range="+bad).refused(422, "invalid_request").contains(`"field":"range"`)
		}
		u.read("/admin/analytics"+path).refused(403, "forbidden")
		w.do("GET", "/api/v1/admin/analytics"+path, nil, nil).refused(401, "unauthenticated")
	}
	u.read("/admin/analytics").refused(403, "forbidden")

	// Who reads holds nothing, and waits for nobody who writes.
	tx, err := w.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE analytics_counts, analytics_changes, worker_metrics IN EXCLUSIVE MODE`)
	require.NoError(t, err)
	for _, path := range []string{"", "/messages", "/users", "/workers"} {
		admin.read("/admin/analytics" + path).ok(200)
	}
	require.NoError(t, tx.Rollback(t.Context()))
}
