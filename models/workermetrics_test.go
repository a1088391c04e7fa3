package models_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

func TestWorkerMetricsAreKeptThinnedAndDropped(t *testing.T) {
	db := modelstest.DB(t)
	modelstest.Worker(t, db, "w1", 10)
	modelstest.Worker(t, db, "w2", 10)
	count := func() int64 { return modelstest.Scalar[int64](t, db, `SELECT count(*) FROM worker_metrics`) }
	for range 3 {
		require.NoError(t, models.AddWorkerMetrics(t.Context(), db, "w1", wire.Metrics{CPUUsage: 50, SessionCount: 3}))
	}
	require.Equal(t, int64(1), count(), "one a minute")

	_, err := db.Pool.Exec(t.Context(), `INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT w, n % 10, 20, 5, n, date_trunc('hour', now()) - interval '26 hours' + make_interval(mins => n) FROM generate_series(0, 119) n, unnest('{w1,w2}'::text[]) w`)
	require.NoError(t, err)
	_, readings, err := models.WorkerReadings(t.Context(), db.Pool, models.WindowUpTo(time.Now(), 48*time.Hour, time.Hour))
	require.NoError(t, err)
	require.Len(t, readings, 5)
	require.Equal(t, "w1", readings[0].WorkerID)
	require.InDelta(t, 4.5, readings[0].CPUUsage, 0.01)
	require.Equal(t, int64(59), readings[0].MessageCount)
	require.Equal(t, 50.0, readings[2].CPUUsage)

	_, err = db.Pool.Exec(t.Context(), `UPDATE worker_metrics SET timestamp = timestamp - interval '1 hour' WHERE timestamp < now() - interval '2 hours'`)
	require.NoError(t, err)
	thinned, err := models.ThinMetrics(t.Context(), db.Pool)
	require.NoError(t, err)
	require.Equal(t, int64(2*(120-8)), thinned, "one each quarter of an hour stays")
	thinned, err = models.ThinMetrics(t.Context(), db.Pool)
	require.NoError(t, err)
	require.Zero(t, thinned)
	require.Equal(t, int64(17), count())

	dropped, err := models.ForgetMetrics(t.Context(), db.Pool, 24*time.Hour)
	require.NoError(t, err)
	require.Equal(t, int64(16), dropped)
}

// The fleet is what was there at the same time, however long each worker was: one that takes another's place is not counted beside
// it, and what is not over yet is no loss.
func TestTheFleetIsWhatWasThereAtOnce(t *testing.T) {
	db := modelstest.DB(t)
	for _, id := range []string{"old", "new", "stays"} {
		modelstest.Worker(t, db, id, 10)
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	reads := func(w models.Window) []models.FleetReading {
		fleet, _, err := models.WorkerReadings(t.Context(), db.Pool, w)
		require.NoError(t, err)
		for i := range fleet {
			fleet[i].At = fleet[i].At.UTC()
		}
		return fleet
	}
	now, err := models.Now(t.Context(), db.Pool)
	require.NoError(t, err)
	// In the sixth minute of a quarter new has all that old had; stays is there all along, and is heard twice in each minute.
	start := now.UTC().Truncate(6 * time.Hour).Add(-6 * time.Hour)
	exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT CASE WHEN n < 5 THEN 'old' ELSE 'new' END, CASE WHEN n < 5 THEN 10 ELSE 40 END, 30, 12, n, $1::timestamptz + make_interval(mins => n, secs => 1) FROM generate_series(0, 14) n
		UNION ALL SELECT 'stays', 20, 50, 8, n, $1::timestamptz + make_interval(secs => n * 30) FROM generate_series(0, 29) n`, start)
	day := models.WindowUpTo(now, 24*time.Hour, 15*time.Minute)
	fleet := reads(day)
	require.Len(t, fleet, 1)
	require.Equal(t, []any{start, 3}, []any{fleet[0].At, fleet[0].Workers})
	require.InDelta(t, 20, fleet[0].Sessions, 1e-9, "as many as there are")
	require.InDelta(t, (10*5+40*10+20*15)/30.0, fleet[0].CPUUsage, 1e-9)
	require.InDelta(t, 40, fleet[0].MemoryUsage, 1e-9)

	// Thinned readings, one in a quarter: old for 8 quarters of 24, then new.
	exec(`DELETE FROM worker_metrics`)
	exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT CASE WHEN n < 8 THEN 'old' ELSE 'new' END, 10, 30, 12, n, $1::timestamptz + make_interval(mins => 15 * n + 14) FROM generate_series(0, 23) n
		UNION ALL SELECT 'stays', 20, 50, 8, n, $1::timestamptz + make_interval(mins => 15 * n) FROM generate_series(0, 23) n`, start)
	fleet = reads(models.WindowUpTo(now, 30*24*time.Hour, 6*time.Hour))
	require.Len(t, fleet, 1)
	require.InDelta(t, 20, fleet[0].Sessions, 1e-9)
	require.Len(t, reads(models.WindowUpTo(now, 7*24*time.Hour, time.Hour)), 6)

	// Of a minute that is not over nothing is said: not all may have been heard of.
	exec(`DELETE FROM worker_metrics`)
	exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT id, 10, 30, 12, 1, date_bin('1 minute', now(), 'epoch') + interval '2 minutes' FROM workers WHERE id = 'old'`)
	for _, w := range []models.Window{day, models.WindowUpTo(now, time.Hour, time.Minute)} {
		w.Until = w.Until.Add(4 * w.Step)
		fleet, each, err := models.WorkerReadings(t.Context(), db.Pool, w)
		require.NoError(t, err)
		require.Empty(t, fleet)
		require.Len(t, each, 1, "of the worker there is what it said")
	}
}

// An answer has all of a worker or nothing.
func TestNoWorkerIsCutByTheLimit(t *testing.T) {
	db := modelstest.DB(t)
	_, err := db.Pool.Exec(t.Context(), `INSERT INTO workers (id, endpoint, status, max_sessions) SELECT 'w' || lpad(n::text, 3, '0'), 'http://w', 'OFFLINE', 1 FROM generate_series(0, 201) n`)
	require.NoError(t, err)
	// The first one was there for half the time: the limit falls amidst another.
	_, err = db.Pool.Exec(t.Context(), `INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT id, 1, 1, 1, 1, date_bin('1 hour', now(), 'epoch') - make_interval(hours => n) FROM workers, generate_series(0, 167) n WHERE id > 'w000' OR n < 84`)
	require.NoError(t, err)
	fleet, each, err := models.WorkerReadings(t.Context(), db.Pool, models.WindowUpTo(time.Now(), 168*time.Hour, time.Hour))
	require.NoError(t, err)
	n := len(each) // all of them would fill the screen
	require.Equal(t, 84+199*168, n)
	require.Equal(t, "w199", each[n-1].WorkerID)
	require.Equal(t, 202, fleet[len(fleet)-1].Workers, "all of them")
}
