package models

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"kurir/fault"
)

// IdempotencyKey is a client's promise that two requests with one key are one request.
type IdempotencyKey struct {
	bun.BaseModel `bun:"table:idempotency_keys,alias:i"`

	Owner       uuid.UUID `bun:",pk,type:uuid"`
	Route       string    `bun:",pk"`
	Key         string    `bun:",pk"`
	RequestHash []byte
	ResourceID  uuid.UUID `bun:"type:uuid"`
	StatusCode  *int
	Response    []byte
	Location    *string
	LockedUntil time.Time
	CreatedAt   time.Time `bun:",nullzero,default:now()"`
	ExpiresAt   time.Time
}

// How long a key is kept, and how long a request may run before another one with the same key may take over.
const (
	idempotencyKept = 24 * time.Hour
	IdempotencyLock = 60 * time.Second
)

// Faults of idempotency keys.
var (
	ErrIdempotencyMismatch = fault.New(fault.Conflict, "idempotency_mismatch", "This Idempotency-Key was used for another request.")
	ErrIdempotencyRunning  = fault.New(fault.Conflict, "idempotency_in_progress", "The first request with this Idempotency-Key is still running. Try again.").After(time.Second)
)

// ReserveKey claims a key for a request. If the request was answered before, the row has a StatusCode and the answer.
// Otherwise the caller runs it and makes its resource under ResourceID: a request whose process died is taken over, when
// its lock is over, under the same ID, so that what it made is found instead of made again.
func ReserveKey(ctx context.Context, db *DB, owner uuid.UUID, route, key string, hash []byte) (*IdempotencyKey, error) {
	now := time.Now()
	k := &IdempotencyKey{Owner: owner, Route: route, Key: key, RequestHash: hash, ResourceID: NewID(),
		LockedUntil: now.Add(IdempotencyLock), ExpiresAt: now.Add(idempotencyKept)}
	res, err := db.NewInsert().Model(k).On("CONFLICT DO NOTHING").Exec(ctx)
	if ok, err := changed(res, err); ok || err != nil {
		return k, err
	}
	err = db.InTx(ctx, func(ctx context.Context, tx bun.Tx) error {
		known := new(IdempotencyKey)
		if err := tx.NewSelect().Model(known).Where("owner = ? AND route = ? AND key = ?", owner, route, key).For("UPDATE").Scan(ctx); err != nil {
			return err
		}
		switch {
		case known.ExpiresAt.Before(now): // free again: k stands for the new request
			_, err := tx.NewUpdate().Model(k).WherePK().Column("request_hash", "resource_id", "locked_until", "expires_at", "status_code", "response", "location").Exec(ctx)
			return err
		case !bytes.Equal(known.RequestHash, hash):
			return ErrIdempotencyMismatch
		case known.StatusCode == nil && known.LockedUntil.After(now):
			return ErrIdempotencyRunning
		case known.StatusCode == nil:
			known.LockedUntil = k.LockedUntil
			if _, err := tx.NewUpdate().Model(known).WherePK().Column("locked_until").Exec(ctx); err != nil {
				return err
			}
		}
		k = known
		return nil
	})
	if ok, notGone := Found(err); !ok && notGone == nil {
		return ReserveKey(ctx, db, owner, route, key, hash) // it was dropped between the two statements
	}
	return k, err
}

// AnswerKey keeps the answer of a request.
func AnswerKey(ctx context.Context, db bun.IDB, k *IdempotencyKey, status int, response []byte, location string) error {
	k.StatusCode, k.Response, k.Location = &status, response, optional(location)
	_, err := db.NewUpdate().Model(k).WherePK().Column("status_code", "response", "location").Exec(ctx)
	return err
}

// UnlockKey lets the next request with the key run, under the same resource ID.
func UnlockKey(ctx context.Context, db bun.IDB, k *IdempotencyKey) error {
	_, err := db.NewUpdate().Model(k).WherePK().Set("locked_until = now()").Exec(ctx)
	return err
}

// DropKey frees a key whose request was refused: nothing was made under it.
func DropKey(ctx context.Context, db bun.IDB, k *IdempotencyKey) error {
	_, err := db.NewDelete().Model(k).WherePK().Where("resource_id = ?", k.ResourceID).Where("status_code IS NULL").Exec(ctx)
	return err
}

// ForgetKeys drops keys whose time is over.
func ForgetKeys(ctx context.Context, q Querier) (int64, error) {
	tag, err := q.Exec(ctx, `WITH old AS (SELECT owner, route, key FROM idempotency_keys WHERE expires_at < now() ORDER BY expires_at LIMIT $1)
		DELETE FROM idempotency_keys k USING old o WHERE k.owner = o.owner AND k.route = o.route AND k.key = o.key AND k.expires_at < now()`, forgetRows)
	return tag.RowsAffected(), err
}
