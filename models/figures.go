package models

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Figures are what PostgreSQL tells of itself. Counters begin when the database's statistics were reset.
type Figures struct {
	Size, Dead, Live                                                     int64          // bytes; rows by its own estimate
	Connections                                                          map[string]int // of all clients, by state
	ConnectionsMax                                                       int
	OldestTransaction                                                    time.Duration
	TransactionAge                                                       int64 // IDs since the oldest that is not frozen
	Commits, Rollbacks, Deadlocks, BlocksRead, BlocksHit, TemporaryBytes int64
}

// FiguresOf asks PostgreSQL for its figures. Of connections of other users it says no state; those count as other.
func FiguresOf(ctx context.Context, q Querier) (Figures, error) {
	f := Figures{Connections: map[string]int{}}
	var oldest float64
	err := q.QueryRow(ctx, `SELECT pg_database_size(d.datid), current_setting('max_connections')::int,
			d.xact_commit, d.xact_rollback, d.deadlocks, d.blks_read, d.blks_hit, d.temp_bytes,
			(SELECT age(datfrozenxid)::bigint FROM pg_database WHERE oid = d.datid),
			t.live, t.dead,
			(SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8 FROM pg_stat_activity
				WHERE datid = d.datid AND pid <> pg_backend_pid())
		FROM pg_stat_database d, (SELECT coalesce(sum(n_live_tup), 0)::bigint AS live, coalesce(sum(n_dead_tup), 0)::bigint AS dead FROM pg_stat_user_tables) t
		WHERE d.datname = current_database()`).Scan(&f.Size, &f.ConnectionsMax, &f.Commits, &f.Rollbacks, &f.Deadlocks, &f.BlocksRead, &f.BlocksHit,
		&f.TemporaryBytes, &f.TransactionAge, &f.Live, &f.Dead, &oldest)
	if err != nil {
		return f, fmt.Errorf("read figures of PostgreSQL: %w", err)
	}
	f.OldestTransaction = time.Duration(oldest * float64(time.Second))
	rows, err := q.Query(ctx, `SELECT coalesce(state, 'other'), count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1`)
	if err != nil {
		return f, fmt.Errorf("read connections of PostgreSQL: %w", err)
	}
	var state string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		f.Connections[stateOf(state)] += n
		return nil
	})
	return f, err
}

// stateOf makes a label of the state of a connection.
func stateOf(state string) string {
	switch {
	case state == "active" || state == "idle":
		return state
	case strings.HasPrefix(state, "idle in transaction"):
		return "idle_in_transaction"
	}
	return "other"
}
