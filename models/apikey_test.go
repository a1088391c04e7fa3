package models_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// A key is found by its secret, and by the one before, without a look at any other key; however many an account has had.
func TestKeysAreFoundByIndex(t *testing.T) {
	db := modelstest.DB(t)
	ctx := t.Context()
	user := modelstest.User(t, db)
	_, err := db.Pool.Exec(ctx, `INSERT INTO api_keys (id, key_hash, prefix, user_id, name, is_active, former_hash, former_until)
		SELECT kurir_uuid_v7(), sha256(n::text::bytea), 'kur_', $1, 'x', n > 4990, sha256((-n)::text::bytea), now() + interval '1 hour' FROM generate_series(1, 5000) n`, user.ID)
	require.NoError(t, err)
	_, err = db.Pool.Exec(ctx, `ANALYZE api_keys`)
	require.NoError(t, err)

	secret, row := models.NewAPIKey(user.ID, nil, "Key", time.Now())
	until := time.Now().Add(time.Hour)
	row.ExpiresAt, row.Scopes = &until, []models.Scope{models.ScopeRead}
	require.NoError(t, db.InPgxTx(ctx, func(tx pgx.Tx) error {
		made, err := models.AddAccountKey(ctx, tx, row)
		require.True(t, made)
		return err
	}))
	require.NoError(t, db.InPgxTx(ctx, func(tx pgx.Tx) error {
		made, err := models.AddAccountKey(ctx, tx, row)
		require.False(t, made, "it is there")
		return err
	}))
	owner, err := models.KeyByHash(ctx, db, models.HashKey(secret))
	require.NoError(t, err)
	require.Equal(t, []any{row.ID, 1, []models.Scope{models.ScopeRead}, user.ID, true}, []any{owner.Key, owner.Version, owner.Scopes, owner.User.ID, owner.Stale})
	require.InDelta(t, time.Hour.Seconds(), owner.Left.Seconds(), 60)
	require.NoError(t, models.TouchKey(ctx, db, row.ID))

	next, nextRow := models.NewAPIKey(user.ID, nil, "", time.Now())
	require.NoError(t, db.InPgxTx(ctx, func(tx pgx.Tx) error {
		return models.RotateAccountKey(ctx, tx, user.ID, row.ID, nextRow, 10*time.Minute)
	}))
	former, err := models.KeyByHash(ctx, db, models.HashKey(secret))
	require.NoError(t, err)
	require.InDelta(t, 600, former.Left.Seconds(), 60, "the overlap ends before the key")
	owner, err = models.KeyByHash(ctx, db, models.HashKey(next))
	require.NoError(t, err)
	require.Equal(t, []any{1, 2, false}, []any{former.Version, owner.Version, owner.Stale})
	require.InDelta(t, time.Hour.Seconds(), owner.Left.Seconds(), 60)

	keys, err := models.AccountKeysOf(ctx, db.Pool, user.ID)
	require.NoError(t, err)
	require.Len(t, keys, 11)

	plan := func(sql string, args ...any) string {
		rows, err := db.Pool.Query(context.Background(), "EXPLAIN "+sql, args...)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return strings.Join(lines, "\n")
	}
	found := plan(`SELECT 1 FROM api_keys k WHERE (k.key_hash = $1 OR k.former_hash = $1 AND k.former_until > now()) AND k.is_active`, models.HashKey(secret))
	require.Contains(t, found, "api_keys_hash_key")
	require.Contains(t, found, "api_keys_former_key")
	require.NotContains(t, found, "Seq Scan")
	require.Contains(t, plan(`SELECT id FROM api_keys WHERE user_id = $1 AND session_uid IS NULL AND is_active ORDER BY id DESC LIMIT 50`, user.ID), "api_keys_account")
}
