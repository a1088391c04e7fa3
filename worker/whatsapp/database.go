package whatsapp

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"maps"
	"regexp"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"go.mau.fi/whatsmeow/store/sqlstore"
	waLog "go.mau.fi/whatsmeow/util/log"
)

//go:embed schema.sql
var schemaSQL string

// upgradeLock is the advisory lock under which one process at a time changes the schema, and claimLock the class of those of
// sessions, as in schema.sql.
const (
	upgradeLock = 0x4b75_7269_7257_4101 // "KurirWA"
	claimLock   = 1263881801            // "KurI"
)

var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// frozen is what PostgreSQL does about a worker that stops in the middle of a transaction, or whose machine is gone: the transaction
// ends, as whoever takes over its sessions waits for it. In milliseconds and seconds; whatsmeow's transactions take some milliseconds.
var frozen = map[string]string{
	"idle_in_transaction_session_timeout": "10000",
	"tcp_keepalives_idle":                 "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3", "tcp_user_timeout": "10000",
}

// openPool opens the connections of a worker. Everything that they touch is in one schema.
func openPool(ctx context.Context, url, schema string, conns int) (*pgxpool.Pool, error) {
	if !schemaName.MatchString(schema) {
		return nil, fmt.Errorf("%q is no name for a schema: lower case letters, digits and underscores", schema)
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("the database's URL: %w", err)
	}
	cfg.MaxConns = int32(conns) //nolint:gosec // checked by New
	maps.Copy(cfg.ConnConfig.RuntimeParams, frozen)
	cfg.ConnConfig.RuntimeParams["search_path"] = schema
	cfg.ConnConfig.RuntimeParams["application_name"] = "kurir-whatsapp"
	return pgxpool.NewWithConfig(ctx, cfg)
}

// upgrade brings the schema up to date: whatsmeow's tables, ours, and the fence around them. Several processes may try at once.
func upgrade(ctx context.Context, pool *pgxpool.Pool, schema string, log waLog.Logger) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", upgradeLock); err != nil {
		return fmt.Errorf("wait for another upgrade: %w", err)
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", upgradeLock) }()
	if err := makeSchema(ctx, conn.Conn(), schema); err != nil {
		return err
	}
	// whatsmeow looks for its table of versions in all schemas, and would take another program's for its own.
	if _, err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS whatsmeow_version (version INTEGER, compat INTEGER)"); err != nil {
		return fmt.Errorf("create the table of versions: %w", err)
	}
	db := fenced(pool, fenceUpgrade, everyDevice)
	defer func() { _ = db.Close() }()
	if err := sqlstore.NewWithDB(db, "pgx", log).Upgrade(ctx); err != nil {
		return fmt.Errorf("upgrade whatsmeow's tables: %w", err)
	}
	if _, err := conn.Exec(ctx, schemaSQL); err != nil {
		return fmt.Errorf("upgrade our tables: %w", err)
	}
	return nil
}

// makeSchema makes the schema if it is not there. IF NOT EXISTS alone asks for the right to make one before it looks.
func makeSchema(ctx context.Context, conn *pgx.Conn, schema string) error {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there); err != nil {
		return fmt.Errorf("look for the schema: %w", err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{schema}.Sanitize()); err != nil {
		return fmt.Errorf("create the schema: %w", err)
	}
	return nil
}

// container is whatsmeow's store of devices as one session sees it, see fenced. What belongs to no session, the map of numbers
// and LIDs, all share.
func container(db *sql.DB, log waLog.Logger, lids *sqlstore.CachedLIDMap) *sqlstore.Container {
	c := sqlstore.NewWithDB(db, "pgx", log)
	c.LIDMap = lids
	return c
}

// lidConns are the connections for that map. They are none of the sessions' pool: whatsmeow holds the map's lock while it waits
// for one, and sessions wait for the lock inside of transactions.
const lidConns = 2

// openLIDs opens the map of numbers and LIDs.
func openLIDs(ctx context.Context, cfg Config, log waLog.Logger) (*pgxpool.Pool, *sql.DB, *sqlstore.CachedLIDMap, error) {
	pool, err := openPool(ctx, cfg.DatabaseURL, cfg.Schema, lidConns)
	if err != nil {
		return nil, nil, nil, err
	}
	db := stdlib.OpenDBFromPool(pool)
	return pool, db, sqlstore.NewWithDB(db, "pgx", log).LIDMap, nil
}
