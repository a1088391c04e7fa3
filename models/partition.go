package models

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"
)

// Ahead is how long before a month begins its partitions are made. One that is there costs every statement about a lane something.
const Ahead = 4 * 24 * time.Hour

// AddPartitions makes the monthly partitions that are missing, of this month and, Ahead of it, of the next, and returns
// how many it made. A table has to be free for that, and whoever comes later waits meanwhile: where somebody reads it for long, as a
// backup does, it is left for the next call.
func AddPartitions(ctx context.Context, db bun.IDB, now time.Time) (int, error) {
	made := 0
	for _, parent := range []string{"message_index", "messages", "events"} {
		for _, at := range []time.Time{now.UTC(), now.UTC().Add(Ahead)} {
			month := time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)
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
