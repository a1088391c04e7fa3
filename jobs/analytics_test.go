package jobs

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// However many runners count at once, each change is counted once, and a tick takes all that waits.
func TestCountAnalytics(t *testing.T) {
	f := newFleet(t, 0)
	f.tick(f.runner.countAnalytics)
	const changes = 2*models.AnalyticsBatch + 100
	f.exec(`INSERT INTO analytics_changes (subject, kind, state, at, n) SELECT 'MESSAGE', 'TEXT', 'SENT', now(), 3 FROM generate_series(1, $1)`, changes)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := f.runner.countAnalytics(context.Background(), tick{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	f.tick(f.runner.countAnalytics)
	require.Zero(t, modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM analytics_changes`))
	all, err := models.OverviewOf(t.Context(), f.db.Pool)
	require.NoError(t, err)
	require.EqualValues(t, 3*changes, all.Messages)
}
