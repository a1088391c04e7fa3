package models

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// APIKey is a credential of a user (SessionUID nil) or of one session. The key itself is shown once and never stored.
type APIKey struct {
	bun.BaseModel `bun:"table:api_keys,alias:k"`

	ID            uuid.UUID `bun:",pk,type:uuid"`
	KeyHash       []byte    // SHA-256
	Prefix        string    // shown, to tell keys apart
	UserID        uuid.UUID `bun:"type:uuid"`
	SessionUID    *uuid.UUID
	Name          string
	IsActive      bool
	LastUsed      *time.Time
	CreatedAt     time.Time
	ExpiresAt     *time.Time
	DeactivatedAt *time.Time

	Scopes []Scope `bun:"-"` // of an account's; see AddAccountKey. InsertAPIKey leaves them to the table, which gives all
}

// Prefixes of keys, so that a leaked one tells what it opens.
const (
	accountKeyPrefix = "kur_"
	sessionKeyPrefix = "kus_"
)

// NewAPIKey makes a key and its row: 32 random bytes behind a prefix that tells its kind.
func NewAPIKey(user uuid.UUID, session *uuid.UUID, name string, now time.Time) (key string, row *APIKey) {
	secret := make([]byte, keyBytes)
	_, _ = rand.Read(secret) // never fails, see crypto/rand
	prefix := accountKeyPrefix
	if session != nil {
		prefix = sessionKeyPrefix
	}
	key = prefix + base64.RawURLEncoding.EncodeToString(secret)
	return key, &APIKey{
		ID: NewID(), KeyHash: HashKey(key), Prefix: key[:len(prefix)+6], UserID: user, SessionUID: session,
		Name: name, IsActive: true, CreatedAt: now,
	}
}

// LooksLikeKey reports whether a text can be a key at all, so that nobody is asked about one that can't.
func LooksLikeKey(text string) bool {
	rest, ok := strings.CutPrefix(text, accountKeyPrefix)
	if !ok {
		rest, ok = strings.CutPrefix(text, sessionKeyPrefix)
	}
	return ok && len(rest) == base64.RawURLEncoding.EncodedLen(keyBytes)
}

// keyBytes are the random ones of a key.
const keyBytes = 32

// HashKey is how a key is stored. A plain SHA-256 is enough: the key has 256 bits of its own.
func HashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// InsertAPIKey stores a key's row.
func InsertAPIKey(ctx context.Context, db bun.IDB, k *APIKey) error {
	_, err := db.NewInsert().Model(k).Exec(ctx)
	return err
}

// KeyOwner is what a key opens.
type KeyOwner struct {
	Key             uuid.UUID
	Version         int // which of the key's secrets was shown
	Scopes          []Scope
	User            User
	Session         *uuid.UUID     // of a session key
	SessionPublicID string         // the same
	Left            *time.Duration // until the key, or this secret of it, ends; by PostgreSQL's clock
	Stale           bool           // its last use was noted a minute ago or more
}

// longestLeft bounds Left: what ends later than this ends later than any process.
const longestLeft = 50 * 365 * 24 * time.Hour

// KeyByHash finds an active key by its secret, or by the one before while that is good. It must be of a session that is not
// deleted, if it is one's. Whether the user is active is for the caller to see.
func KeyByHash(ctx context.Context, db *DB, hash []byte) (*KeyOwner, error) {
	o := new(KeyOwner)
	var user uuid.UUID
	var left *float64
	err := db.Pool.QueryRow(ctx, `SELECT k.id, k.user_id, k.session_uid, coalesce(s.id, ''), k.scopes::text[],
			k.secret_version - CASE WHEN k.key_hash = $1 THEN 0 ELSE 1 END,
			least(extract(epoch FROM least(k.expires_at, CASE WHEN k.key_hash <> $1 THEN k.former_until END) - now()), $2)::float8,
			k.last_used IS NULL OR k.last_used < now() - interval '1 minute'
		FROM api_keys k LEFT JOIN sessions s ON s.uid = k.session_uid AND s.deleted_at IS NULL
		WHERE (k.key_hash = $1 OR k.former_hash = $1 AND k.former_until > now()) AND k.is_active
			AND (k.expires_at IS NULL OR k.expires_at > now()) AND (k.session_uid IS NULL OR s.uid IS NOT NULL)`,
		hash, longestLeft.Seconds()).Scan(&o.Key, &user, &o.Session, &o.SessionPublicID, &o.Scopes, &o.Version, &left, &o.Stale)
	if err != nil {
		return nil, err
	}
	if left != nil {
		d := time.Duration(*left * float64(time.Second))
		o.Left = &d
	}
	u, err := UserByID(ctx, db, user)
	if err != nil {
		return nil, err
	}
	o.User = *u
	return o, nil
}

// TouchKey remembers that a key was used, to the minute.
func TouchKey(ctx context.Context, db bun.IDB, id uuid.UUID) error {
	_, err := db.NewUpdate().Model((*APIKey)(nil)).Set("last_used = now()").
		Where("id = ?", id).Where("last_used IS NULL OR last_used < now() - interval '1 minute'").Exec(ctx)
	return err
}

// DeactivateSessionKeys ends the keys of a session. They are kept: usage refers to them.
func DeactivateSessionKeys(ctx context.Context, db bun.IDB, session uuid.UUID) error {
	_, err := db.NewUpdate().Model((*APIKey)(nil)).
		Set("is_active = false").Set("deactivated_at = now()").
		Where("session_uid = ?", session).Where("is_active").Exec(ctx)
	return err
}
