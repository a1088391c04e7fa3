package models

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
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
}

// Prefixes of keys, so that a leaked one tells what it opens.
const (
	accountKeyPrefix = "kur_"
	sessionKeyPrefix = "kus_"
)

// NewAPIKey makes a key and its row: 32 random bytes behind a prefix that tells its kind.
func NewAPIKey(user uuid.UUID, session *uuid.UUID, name string, now time.Time) (key string, row *APIKey) {
	secret := make([]byte, 32)
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
	Key             APIKey
	User            User
	SessionPublicID string // of a session key
}

// KeyByHash finds an active key of an active user, and of a session that is not deleted.
func KeyByHash(ctx context.Context, db bun.IDB, hash []byte) (*KeyOwner, error) {
	o := new(KeyOwner)
	if err := db.NewSelect().Model(&o.Key).Where("key_hash = ?", hash).Where("is_active").
		Where("expires_at IS NULL OR expires_at > now()").Scan(ctx); err != nil {
		return nil, err
	}
	user, err := UserByID(ctx, db, o.Key.UserID)
	if err != nil {
		return nil, err
	}
	o.User = *user
	if o.Key.SessionUID != nil {
		err = db.NewSelect().Model((*Session)(nil)).Column("id").
			Where("uid = ?", *o.Key.SessionUID).Where("deleted_at IS NULL").Scan(ctx, &o.SessionPublicID)
	}
	return o, err
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
