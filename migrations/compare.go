package migrations

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/migrate"
)

// Compare finds the migrations that a database lacks, and those that it has and we do not know: it is of a later version. It
// changes nothing.
func Compare(ctx context.Context, db *bun.DB) (missing, unknown []string, err error) {
	all := migrate.NewMigrations()
	if err := all.Discover(files); err != nil {
		return nil, nil, fmt.Errorf("read migrations: %w", err)
	}
	var kept bool
	if err := db.NewRaw("SELECT to_regclass('bun_migrations') IS NOT NULL").Scan(ctx, &kept); err != nil {
		return nil, nil, fmt.Errorf("look for migrations: %w", err)
	}
	var names []string
	if kept {
		if err := db.NewRaw("SELECT name FROM bun_migrations ORDER BY name").Scan(ctx, &names); err != nil {
			return nil, nil, fmt.Errorf("read what is migrated: %w", err)
		}
	}
	applied := map[string]bool{}
	for _, name := range names {
		applied[name] = true
	}
	for _, m := range all.Sorted() {
		if !applied[m.Name] {
			missing = append(missing, m.String())
		}
		delete(applied, m.Name)
	}
	for _, name := range names {
		if applied[name] {
			unknown = append(unknown, name)
		}
	}
	return missing, unknown, nil
}

// Latest is the number of the last migration that we know, such as "0027". Numbers are compared as texts.
func Latest() (string, error) {
	all := migrate.NewMigrations()
	if err := all.Discover(files); err != nil {
		return "", fmt.Errorf("read migrations: %w", err)
	}
	sorted := all.Sorted()
	return sorted[len(sorted)-1].Name, nil
}

// LockStatement has a transaction keep everybody else from changing the schema until it ends.
func LockStatement() string { return fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", lockKey) }
