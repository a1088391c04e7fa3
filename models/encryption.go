package models

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// WrongKeyError says that the database holds what a process cannot open.
type WrongKeyError struct {
	Lacks []string // names of keys, none if that cannot be told
	Has   []string
}

func (e *WrongKeyError) Error() string {
	what := "something in the database is encrypted under another key"
	if len(e.Lacks) > 0 {
		what = "the database holds what is encrypted under the key " + strings.Join(e.Lacks, ", ")
	}
	return fmt.Sprintf("ENCRYPTION_KEY cannot decrypt what the database holds: %s, and ENCRYPTION_KEY has only %s. "+
		"Start with the key that the database was written with; to change keys, give both, as docs/keys.md says", what, strings.Join(e.Has, ", "))
}

// sealKeyName is the purpose under which a key seals its own name.
const sealKeyName = "name of the encryption key"

// CheckEncryption makes sure that a vault can open what the database holds, and notes that its first key is in use. It answers
// a *WrongKeyError if not; other errors say that the database could not be asked.
func CheckEncryption(ctx context.Context, db *DB, v *Vault) error {
	return db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE encryption_keys IN EXCLUSIVE MODE`); err != nil { // of two that begin with different keys one comes second
			return err
		}
		rows, err := tx.Query(ctx, `SELECT id, sealed FROM encryption_keys`)
		if err != nil {
			return err
		}
		type noted struct {
			ID     string
			Sealed []byte
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[noted])
		if err != nil {
			return err
		}
		var lacks []string
		for _, k := range list {
			if name, err := v.Open(sealKeyName, k.Sealed); err != nil || string(name) != k.ID {
				lacks = append(lacks, k.ID)
			}
		}
		if len(lacks) > 0 {
			return &WrongKeyError{Lacks: lacks, Has: v.KeyIDs()}
		}
		if len(list) == 0 { // written before keys were noted
			if err := v.opensOneOfEach(ctx, tx); err != nil {
				return err
			}
		}
		first := v.KeyIDs()[0]
		if len(v.keys) == 1 { // so no worker can have its secret of another
			if _, err := tx.Exec(ctx, `UPDATE workers SET secret_key = $1 WHERE secret_key = ''`, first); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO encryption_keys (id, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING`, first, v.Seal(sealKeyName, []byte(first)))
		return err
	})
}

// SealedColumn is a column that holds sealed values, of a table whose primary key is a UUID.
type SealedColumn struct {
	Table, Key, Column, Purpose string
}

// Purposes under which the parts of a webhook, and the proxy of a session, are sealed.
const (
	SealWebhookSecret  = "webhook secret"
	SealWebhookHeaders = "webhook headers"
	SealProxy          = "session proxy"
)

// SealedColumns are all columns that hold sealed values. Another one is a line here.
func SealedColumns() []SealedColumn {
	return []SealedColumn{
		{"webhooks", "id", "secret", SealWebhookSecret},
		{"webhooks", "id", "previous_secret", SealWebhookSecret},
		{"webhooks", "id", "headers", SealWebhookHeaders},
		{"sessions", "uid", "proxy", SealProxy},
	}
}

// opensOneOfEach looks whether the vault opens what is there.
func (v *Vault) opensOneOfEach(ctx context.Context, q Querier) error {
	for _, c := range SealedColumns() {
		var sealed []byte
		err := q.QueryRow(ctx, fmt.Sprintf(`SELECT %[1]s FROM %[2]s WHERE %[1]s IS NOT NULL ORDER BY %[3]s LIMIT 1`, c.Column, c.Table, c.Key)).Scan(&sealed)
		if ok, err := Found(err); err != nil {
			return err
		} else if !ok {
			continue
		}
		if _, err := v.Open(c.Purpose, sealed); err != nil {
			return &WrongKeyError{Has: v.KeyIDs()}
		}
	}
	return nil
}

// Resealed is what came of sealing anew.
type Resealed struct {
	Changed  int
	Unopened int // values that no key opens: they are left as they are
}

// Reseal seals the values of a column anew under the vault's first key, so many rows at a time, beginning behind a row. It
// answers the last row that it looked at, uuid.Nil if that was the last of all. What changes meanwhile is left as it is: whoever
// changed it has sealed it under his own first key.
func (v *Vault) Reseal(ctx context.Context, db *DB, c SealedColumn, after uuid.UUID, batch int) (r Resealed, last uuid.UUID, err error) {
	type row struct {
		ID     uuid.UUID
		Sealed []byte
	}
	rows, err := db.Pool.Query(ctx, fmt.Sprintf(`SELECT %[3]s, %[1]s FROM %[2]s WHERE %[3]s > $1 ORDER BY %[3]s LIMIT $2`, c.Column, c.Table, c.Key), after, batch)
	if err != nil {
		return r, after, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil || len(list) == 0 {
		return r, uuid.Nil, err
	}
	var ids []uuid.UUID
	var former, next [][]byte
	for _, one := range list {
		if one.Sealed == nil || v.isFirst(one.Sealed) {
			continue
		}
		plain, err := v.Open(c.Purpose, one.Sealed)
		if err != nil {
			r.Unopened++
			continue
		}
		ids, former, next = append(ids, one.ID), append(former, one.Sealed), append(next, v.Seal(c.Purpose, plain))
	}
	if len(ids) > 0 {
		tag, err := db.Pool.Exec(ctx, fmt.Sprintf(`UPDATE %[2]s t SET %[1]s = n.next FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (id, former, next)
			WHERE t.%[3]s = n.id AND t.%[1]s = n.former`, c.Column, c.Table, c.Key), ids, former, next)
		if err != nil {
			return r, after, err
		}
		r.Changed = int(tag.RowsAffected())
	}
	if len(list) < batch {
		return r, uuid.Nil, nil
	}
	return r, list[len(list)-1].ID, nil
}

func (v *Vault) isFirst(sealed []byte) bool {
	prefix := v.sealedPrefix()
	return len(sealed) > len(prefix) && slices.Equal(sealed[:len(prefix)], prefix)
}

// StillUsed is what stands in the way of giving up the keys behind the first.
type StillUsed struct {
	Values    int      // that are not sealed under the first key
	Processes []string // names of connections whose first key is another one
	Workers   []string // workers whose term has its secret of another one
}

// None reports whether nothing does.
func (s StillUsed) None() bool { return s.Values == 0 && len(s.Processes) == 0 && len(s.Workers) == 0 }

// StillUsing looks who needs the keys behind the first.
func (v *Vault) StillUsing(ctx context.Context, db *DB) (s StillUsed, err error) {
	for _, c := range SealedColumns() {
		var n int
		if err = db.Pool.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM %[2]s WHERE %[4]s > $2 AND %[1]s IS NOT NULL AND substring(%[1]s FROM 1 FOR %[3]d) <> $1`, c.Column, c.Table, 1+vaultID, c.Key),
			v.sealedPrefix(), uuid.Nil).Scan(&n); err != nil {
			return s, err
		}
		s.Values += n
	}
	var letters int // whose addresses wait sealed in their jobs, for a day at most
	if err = db.Pool.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM jobs WHERE status IN ('QUEUED', 'RUNNING') AND kind = $2 AND params ? 'to'
		AND substring(decode(params->>'to', 'base64') FROM 1 FOR %d) <> $1`, 1+vaultID), v.sealedPrefix(), KindLetter).Scan(&letters); err != nil {
		return s, err
	}
	s.Values += letters
	first := v.KeyIDs()[0]
	names := func(query string, args ...any) ([]string, error) {
		rows, err := db.Pool.Query(ctx, query, args...)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if s.Processes, err = names(`SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()
		AND application_name LIKE 'kurir % key %' AND application_name NOT LIKE '% key ' || $1 ORDER BY 1`, first); err != nil {
		return s, err
	}
	s.Workers, err = names(`SELECT id FROM workers WHERE lease_expires_at > now() AND secret_key NOT IN ('', $1) ORDER BY 1`, first)
	return s, err
}

// ForgetOldKeys forgets all keys but the vault's first, if nothing is sealed under them.
func (v *Vault) ForgetOldKeys(ctx context.Context, db *DB) error {
	_, err := db.Pool.Exec(ctx, `DELETE FROM encryption_keys WHERE id <> $1`, v.KeyIDs()[0])
	return err
}

// NoteWorkerKey remembers which key the secret of a worker's new term is derived from.
func (v *Vault) NoteWorkerKey(ctx context.Context, q Querier, worker string) error {
	_, err := q.Exec(ctx, `UPDATE workers SET secret_key = $2 WHERE id = $1`, worker, v.KeyIDs()[0])
	return err
}

// waitEncryption is how long between two looks while the database does not answer.
const waitEncryption = time.Second

// AwaitEncryption is CheckEncryption, again and again until the database has answered. It returns nil then, or when ctx ends.
func AwaitEncryption(ctx context.Context, db *DB, v *Vault) error {
	for {
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := CheckEncryption(call, db, v)
		cancel()
		var wrong *WrongKeyError
		if err == nil || errors.As(err, &wrong) {
			return err
		}
		select {
		case <-time.After(waitEncryption):
		case <-ctx.Done():
			return nil
		}
	}
}
