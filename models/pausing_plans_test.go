package models_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
)

// While everything is paused, a sweep looks at no lane of messages that waits, not even in search of lanes of webhooks.
func TestASweepPassesThePausedPlatform(t *testing.T) {
	r := newReporter(t)
	b := &bulk{TB: t, db: r.db}
	r.exec(`INSERT INTO lanes (id, kind, open, next_seq, next_due_at) SELECT kurir_uuid_v7(), 'MESSAGES', true, 1, now() - interval '1 minute' FROM generate_series(1, 3000)`)
	r.exec(`ANALYZE`)
	require.NoError(t, r.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		_, err := models.PausePlatform(t.Context(), tx, true)
		return err
	}))
	rec, pool := traced(t, r.db)
	for _, kind := range []string{models.LaneMessages, models.LaneWebhook} {
		due, err := models.DueLanes(t.Context(), pool, kind, 10)
		require.NoError(t, err)
		require.Empty(t, due)
	}
	require.Len(t, rec.seen, 2)
	plan := b.explain(rec.seen[0], "ANALYZE, COSTS OFF, TIMING OFF")
	require.Contains(t, plan, "One-Time Filter", plan)
	require.Regexp(t, ` on lanes l \(never executed\)`, plan)
	plan = b.explain(rec.seen[1], "ANALYZE, COSTS OFF, TIMING OFF")
	require.Regexp(t, `Index Cond: \(\(kind = .*next_due_at <= now\(\)`, plan)
	require.NotContains(t, plan, "Rows Removed", plan)
}
