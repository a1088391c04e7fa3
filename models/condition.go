package models

import (
	"context"
	"strings"
	"time"
)

// Condition is how a PostgreSQL is, for those who operate it.
type Condition struct {
	Version     string // 16.4
	Number      int    // 160004
	Connections int    // that are open
	Most        int    // that may be, by others than superusers
	Now         time.Time
	Missing     []string // partitions of this month and, three days before it begins, of the next
}

// ConditionOf reads it. Nothing has to be there, not even the schema.
func ConditionOf(ctx context.Context, q Querier) (c Condition, err error) {
	err = q.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int,
			(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
			current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
			clock_timestamp(),
			ARRAY(SELECT DISTINCT name FROM unnest(ARRAY['messages', 'message_index', 'events']) parent, unnest(ARRAY[0, 3]) days,
				LATERAL (SELECT parent || '_' || to_char(now() AT TIME ZONE 'UTC' + make_interval(days => days), 'YYYYMM') AS name) n
				WHERE to_regclass(parent) IS NOT NULL AND to_regclass(name) IS NULL ORDER BY name)`).
		Scan(&c.Version, &c.Number, &c.Connections, &c.Most, &c.Now, &c.Missing)
	c.Version, _, _ = strings.Cut(c.Version, " ") // Debian adds its own
	return c, err
}
