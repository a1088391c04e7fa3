package whatsapp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// foreign is another program's store, as it is at one moment, in PostgreSQL or in an SQLite file.
type foreign struct {
	db   *sql.DB
	tx   *sql.Tx
	file *sqliteFile // nil in PostgreSQL, whose transactions see one moment whoever writes
}

func openForeign(ctx context.Context, i Import) (f *foreign, err error) {
	f = &foreign{}
	if path, ok := sqlitePath(i.From); ok {
		f.file, f.db, err = openSQLite(ctx, path)
	} else {
		f.db, err = openPostgres(i.From, i.Schema)
	}
	if err != nil {
		return nil, err
	}
	if f.tx, err = f.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the other database: %w", err), f.db.Close())
	}
	return f, nil
}

func openPostgres(address, schema string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, errors.New("the other database's URL cannot be read") // it may hold a password
	}
	if schema == "" {
		schema = "public"
	}
	cfg.RuntimeParams["search_path"] = pgx.Identifier{schema}.Sanitize()
	return stdlib.OpenDB(*cfg), nil
}

// close gives the store back. It was only read.
func (f *foreign) close() {
	_ = f.tx.Rollback()
	_ = f.db.Close()
}

// unchanged reports whether somebody has written meanwhile to what was read, as far as that can be seen.
func (f *foreign) unchanged() error {
	if f.file == nil {
		return nil
	}
	return f.file.unchanged()
}

// selectVersion asks for the version of whatsmeow's tables.
const selectVersion = "SELECT version FROM whatsmeow_version"

func (f *foreign) version(ctx context.Context) (version int, err error) {
	if err := f.tx.QueryRowContext(ctx, selectVersion).Scan(&version); err != nil {
		return 0, fmt.Errorf("%w: %w", errNoStore, err)
	}
	return version, nil
}

// devices are the JIDs of all that are there.
func (f *foreign) devices(ctx context.Context) (all []string, err error) {
	rows, err := f.tx.QueryContext(ctx, "SELECT jid FROM whatsmeow_device ORDER BY jid")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // it was only read
	for rows.Next() {
		var jid string
		if err := rows.Scan(&jid); err != nil {
			return nil, err
		}
		all = append(all, jid)
	}
	return all, rows.Err()
}

// rows are those of a table that are the device's, or all if they belong to none.
func (f *foreign) rows(ctx context.Context, t table, jid string) (*sql.Rows, error) {
	list := make([]string, len(t.columns))
	for i, c := range t.columns {
		list[i] = pgx.Identifier{c}.Sanitize()
	}
	query, args := "SELECT "+strings.Join(list, ", ")+" FROM "+pgx.Identifier{t.name}.Sanitize(), []any{}
	if t.device != "" {
		query, args = query+" WHERE "+pgx.Identifier{t.device}.Sanitize()+" = $1", []any{jid}
	}
	return f.tx.QueryContext(ctx, query, args...)
}
