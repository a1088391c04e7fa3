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
