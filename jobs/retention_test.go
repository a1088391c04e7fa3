package jobs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// A user who wants less than the installation gets it; the others' messages stay, and so does what is not settled.
func TestRetentionOfAUser(t *testing.T) {
	p := newPrivacy(t)
	week, month := time.Now().AddDate(0, 0, -8), time.Now().AddDate(0, 0, -40)
	for _, s := range []*models.Session{p.a, p.b, p.x} {
		for _, at := range []time.Time{time.Now(), week, month} {
			p.message(s, "INBOUND", sari, "", "DELIVERED", at)
		}
		p.message(s, "OUTBOUND", sari, "", "PENDING", month)
	}
	p.exec(`UPDATE events SET id = kurir_uuid_from(now() - interval '10 days') WHERE id IN (SELECT id FROM events WHERE session_uid = $1 ORDER BY id LIMIT 1)`, p.a.UID)
	p.exec(`UPDATE sessions SET desired = 'DELETED', deleted_at = now() WHERE uid = $1`, p.b.UID)
	require.NoError(t, p.r.retain(t.Context(), tick{}))
	require.EqualValues(t, 12, p.count(`messages`), "nobody wants anything dropped")

	seven := 7
	require.NoError(t, models.SetRetention(t.Context(), p.db.Pool, p.user.ID, &seven))
	for range 2 {
		require.NoError(t, p.r.retain(t.Context(), tick{}))
		for s, left := range map[*models.Session]int64{p.a: 2, p.b: 2, p.x: 4} {
			require.EqualValues(t, left, p.count(`messages WHERE session_uid = $1`, s.UID), s.ID)
		}
		require.EqualValues(t, 3, p.count(`events WHERE session_uid = $1`, p.a.UID))
		require.EqualValues(t, 3, p.count(`messages WHERE status = 'PENDING'`))
	}
	days, err := models.RetentionOf(t.Context(), p.db, p.user.ID)
	require.NoError(t, err)
	require.Equal(t, 7, *days)
	require.NoError(t, models.SetRetention(t.Context(), p.db.Pool, p.user.ID, nil))
	keepers, err := models.Keepers(t.Context(), p.db.Pool, models.LowestID(time.Time{}), 10)
	require.NoError(t, err)
	require.Empty(t, keepers)
}

// The installation's retention goes by months, and by rows for deliveries.
func TestRetentionOfTheInstallation(t *testing.T) {
	p := newPrivacy(t)
	hook := addHook(t, p.db, p.a)
	p.message(p.a, "INBOUND", sari, "", "DELIVERED", time.Now().AddDate(0, -3, 0))
	p.message(p.a, "INBOUND", sari, "", "DELIVERED", time.Now())
	p.exec(`UPDATE webhook_deliveries SET status = 'DELIVERED', created_at = now() - interval '31 days' WHERE sequence = 1 AND webhook_id = $1`, hook)
	p.r.cfg.KeepMessages, p.r.cfg.KeepDeliveries = 30*24*time.Hour, 30*24*time.Hour
	require.NoError(t, p.r.retain(t.Context(), tick{}))
	require.EqualValues(t, 1, p.count(`webhook_deliveries`))
	require.EqualValues(t, 2, p.count(`messages`), "there is no month that is over")
	require.Equal(t, "2", modelstest.Scalar[string](t, p.db, `SELECT max(sequence)::text FROM webhook_deliveries`))

	// What a deleted webhook leaves goes, however long deliveries are kept.
	p.r.cfg.KeepDeliveries = 0
	p.exec(`DELETE FROM webhooks`)
	require.EqualValues(t, 1, p.count(`webhook_deliveries`))
	require.NoError(t, p.r.retain(t.Context(), tick{}))
	require.Zero(t, p.count(`webhook_deliveries`))
}

// What an age bounds is dropped beyond it, and with 0 not at all.
func TestRecordsAreForgotten(t *testing.T) {
	p := newPrivacy(t)
	p.exec(`INSERT INTO jobs (id, kind, user_id, status, finished_at) VALUES ($2, 'contact:forget', $1, 'SUCCEEDED', now() - interval '100 days')`,
		p.user.ID, models.LowestID(time.Now().AddDate(0, 0, -100)))
	p.exec(`INSERT INTO system_logs (level, service, message, actor, timestamp) VALUES ('INFO', 'api', 'user.changed', 'system', now() - interval '100 days')`)
	modelstest.Worker(t, p.db, "measured", 1)
	p.exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp) VALUES ('measured', 1, 1, 0, 0, now() - interval '100 days')`)
	old := func() []int64 {
		return []int64{p.count(`jobs WHERE finished_at < now() - interval '99 days'`), p.count(`system_logs WHERE timestamp < now() - interval '99 days'`),
			p.count(`worker_metrics WHERE timestamp < now() - interval '99 days'`)}
	}
	p.r.cfg.KeepJobs, p.r.cfg.KeepLogs, p.r.cfg.KeepMetrics = 0, 0, 0
	require.NoError(t, p.r.forget(t.Context(), tick{}))
	require.Equal(t, []int64{1, 1, 1}, old(), "0 is never")
	p.r.cfg.KeepJobs, p.r.cfg.KeepLogs, p.r.cfg.KeepMetrics = 90*24*time.Hour, 90*24*time.Hour, 90*24*time.Hour
	require.NoError(t, p.r.forget(t.Context(), tick{}))
	require.Equal(t, []int64{0, 0, 0}, old())
}
