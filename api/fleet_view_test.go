package api_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/placement"
	"kurir/wire"
)

func TestWorkerMetrics(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	require.Equal(t, map[string]any{"range": "24h", "stepSeconds": 900.0, "workers": []any{}}, admin.read("/admin/workers/metrics").ok(200))
	modelstest.Worker(t, w.db, "a", 10)
	modelstest.Worker(t, w.db, "b", 10)
	// Two readings in one step of each range, one in another, and ages that only longer ranges reach.
	w.exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT 'b', cpu, 50, sessions, messages, at FROM (VALUES
			(10, 1, 100, date_bin('6 hours', now() - interval '12 hours', 'epoch') + interval '1 second'),
			(20, 2, 300, date_bin('6 hours', now() - interval '12 hours', 'epoch') + interval '2 seconds'),
			(90, 9, 900, now() - interval '5 days'), (91, 9, 901, now() - interval '20 days'), (92, 9, 902, now() - interval '31 days')) AS r (cpu, sessions, messages, at)`)
	w.exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp) VALUES ('a', 33, 44, 5, 6, now())`)
	w.node("c").beat(func(h *wire.Heartbeat) { h.Metrics.CPUUsage = 77 }).ok(200)
	w.remove("c")
	for span, want := range map[string]struct {
		step   float64
		points map[string]int
	}{"1h": {60, map[string]int{"a": 1, "c": 1}}, "24h": {900, map[string]int{"a": 1, "b": 1, "c": 1}}, "7d": {3600, map[string]int{"a": 1, "b": 2, "c": 1}},
		"30d": {21600, map[string]int{"a": 1, "b": 3, "c": 1}}} {
		data := admin.read("/admin/workers/metrics?range=" + span).ok(200)
		require.Equal(t, []any{span, want.step}, []any{data["range"], data["stepSeconds"]})
		points := map[string]int{}
		for _, raw := range data["workers"].([]any) {
			series := raw.(map[string]any)
			list := series["points"].([]any)
			points[str(series, "workerId")] = len(list)
			for _, p := range list {
				at, err := time.Parse(time.RFC3339, p.(map[string]any)["at"].(string))
				require.NoError(t, err)
				require.Zero(t, at.Unix()%int64(want.step), "points lie at whole steps")
			}
		}
		require.Equal(t, want.points, points, "removed ones too, of %s", span)
	}
	workers := admin.read("/admin/workers/metrics").ok(200)["workers"].([]any)
	point := workers[1].(map[string]any)["points"].([]any)[0].(map[string]any)
	require.Equal(t, []any{15.0, 50.0, 1.5, 300.0}, []any{point["cpuUsage"], point["memoryUsage"], point["sessionCount"], point["messageCount"]}, "averages, and the latest count")

	for _, bad := range []string{"2h", "24H", "", "24h,7d", "-1h", "24h'", "86400"} {
		a := admin.do("GET", "/api/v1/admin/workers/metrics", admin.auth(), nil)
		if bad != "" {
			a = admin.read("/admin/workers/metrics?range=" + bad)
			a.refused(422, "invalid_request").contains(`"field":"range"`)
			continue
		}
		a.ok(200)
	}

	// What was read a moment ago is not read again: nobody can read the table now.
	first := admin.read("/admin/workers/metrics?range=30d").ok(200)
	tx, err := w.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `LOCK TABLE worker_metrics IN ACCESS EXCLUSIVE MODE`)
	require.NoError(t, err)
	require.Equal(t, first, admin.read("/admin/workers/metrics?range=30d").ok(200))
	require.Len(t, admin.read("/admin/analytics/workers?range=30d").ok(200)["workers"], 3)
	require.NoError(t, tx.Rollback(t.Context()))
	admin.do("PATCH", workersPath+"/metrics", admin.auth(), map[string]any{"status": "online"}).refused(404, "worker_not_found")
}

func TestScaling(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin, u := w.administrator(), w.register("u")
	get := func() map[string]any { return admin.read("/admin/scaling").ok(200) }
	first := get()
	require.Equal(t, []any{"none", 0.0, 0.0, 0.0, nil, nil, nil, nil}, []any{first["action"], first["workers"], first["recommended"], first["utilization"],
		first["since"], first["candidate"], first["pendingSince"], first["updatedAt"]})
	require.NotEmpty(t, first["reason"])
	modelstest.Worker(t, w.db, "w1", 6)
	modelstest.Worker(t, w.db, "w2", 6)
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		u.session(id)
	}
	require.Equal(t, []any{"none", 2.0, 2.0, 5.0 / 12}, []any{get()["action"], get()["workers"], get()["recommended"], get()["utilization"]})

	now := time.Now().UTC()
	update := func(at time.Time) {
		t.Helper()
		_, err := models.UpdateScaling(t.Context(), w.db, at, func(pgx.Tx, placement.Scaling) error { return nil })
		require.NoError(t, err)
	}
	update(now)
	data := get()
	require.Equal(t, []any{"none", 2.0, 2.0, nil, nil}, []any{data["action"], data["workers"], data["recommended"], data["candidate"], data["pendingSince"]}, data)
	require.NotNil(t, data["since"])
	require.NotNil(t, data["updatedAt"])
	w.exec(`UPDATE workers SET max_sessions = 3`)
	update(now)
	data = get()
	require.Equal(t, []any{"none", 2.0, 3.0}, []any{data["action"], data["recommended"], data["candidate"]}, data)
	require.Equal(t, now.Truncate(time.Microsecond).Format(time.RFC3339Nano), data["pendingSince"])
	update(now.Add(2 * time.Minute))
	data = get()
	require.Equal(t, []any{"scale_up", 2.0, 3.0, nil}, []any{data["action"], data["workers"], data["recommended"], data["candidate"]}, data)
	require.Contains(t, data["reason"], "3 instead of 2")
}
