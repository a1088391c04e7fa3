package whatsapp

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"
)

// A worker that stops in the middle of a transaction, or is cut off there, keeps nobody from its session for long.
func TestAFrozenWorkerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	old, now := holderOf(t, pool, "s", 1), holderOf(t, pool, "s", 2)
	_, err := old.claim(ctx)
	require.NoError(t, err)
	jid := types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer}
	device(t, old, jid)
	tx, err := old.db.BeginTx(ctx, nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(ctx, "UPDATE whatsmeow_device SET push_name = 'frozen'")
	require.NoError(t, err)

	soon, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	began := time.Now()
	claimed, err := now.claim(soon)
	require.NoError(t, err)
	require.Equal(t, jid, claimed)
	require.Greater(t, time.Since(began), time.Second, "it waits for those who go on")
	require.Error(t, tx.Commit())
	for name, value := range frozen {
		var set string
		require.NoError(t, pool.QueryRow(ctx, "SELECT setting FROM pg_settings WHERE name = $1", name).Scan(&set))
		require.Equal(t, value, set, name)
	}
}
