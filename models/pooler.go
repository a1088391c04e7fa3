package models

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Place is where a database is. URL leads to it, for all work. With Direct, which leads to PostgreSQL itself, URL may lead to a
// pooler that gives a connection to somebody else after each transaction, such as PgBouncer in transaction mode. Then nothing that
// a connection is told at its start, or remembers from one transaction to the next, may be relied on: the settings are the
// role's, and what listens, migrates or must not queue behind the others has a connection of its own.
type Place struct{ URL, Direct string }

// pooledName is the same for all processes: a pooler has to tell PostgreSQL each time that a connection changes hands between
// clients of different names. Which key a process seals under is told by its direct connections.
const pooledName = "kurir pooled"

// connect makes a connection to PostgreSQL itself, which is the caller's to close.
func (db *DB) connect(ctx context.Context) (*pgx.Conn, error) {
	if db.direct == nil {
		return pgx.ConnectConfig(ctx, db.Pool.Config().ConnConfig)
	}
	return pgx.ConnectConfig(ctx, db.direct.Copy())
}

// Pooled reports whether the database is behind a pooler.
func (db *DB) Pooled() bool { return db.pooled }

// PlainPooledError says that a pooler does not know prepared statements, on which the connections to it rely.
type PlainPooledError struct{ cause error }

func (e *PlainPooledError) Error() string {
	return "the pooler does not keep prepared statements: " + e.cause.Error()
}

// Unwrap returns what PostgreSQL said.
func (e *PlainPooledError) Unwrap() error { return e.cause }

// MissingSettings lists what connections through the pooler should be set to and are not. It asks on two connections at once: where
// the pooler does not keep prepared statements, one of them meets what the other, or somebody before, has left, and the error
// is a PlainPooledError.
func (db *DB) MissingSettings(ctx context.Context) (missing []string, err error) {
	var held [2]*pgxpool.Conn
	for i := range held {
		if held[i], err = db.Pool.Acquire(ctx); err != nil {
			return nil, err
		}
		defer held[i].Release()
	}
	names, values := settingLists()
	for _, conn := range held {
		rows, err := conn.Query(ctx, `SELECT w.name FROM unnest($1::text[], $2::text[]) w (name, value)
			WHERE w.value IS DISTINCT FROM (SELECT s.setting FROM pg_settings s WHERE s.name = w.name) ORDER BY 1`, names, values)
		if err == nil {
			missing, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if plain(err) {
			return nil, &PlainPooledError{err}
		}
		if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// plain reports whether a prepared statement was not found, or found where none was expected.
func plain(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "26000" || pg.Code == "42P05")
}

func settingLists() (names, values []string) {
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		values = append(values, settings[name])
	}
	return names, values
}

// SetForPooler makes the settings those of the role that the pooler connects as, in this database. It says which it set, and
// whether connections that the pooler has open are without them until they are renewed.
func (db *DB) SetForPooler(ctx context.Context) (set []string, stale bool, err error) {
	conn, err := db.connect(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// First, since each connection that the pooler makes before has to be renewed. It may have another role, though.
	set, denied := setForRole(ctx, conn, db.Pool.Config().ConnConfig.User)
	missing, err := db.MissingSettings(ctx)
	if err != nil || len(missing) == 0 {
		return set, false, err
	}
	var role string
	if err := db.Pool.QueryRow(ctx, `SELECT session_user::text`).Scan(&role); err != nil {
		return set, false, err
	}
	if role != db.Pool.Config().ConnConfig.User {
		set, denied = setForRole(ctx, conn, role)
	}
	return set, true, denied
}

// setForRole sets what is not set yet, of a role if there is one of that name.
func setForRole(ctx context.Context, conn *pgx.Conn, role string) ([]string, error) {
	names, values := settingLists()
	rows, err := conn.Query(ctx, `SELECT w.name FROM unnest($1::text[], $2::text[]) w (name, value), pg_roles r WHERE r.rolname = $3
		AND NOT EXISTS (SELECT 1 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
			WHERE s.setrole = r.oid AND d.datname = current_database() AND w.name || '=' || w.value = ANY(s.setconfig)) ORDER BY 1`, names, values, role)
	if err != nil {
		return nil, err
	}
	missing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	of := "ALTER ROLE " + pgx.Identifier{role}.Sanitize() + " IN DATABASE " + pgx.Identifier{conn.Config().Database}.Sanitize()
	for _, name := range missing {
		if _, err := conn.Exec(ctx, of+" SET "+name+" = '"+settings[name]+"'"); err != nil {
			return nil, fmt.Errorf("set %s for the role %s: %w", name, role, err)
		}
	}
	return missing, nil
}
