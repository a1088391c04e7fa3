package jobs

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// What is old goes in batches, however much there is and whatever else fails; what is not old stays.
func TestForgettingIsBounded(t *testing.T) {
	db := modelstest.DB(t)
	user := modelstest.User(t, db)
	modelstest.Worker(t, db, "w", 10)
	r := &Runner{db: db, id: models.NewID(), log: quiet, cfg: Config{KeepLogs: 24 * time.Hour, KeepMetrics: 96 * time.Hour, KeepJobs: 24 * time.Hour}}
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	left := func(table string) int64 { return modelstest.Scalar[int64](t, db, `SELECT count(*) FROM `+table) }
	exec(`INSERT INTO system_logs (level, service, message, timestamp) SELECT 'INFO', 'api', 'x', now() - CASE WHEN n <= 12000 THEN interval '2 days' ELSE '1 hour' END FROM generate_series(1, 12003) n`)
	exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT 'w', 1, 1, 1, 1, now() - CASE WHEN n <= 6000 THEN interval '5 days' ELSE '1 hour' END FROM generate_series(1, 6002) n`)
	exec(`INSERT INTO idempotency_keys (owner, route, key, request_hash, resource_id, locked_until, expires_at)
		SELECT $1, 'r', n, 'x', $1, now(), now() + CASE WHEN n <= 6000 THEN -interval '1 minute' ELSE '1 minute' END FROM generate_series(1, 6004) n`, user.ID)
	exec(`INSERT INTO jobs (id, kind, status, finished_at) SELECT overlay(gen_random_uuid()::text PLACING CASE WHEN n <= 6000 THEN '0190' ELSE 'ffff' END FROM 1)::uuid,
		'x', 'SUCCEEDED', now() - interval '2 days' FROM generate_series(1, 6005) n`)

	n, err := models.ForgetAudit(t.Context(), db.Pool, 24*time.Hour)
	require.NoError(t, err)
	require.EqualValues(t, 5000, n, "in one statement")

	ended, cancel := context.WithTimeout(t.Context(), forgetUntil/2)
	defer cancel()
	require.NoError(t, r.forget(ended, tick{}), "the next tick goes on")
	require.EqualValues(t, 7003, left("system_logs"))

	exec(`ALTER TABLE usage_writers RENAME TO away`)
	exec(`ALTER TABLE letter_quotas RENAME TO gone`)
	err = r.forget(t.Context(), tick{})
	require.ErrorContains(t, err, "forget usage writers")
	require.ErrorContains(t, err, "forget letters' counts")
	require.Equal(t, []int64{3, 2, 4, 5}, []int64{left("system_logs"), left("worker_metrics"), left("idempotency_keys"), left("jobs")})
}
