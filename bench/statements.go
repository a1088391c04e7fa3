package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"kurir/embedded"
)

// withStatements starts PostgreSQL anew, so that it counts its statements.
func (r *rig) withStatements(ctx context.Context) (*embedded.Servers, error) {
	if err := execute(ctx, r.servers.DatabaseURL, "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'"); err != nil {
		return r.servers, err
	}
	if err := r.servers.Stop(ctx); err != nil {
		return nil, err
	}
	servers, err := r.embedded(ctx)
	if err != nil {
		return nil, err
	}
	return servers, execute(ctx, servers.DatabaseURL, "CREATE EXTENSION pg_stat_statements")
}

// execute runs statements without the bound that Kurir's connections have.
func execute(ctx context.Context, url string, statements ...string) (err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.60s: %w", sql, err)
		}
	}
	return nil
}

// reportStatements prints what cost PostgreSQL most since the rig was started.
func (r *rig) reportStatements() error {
	rows, err := r.db.Pool.Query(context.Background(), `SELECT calls, total_exec_time, mean_exec_time, rows, shared_blks_hit::float8 / greatest(calls, 1), wal_bytes::float8 / greatest(calls, 1), query
		FROM pg_stat_statements WHERE query !~ '^(INSERT INTO (messages|message_index|events) SELECT|CREATE|ALTER)' ORDER BY total_exec_time DESC LIMIT 15`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var calls, n int64
		var total, mean, blocks, wal float64
		var query string
		if err := rows.Scan(&calls, &total, &mean, &n, &blocks, &wal, &query); err != nil {
			return err
		}
		r.say("statement: %8.0f ms, %7d times %.3f ms, %d rows, %.0f blocks and %.0f bytes of WAL a time: %.160s", total, calls, mean, n, blocks, wal, strings.Join(strings.Fields(query), " "))
	}
	return rows.Err()
}
