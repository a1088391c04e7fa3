package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kurir/models"
)

// codeNoTable is PostgreSQL's for a table that is not there.
const codeNoTable = "42P01"

// lockWait is how long, in milliseconds, a backup waits for a table that a migration is changing.
const lockWait = 60_000

// Dump writes a backup of a database that may be in use: all of it is as it was at one moment, which the stamp names. What others keep in
// schemas of their own is not in it, as it would not be brought back.
func Dump(ctx context.Context, db *models.DB, from Where, version string, out io.Writer) (Stamp, error) {
	tx, err := db.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return Stamp{}, fmt.Errorf("connect to back up: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	s, snapshot, err := stampOf(ctx, tx)
	if err != nil {
		return s, err
	}
	tools, err := from.Tools.find(ctx, major(s.Postgres), "pg_dump")
	if err != nil {
		return s, err
	}
	s.Kurir, s.Tool = version, tools.major
	others, err := othersIn(ctx, tx, s.schemas())
	if err != nil {
		return s, err
	}
	args := []string{"--format=custom", "--no-password", "--snapshot=" + snapshot, "--lock-wait-timeout=" + strconv.Itoa(lockWait)}
	for _, schema := range others {
		args = append(args, "--exclude-schema="+quoted(schema)) // a pattern, unless it is in quotes
	}
	dump, err := from.program(ctx, tools.path("pg_dump"), args...)
	if err != nil {
		return s, err
	}
	if err := s.write(out); err != nil {
		return s, err
	}
	// A pipe, whatever out is: into a file that it can seek in, pg_dump would write where its parts are, counted without our line.
	to := &noting{w: out}
	dump.Stdout = to
	err = dump.failed(dump.Run())
	if to.err != nil { // of which pg_dump knows only that nobody listens
		err = to.err
	}
	return s, err
}

// othersIn are the schemas that are to be left out. Were ours named instead, the archive would make public anew, which is there in any
// database, and nobody could bring it back without naming it.
func othersIn(ctx context.Context, tx pgx.Tx, ours []string) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT nspname::text FROM pg_namespace WHERE nspname <> ALL($1) AND nspname <> 'information_schema' AND nspname !~ '^pg_' ORDER BY 1`, ours)
	if err != nil {
		return nil, fmt.Errorf("look for schemas: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// noting remembers why nothing could be written.
type noting struct {
	w   io.Writer
	err error
}

func (n *noting) Write(b []byte) (int, error) {
	written, err := n.w.Write(b)
	if n.err == nil {
		n.err = err
	}
	return written, err
}

// stampOf opens the snapshot to others, and reads in it what it is of.
func stampOf(ctx context.Context, tx pgx.Tx) (s Stamp, snapshot string, err error) {
	// The transaction has to last as long as the dump.
	if _, err := tx.Exec(ctx, `SET LOCAL idle_in_transaction_session_timeout = 0`); err != nil {
		return s, "", fmt.Errorf("prepare to back up: %w", err)
	}
	err = tx.QueryRow(ctx, `SELECT pg_export_snapshot(), now(), current_setting('server_version_num')::int, (SELECT max(name) FROM bun_migrations)`).
		Scan(&snapshot, &s.TakenAt, &s.Postgres, &s.Schema)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeNoTable {
		return s, "", errors.New("there is nothing of Kurir's in this database: is DATABASE_URL right?")
	}
	if err != nil {
		return s, "", fmt.Errorf("take a snapshot: %w", err)
	}
	s.TakenAt = s.TakenAt.UTC()
	if s.Credentials, err = CredentialsIn(ctx, tx); err != nil {
		return s, "", err
	}
	return s, snapshot, readable(s.Credentials)
}
