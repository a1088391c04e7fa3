package models

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"
)

// MonthsAhead is how many months beyond the present one have their partitions. Each costs every statement about a lane something.
const MonthsAhead = 1

// AddPartitions makes the monthly partitions that are missing, from this month to MonthsAhead later, and returns
// how many it made. A table has to be free for that, and whoever comes later waits meanwhile: where somebody reads it for long, as a
// backup does, it is left for the next call.
func AddPartitions(ctx context.Context, db bun.IDB, now time.Time) (int, error) {
	made := 0
	first := time.Date(now.UTC().Year(), now.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	for _, parent := range []string{"message_index", "messages", "events"} {
		for ahead := range MonthsAhead + 1 {
			month := first.AddDate(0, ahead, 0)
			var added bool
			// The lock keeps two runners from making one partition at once.
			err := db.NewRaw("SELECT kurir_add_month(?, ?::date) FROM (SELECT set_config('lock_timeout', ?, true), pg_advisory_xact_lock(hashtext('kurir_add_month'))) l",
				parent, month.Format(time.DateOnly), dropLock).Scan(ctx, &added)
			if IsLockTimeout(err) {
				continue
			}
			if err != nil {
				return made, fmt.Errorf("add partition of %s for %s: %w", parent, month.Format("2006-01"), err)
			}
			if added {
				made++
			}
		}
	}
	return made, nil
}
