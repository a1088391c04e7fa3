package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.mau.fi/whatsmeow/types"
)

// Import says which device of another program on whatsmeow becomes which session's.
type Import struct {
	From    string // URL of the other program's PostgreSQL
	Schema  string // in it; "public" if empty
	Device  string // JID; may be empty if there is one device only
	Session string // uid of a session that has no device; may be empty if there is one only
}

// Errors of Adopt that the operator can do something about.
var (
	errOtherVersion = errors.New("the other program's tables are of another version of whatsmeow: bring both to one version")
	errHasDevice    = errors.New("the session has a device already: log it out first")
	errNoSession    = errors.New("no worker has held such a session: create it, and wait for its QR code")
)

// Adopt copies a device, with its keys, from another program's store into the engine's, and makes it the session's. The other
// program has to be stopped, and must not run again with this device: two who use one device's keys break them. It answers the
// device's JID.
func (e *Engine) Adopt(ctx context.Context, i Import) (string, error) {
	cfg, err := pgx.ParseConfig(i.From)
	if err != nil {
		return "", errors.New("the other database's URL cannot be read") // it may hold a password
	}
	if i.Schema == "" {
		i.Schema = "public"
	}
	cfg.RuntimeParams["search_path"] = i.Schema
	from, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return "", fmt.Errorf("connect to the other database: %w", err)
	}
	defer func() { _ = from.Close(context.WithoutCancel(ctx)) }() // it was only read
	jid, err := choose(ctx, from, i.Device)
	if err != nil {
		return "", err
	}
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	if i.Session == "" {
		if i.Session, err = waiting(ctx, conn.Conn()); err != nil {
			return "", err
		}
	}
	if err := (&connector{fence: fenceUpgrade}).say(ctx, conn.Conn()); err != nil {
		return "", err
	}
	return jid, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return adoptInto(ctx, from, tx, jid, i.Session) })
}

// choose finds the device that is meant.
func choose(ctx context.Context, from *pgx.Conn, wanted string) (string, error) {
	rows, err := from.Query(ctx, "SELECT jid FROM whatsmeow_device ORDER BY jid")
	if err != nil {
		return "", fmt.Errorf("read the other program's devices: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		return "", fmt.Errorf("read the other program's devices: %w", err)
	case wanted == "" && len(all) == 1:
		return all[0], nil
	case slices.Contains(all, wanted):
		return wanted, nil
	}
	return "", fmt.Errorf("say which of the other program's devices is meant: %s", strings.Join(all, ", "))
}

// waiting is the session without a device, if there is one only.
func waiting(ctx context.Context, conn *pgx.Conn) (string, error) {
	rows, err := conn.Query(ctx, "SELECT session FROM kurir_sessions WHERE jid IS NULL ORDER BY changed_at DESC LIMIT 20")
	if err != nil {
		return "", err
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		return "", err
	case len(all) == 0:
		return "", errNoSession
	case len(all) > 1:
		return "", fmt.Errorf("say which session is meant: %s", strings.Join(all, ", "))
	}
	return all[0], nil
}

func adoptInto(ctx context.Context, from *pgx.Conn, tx pgx.Tx, jid, session string) error {
	if _, err := types.ParseJID(jid); err != nil {
		return fmt.Errorf("the other program's device: %w", err)
	}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1::int, hashtext($2))", claimLock, session); err != nil {
		return err
	}
	var there *string
	err := tx.QueryRow(ctx, "SELECT jid FROM kurir_sessions WHERE session = $1", session).Scan(&there)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errNoSession
	case err != nil:
		return err
	case there != nil:
		return errHasDevice
	}
	if err := sameVersion(ctx, from, tx); err != nil {
		return err
	}
	tables, err := copied(ctx, tx)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := t.copy(ctx, from, tx, jid); err != nil {
			return fmt.Errorf("copy %s: %w", t.name, err)
		}
	}
	_, err = tx.Exec(ctx, "UPDATE kurir_sessions SET jid = $2, changed_at = now() WHERE session = $1", session, jid)
	return err
}

func sameVersion(ctx context.Context, from *pgx.Conn, tx pgx.Tx) error {
	const version = "SELECT version FROM whatsmeow_version"
	var theirs, ours int
	if err := errors.Join(from.QueryRow(ctx, version).Scan(&theirs), tx.QueryRow(ctx, version).Scan(&ours)); err != nil {
		return err
	}
	if theirs != ours {
		return fmt.Errorf("%w: theirs is %d, ours %d", errOtherVersion, theirs, ours)
	}
	return nil
}

// table is one of whatsmeow's, with the column that names the device; "": it belongs to none, and all of it is copied.
type table struct {
	name, device string
	columns      []string
}

// copied are the tables, each after those that it refers to.
func copied(ctx context.Context, tx pgx.Tx) ([]table, error) {
	rows, err := tx.Query(ctx, `SELECT c.relname::text, coalesce((SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = CASE c.relname WHEN 'whatsmeow_device' THEN 'jid' ELSE 'our_jid' END), ''),
			(SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
		FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname LIKE 'whatsmeow\_%' AND c.relname <> 'whatsmeow_version'
		ORDER BY c.relname <> 'whatsmeow_device', c.relname <> 'whatsmeow_app_state_version', c.relname`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t table, err error) {
		err = row.Scan(&t.name, &t.device, &t.columns)
		return t, err
	})
}

func (t table) copy(ctx context.Context, from *pgx.Conn, tx pgx.Tx, jid string) error {
	list := make([]string, len(t.columns))
	for i, c := range t.columns {
		list[i] = pgx.Identifier{c}.Sanitize()
	}
	query, args := "SELECT "+strings.Join(list, ", ")+" FROM "+pgx.Identifier{t.name}.Sanitize(), []any{}
	into := pgx.Identifier{t.name}
	if t.device == "" { // others may know of the same people
		into = pgx.Identifier{"imported"}
		if _, err := tx.Exec(ctx, "CREATE TEMP TABLE imported (LIKE "+pgx.Identifier{t.name}.Sanitize()+") ON COMMIT DROP"); err != nil {
			return err
		}
	} else {
		query, args = query+" WHERE "+pgx.Identifier{t.device}.Sanitize()+" = $1", []any{jid}
	}
	rows, err := from.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if _, err := tx.CopyFrom(ctx, into, t.columns, &stream{rows}); err != nil {
		return err
	}
	if t.device != "" {
		return nil
	}
	if _, err := tx.Exec(ctx, "INSERT INTO "+pgx.Identifier{t.name}.Sanitize()+" SELECT * FROM imported ON CONFLICT DO NOTHING"); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "DROP TABLE imported")
	return err
}

// stream hands rows on as they come.
type stream struct{ pgx.Rows }

// Values implements pgx.CopyFromSource.
func (s *stream) Values() ([]any, error) { return s.Rows.Values() }
