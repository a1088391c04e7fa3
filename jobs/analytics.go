package jobs

import (
	"context"
	"time"

	"kurir/models"
)

// KindCountAnalytics counts messages and users by time, see docs/analytics.md. Each change waits in a row that was written with
// it, so a run that fails, or never comes, loses nothing.
const KindCountAnalytics = "analytics:count"

// analyticsTime bounds a run; the next one goes on.
const analyticsTime = 20 * time.Second

func (r *Runner) countAnalytics(ctx context.Context, _ tick) error {
	for deadline := time.Now().Add(analyticsTime); time.Now().Before(deadline); {
		taken, err := models.CountAnalytics(ctx, r.db)
		if err != nil || taken < models.AnalyticsBatch {
			return err
		}
	}
	return nil
}
