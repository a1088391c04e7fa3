package models

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
)

// AccountKey is a key of an account as its owner sees it.
type AccountKey struct {
	ID          uuid.UUID
	Name        string
	Prefix      string
	Scopes      []Scope
	LastUsed    *time.Time
	CreatedAt   time.Time
	ExpiresAt   *time.Time
	Expired     bool
	RotatedAt   *time.Time
	FormerUntil *time.Time // until when the secret before is good, nil if it is not
	Version     int
}

const accountKeyColumns = `id, name, prefix, scopes::text[], last_used, created_at, expires_at, coalesce(expires_at <= now(), false), rotated_at,
	CASE WHEN former_until > now() THEN former_until END, secret_version`

func scanAccountKey(row pgx.CollectableRow) (k AccountKey, err error) {
	err = row.Scan(&k.ID, &k.Name, &k.Prefix, &k.Scopes, &k.LastUsed, &k.CreatedAt, &k.ExpiresAt, &k.Expired, &k.RotatedAt, &k.FormerUntil, &k.Version)
	return k, err
}

// MostAccountKeys is how many keys an account can have at a time, those that have expired included.
const MostAccountKeys = 50

// Faults of account keys.
var (
	ErrNoAccountKey     = fault.New(fault.NotFound, "api_key_not_found", "There is no such API key.")
	ErrManyAccountKeys  = fault.New(fault.Forbidden, "api_key_limit", "An account can have 50 API keys. Delete one that is not used any more.")
	ErrKeyExpired       = fault.New(fault.Conflict, "api_key_expired", "The API key has expired. Make a new one.")
	ErrRotationUnderWay = fault.New(fault.Conflict, "rotation_in_progress", "The key is being replaced by another request.")
)

const accountKeysOf = ` FROM api_keys WHERE user_id = $1 AND session_uid IS NULL AND is_active`

// AccountKeysOf are a user's keys, newest first.
func AccountKeysOf(ctx context.Context, q Querier, user uuid.UUID) ([]AccountKey, error) {
	rows, err := q.Query(ctx, `SELECT `+accountKeyColumns+accountKeysOf+` ORDER BY id DESC LIMIT $2`, user, MostAccountKeys)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanAccountKey)
}

// AccountKeyOf finds a key of a user. It answers "no rows" where there is none.
func AccountKeyOf(ctx context.Context, q Querier, user, id uuid.UUID) (AccountKey, error) {
	rows, err := q.Query(ctx, `SELECT `+accountKeyColumns+accountKeysOf+` AND id = $2`, user, id)
	if err != nil {
		return AccountKey{}, err
	}
	return pgx.CollectExactlyOneRow(rows, scanAccountKey)
}

// AddAccountKey stores a key, if its user has room for one more. It says whether it did: false if the key is there already.
// A key names what it may do: one without scopes is refused, not given all of them.
func AddAccountKey(ctx context.Context, tx pgx.Tx, k *APIKey) (bool, error) {
	if len(k.Scopes) == 0 {
		return false, fmt.Errorf("key %s has no scopes", k.ID)
	}
	if _, err := tx.Exec(ctx, `SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE`, k.UserID); err != nil { // whoever counts and adds does so one by one
		return false, err
	}
	var there bool
	var n int
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM api_keys WHERE id = $2), (SELECT count(*)`+accountKeysOf+`)`, k.UserID, k.ID).Scan(&there, &n); err != nil || there {
		return false, err
	}
	if n >= MostAccountKeys {
		return false, ErrManyAccountKeys
	}
	_, err := tx.Exec(ctx, `INSERT INTO api_keys (id, key_hash, prefix, user_id, name, scopes, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		k.ID, k.KeyHash, k.Prefix, k.UserID, k.Name, k.Scopes, k.CreatedAt, k.ExpiresAt)
	return err == nil, err
}

// ChangeAccountKey gives a key another name or other scopes; nil leaves as it is.
func ChangeAccountKey(ctx context.Context, q Querier, user, id uuid.UUID, name *string, scopes []Scope) (bool, error) {
	tag, err := q.Exec(ctx, `UPDATE api_keys SET name = coalesce($3, name), scopes = coalesce($4, scopes)
		WHERE user_id = $1 AND id = $2 AND session_uid IS NULL AND is_active`, user, id, name, scopes)
	return tag.RowsAffected() > 0, err
}

// RotateAccountKey gives a key the secret of another row. The one before stays good for the overlap; what was before that
// ends. Of those who saw the same secret, one replaces it.
func RotateAccountKey(ctx context.Context, tx pgx.Tx, user, id uuid.UUID, next *APIKey, overlap time.Duration) error {
	seen, err := AccountKeyOf(ctx, tx, user, id)
	if err != nil {
		return err
	}
	if seen.Expired {
		return ErrKeyExpired
	}
	tag, err := tx.Exec(ctx, `UPDATE api_keys SET key_hash = $3, prefix = $4, secret_version = secret_version + 1, rotated_at = now(),
			former_hash = CASE WHEN $5::float8 > 0 THEN key_hash END, former_until = CASE WHEN $5 > 0 THEN now() + make_interval(secs => $5) END
		WHERE user_id = $1 AND id = $2 AND is_active AND secret_version = $6`, user, id, next.KeyHash, next.Prefix, overlap.Seconds(), seen.Version)
	if err != nil || tag.RowsAffected() > 0 {
		return err
	}
	if _, err := AccountKeyOf(ctx, tx, user, id); err != nil { // it was deleted meanwhile
		return err
	}
	return ErrRotationUnderWay
}

// DeactivateAccountKey ends a key. It is kept: usage refers to it. It says whether there was one.
func DeactivateAccountKey(ctx context.Context, q Querier, user, id uuid.UUID) (bool, error) {
	tag, err := q.Exec(ctx, `UPDATE api_keys SET is_active = false, deactivated_at = now(), former_hash = NULL, former_until = NULL
		WHERE user_id = $1 AND id = $2 AND session_uid IS NULL AND is_active`, user, id)
	return tag.RowsAffected() > 0, err
}
