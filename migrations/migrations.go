// Package migrations holds the schema as SQL files, NNNN_name.up.sql and .down.sql, and applies them. Each file is one
// transaction. Any number of processes may migrate at once: an advisory lock lets one through at a time.
package migrations

import (
	"context"
	"embed"
	"fmt"
	"slices"
	"strings"

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

// Up applies what is missing and returns the names of what it applied.
func Up(ctx context.Context, db *bun.DB) ([]string, error) {
	return locked(ctx, db, func(m *migrate.Migrator) (*migrate.MigrationGroup, error) { return m.Migrate(ctx) })
}

// Down takes back the migrations that the last Up applied and returns their names.
func Down(ctx context.Context, db *bun.DB) ([]string, error) {
	return locked(ctx, db, func(m *migrate.Migrator) (*migrate.MigrationGroup, error) { return m.Rollback(ctx) })
}

// Last lists what Down would take back, newest first. It changes nothing but makes its own bookkeeping table.
func Last(ctx context.Context, db *bun.DB) ([]string, error) {
	return locked(ctx, db, func(m *migrate.Migrator) (*migrate.MigrationGroup, error) {
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
	_, err := locked(ctx, db, func(m *migrate.Migrator) (*migrate.MigrationGroup, error) {
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
func locked(ctx context.Context, db *bun.DB, f func(*migrate.Migrator) (*migrate.MigrationGroup, error)) ([]string, error) {
	all := migrate.NewMigrations()
	if err := all.Discover(files); err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to migrate: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock(?)", lockKey); err != nil {
		return nil, fmt.Errorf("lock migrations: %w", err)
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock(?)", lockKey)
	}()

	migrator := migrate.NewMigrator(db, all, migrate.WithMarkAppliedOnSuccess(true))
	if err := migrator.Init(ctx); err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	group, err := f(migrator)
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
