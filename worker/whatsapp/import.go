package whatsapp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.mau.fi/whatsmeow/types"
)

// Import says which device of another program on whatsmeow becomes which session's.
type Import struct {
	From    string // URL of the other program's PostgreSQL, or where its SQLite file is
	Schema  string // in PostgreSQL; "public" if empty
	Device  string // JID; may be empty if there is one device only
	Session string // uid of a session that has no device; may be empty if there is one only
}

// Errors of Adopt that the operator can do something about.
var (
	errNoStore      = errors.New("there is no store of whatsmeow's")
	errOtherVersion = errors.New("the other program's tables are of another version of whatsmeow: bring both to one version")
	errNoDevice     = errors.New("the other program has no device")
	errTaken        = errors.New("the device is another session's already: log that one out first, or go on with it")
	errHasDevice    = errors.New("the session has a device already: log it out first")
	errNoSession    = errors.New("no worker has held such a session: create it, and wait for its QR code")
)

// Adopt copies a device, with its keys, from another program's store into the engine's, and makes it the session's. The other
// program has to be stopped, and must not run again with this device: two who use one device's keys break them. It answers the
// device's JID.
func (e *Engine) Adopt(ctx context.Context, i Import) (string, error) {
	from, err := openForeign(ctx, i)
	if err != nil {
		return "", err
	}
	defer from.close()
	conn, err := e.pool.Acquire(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Release()
	if err := sameVersion(ctx, from, conn.Conn()); err != nil {
		return "", err
	}
	jid, err := choose(ctx, from, i.Device)
	if err != nil {
		return "", err
	}
	if i.Session == "" {
		if i.Session, err = waiting(ctx, conn.Conn()); err != nil {
			return "", err
		}
	}
	if err := (&connector{fence: fenceUpgrade, device: everyDevice}).say(ctx, conn.Conn()); err != nil {
		return "", err
	}
	return jid, pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return adoptInto(ctx, from, tx, jid, i.Session) })
}

func sameVersion(ctx context.Context, from *foreign, conn *pgx.Conn) error {
	theirs, err := from.version(ctx)
	if err != nil {
		return err
	}
	var ours int
	if err := conn.QueryRow(ctx, selectVersion).Scan(&ours); err != nil {
		return err
	}
	if theirs != ours {
		return fmt.Errorf("%w: theirs is %d, ours %d", errOtherVersion, theirs, ours)
	}
	return nil
}

// choose finds the device that is meant.
func choose(ctx context.Context, from *foreign, wanted string) (string, error) {
	all, err := from.devices(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("read the other program's devices: %w", err)
	case len(all) == 0:
		return "", errNoDevice
	case wanted == "" && len(all) == 1:
		return all[0], nil
	case slices.Contains(all, wanted):
		return wanted, nil
	}
	return "", fmt.Errorf("say which of the other program's devices is meant: %s", strings.Join(all, ", "))
}

// waiting is the session without a device, if there is one only. Of several, the one that was held last is likely to be meant.
func waiting(ctx context.Context, conn *pgx.Conn) (string, error) {
	rows, err := conn.Query(ctx, "SELECT session, changed_at FROM kurir_sessions WHERE jid IS NULL ORDER BY changed_at DESC LIMIT 20")
	if err != nil {
		return "", err
	}
	var session string
	var since time.Time
	var all []string
	_, err = pgx.ForEachRow(rows, []any{&session, &since}, func() error {
		all = append(all, fmt.Sprintf("%s, last held at %s", session, since.Local().Format(time.DateTime)))
		return nil
	})
	switch {
	case err != nil:
		return "", err
	case len(all) == 0:
		return "", errNoSession
	case len(all) > 1:
		return "", fmt.Errorf("say which session is meant:\n%s", strings.Join(all, "\n"))
	}
	return session, nil
}

func adoptInto(ctx context.Context, from *foreign, tx pgx.Tx, jid, session string) error {
	if _, err := types.ParseJID(jid); err != nil {
		return fmt.Errorf("the other program's device: %w", err)
	}
	if err := mayAdopt(ctx, tx, jid, session); err != nil {
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
	if err := from.unchanged(); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE kurir_sessions SET jid = $2, changed_at = now() WHERE session = $1", session, jid)
	return err
}

// mayAdopt waits for the session's holder, and sees that neither the session has a device nor the device a session.
func mayAdopt(ctx context.Context, tx pgx.Tx, jid, session string) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1::int, hashtext($2))", claimLock, session); err != nil {
		return err
	}
	var has, holder *string
	err := tx.QueryRow(ctx, "SELECT jid, (SELECT session FROM kurir_sessions WHERE jid = $2) FROM kurir_sessions WHERE session = $1", session, jid).Scan(&has, &holder)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return errNoSession
	case err != nil:
		return err
	case has != nil:
		return errHasDevice
	case holder != nil:
		return fmt.Errorf("%w: %s", errTaken, *holder)
	}
	return nil
}

// table is one of whatsmeow's, with the column that names the device; "": it belongs to none, and all of it is copied.
type table struct {
	name, device   string
	columns, types []string
}

// copied are the tables, each after those that it refers to.
func copied(ctx context.Context, tx pgx.Tx) ([]table, error) {
	rows, err := tx.Query(ctx, `SELECT c.relname::text, coalesce(max(a.attname::text) FILTER (WHERE a.attname IN ('jid', 'our_jid')), ''),
			array_agg(a.attname::text ORDER BY a.attnum), array_agg(a.atttypid::regtype::text ORDER BY a.attnum)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relname LIKE 'whatsmeow\_%' AND c.relname <> 'whatsmeow_version'
		GROUP BY c.relname ORDER BY c.relname <> 'whatsmeow_device', c.relname <> 'whatsmeow_app_state_version', c.relname`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t table, err error) {
		err = row.Scan(&t.name, &t.device, &t.columns, &t.types)
		return t, err
	})
}

func (t table) copy(ctx context.Context, from *foreign, tx pgx.Tx, jid string) error {
	into, name := pgx.Identifier{t.name}, pgx.Identifier{t.name}.Sanitize()
	// What is there is of a device that had this address, and that no session has any more.
	prepare, args := "DELETE FROM "+name+" WHERE "+pgx.Identifier{t.device}.Sanitize()+" = $1", []any{jid}
	if t.device == "" { // others may know of the same people
		into, prepare, args = pgx.Identifier{"imported"}, "CREATE TEMP TABLE imported (LIKE "+name+") ON COMMIT DROP", nil
	}
	if _, err := tx.Exec(ctx, prepare, args...); err != nil {
		return err
	}
	rows, err := from.rows(ctx, t, jid)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // it was only read
	if _, err := tx.CopyFrom(ctx, into, t.columns, &stream{rows, t.types}); err != nil {
		return err
	}
	if t.device != "" {
		return nil
	}
	if _, err := tx.Exec(ctx, "INSERT INTO "+name+" SELECT * FROM imported ON CONFLICT DO NOTHING"); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "DROP TABLE imported")
	return err
}

// stream hands rows on as they come, in the types of our columns. It implements pgx.CopyFromSource.
type stream struct {
	*sql.Rows
	types []string
}

// Values implements pgx.CopyFromSource.
func (s *stream) Values() ([]any, error) {
	values, into := make([]any, len(s.types)), make([]any, len(s.types))
	for i := range values {
		into[i] = &values[i]
	}
	err := s.Scan(into...)
	for i := range values {
		values[i] = fitting(values[i], s.types[i])
	}
	return values, err
}

// fitting is a value as a column of this type takes it. SQLite has no booleans, its columns hold what they are given, and its texts
// may have in them what PostgreSQL's may not.
func fitting(value any, of string) any {
	switch v := value.(type) {
	case int64:
		if of == "boolean" {
			return v != 0
		}
	case []byte:
		if of != "bytea" {
			return fitting(string(v), of)
		}
		if v == nil { // which pgx takes for NULL
			return []byte{}
		}
	case string:
		if of == "bytea" {
			return []byte(v)
		}
		return strings.ReplaceAll(strings.ToValidUTF8(v, "\uFFFD"), "\x00", "")
	}
	return value
}
