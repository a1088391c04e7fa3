// Package migrations holds the schema as SQL files, NNNN_name.up.sql and .down.sql, and applies them. Each file is one
// transaction. Any number of processes may migrate at once: an advisory lock lets one through at a time.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"
)

//go:embed *.sql
var files embed.FS

// lockKey is the advisory lock of everyone who changes the schema ("kurirmig" in ASCII).
const lockKey int64 = 0x6b757269726d6967

// State is one migration and whether it is applied.
type State struct {
	Name    string
	Applied bool
}

// Up applies what is missing and returns the names of what it applied. A migration that does not get a lock within its own
// lock_timeout is tried again: whoever waits for a lock has everybody else wait behind him.
func Up(ctx context.Context, db *bun.DB) ([]string, error) { return up(ctx, db, files, lockPause) }

const (
	lockTries = 60
	lockPause = time.Second
)

func up(ctx context.Context, db *bun.DB, from fs.FS, pause time.Duration) (applied []string, err error) {
	for try := 1; ; try++ {
		var names []string
		names, err = locked(ctx, db, from, func(m *migrate.Migrator, _ bun.Conn) (*migrate.MigrationGroup, error) { return m.Migrate(ctx) })
		if err != nil && len(names) > 0 {
			names = names[:len(names)-1] // the last one failed
		}
		applied = append(applied, names...)
		if err == nil {
			_, err = locked(ctx, db, from, func(_ *migrate.Migrator, conn bun.Conn) (*migrate.MigrationGroup, error) {
				return nil, finishIndexes(ctx, conn)
			})
			return applied, err
		}
		if pg := (*pgconn.PgError)(nil); !errors.As(err, &pg) || pg.Code != codeLockTimeout || try == lockTries {
			return applied, err
		}
		select {
		case <-ctx.Done():
			return applied, err
		case <-time.After(pause):
		}
	}
}

const codeLockTimeout = "55P03"

// Down takes back the migrations that the last Up applied and returns their names.
func Down(ctx context.Context, db *bun.DB) ([]string, error) {
	return locked(ctx, db, files, func(m *migrate.Migrator, _ bun.Conn) (*migrate.MigrationGroup, error) { return m.Rollback(ctx) })
}

// Last lists what Down would take back, newest first. It changes nothing but makes its own bookkeeping table.
func Last(ctx context.Context, db *bun.DB) ([]string, error) {
	return locked(ctx, db, files, func(m *migrate.Migrator, _ bun.Conn) (*migrate.MigrationGroup, error) {
		all, err := m.MigrationsWithStatus(ctx)
		if err != nil {
			return nil, err
		}
		last := all.LastGroup()
		slices.SortFunc(last.Migrations, func(a, b migrate.Migration) int { return strings.Compare(b.Name, a.Name) })
		return last, nil
	})
}

// Status lists all migrations, oldest first. It changes nothing but makes its own bookkeeping table.
func Status(ctx context.Context, db *bun.DB) ([]State, error) {
	var states []State
	_, err := locked(ctx, db, files, func(m *migrate.Migrator, _ bun.Conn) (*migrate.MigrationGroup, error) {
		all, err := m.MigrationsWithStatus(ctx)
		for i := range all {
			states = append(states, State{Name: all[i].String(), Applied: all[i].IsApplied()})
		}
		return &migrate.MigrationGroup{}, err
	})
	return states, err
}

// locked runs f under the advisory lock, which belongs to a connection of its own: should the process die, the
// server ends the connection and the lock with it.
func locked(ctx context.Context, db *bun.DB, from fs.FS, f func(*migrate.Migrator, bun.Conn) (*migrate.MigrationGroup, error)) ([]string, error) {
	all := migrate.NewMigrations()
	if err := all.Discover(from); err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := await(ctx, conn); err != nil {
		return nil, fmt.Errorf("lock migrations: %w", err)
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(?)", lockKey)
	}()

	migrator := migrate.NewMigrator(db, all, migrate.WithMarkAppliedOnSuccess(true))
	if err := migrator.Init(ctx); err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	group, err := f(migrator, conn)
	var names []string
	if group != nil {
		for i := range group.Migrations {
			names = append(names, group.Migrations[i].String())
		}
	}
	if err != nil {
		return names, fmt.Errorf("migrate: %w", err)
	}
	return names, nil
}

// lockLook is how often one who waits for the advisory lock asks for it.
const lockLook = 50 * time.Millisecond

// await takes the advisory lock. It asks again and again: a statement that waits would be waited for by an index that is made
// concurrently, under the very lock.
func await(ctx context.Context, conn bun.Conn) error {
	for {
		var taken bool
		if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock(?)", lockKey).Scan(&taken); err != nil || taken {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockLook):
		}
	}
}
