package models_test

import (
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

func TestFigures(t *testing.T) {
	db := modelstest.DB(t)
	conn, err := db.Pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)

	f, err := models.FiguresOf(t.Context(), db.Pool)
	require.NoError(t, err)
	require.Greater(t, f.Size, int64(1<<20))
	require.Positive(t, f.ConnectionsMax)
	require.Positive(t, f.Connections["active"], "the one that asks")
	require.Positive(t, f.Connections["idle_in_transaction"])
	require.Positive(t, f.OldestTransaction, "that of the other connection")
	require.Positive(t, f.TransactionAge)
	for state := range f.Connections {
		require.Contains(t, []string{"active", "idle", "idle_in_transaction", "other"}, state)
	}
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
}

func TestObserve(t *testing.T) {
	type call struct {
		operation string
		failed    bool
	}
	var mu sync.Mutex
	var calls []call
	db, err := models.OpenAs("test", modelstest.URL(t), 2, models.Observe(func(operation string, took time.Duration, failed bool) {
		mu.Lock()
		defer mu.Unlock()
		require.Positive(t, took)
		calls = append(calls, call{operation, failed})
	}))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })

	var n int
	require.NoError(t, db.Pool.QueryRow(t.Context(), "\n\t(SELECT 1)").Scan(&n))
	_, err = db.Pool.Exec(t.Context(), "WITH x AS (SELECT 1) SELECT * FROM x")
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), "SELECT 1/0")
	require.Error(t, err)
	require.NoError(t, db.NewRaw("SELECT 2").Scan(t.Context(), &n)) // bun's face of it
	require.ErrorIs(t, db.Pool.QueryRow(t.Context(), "SELECT 1 WHERE false").Scan(&n), pgx.ErrNoRows)
	batch := &pgx.Batch{}
	batch.Queue("SELECT 1")
	batch.Queue("SELECT 2")
	require.NoError(t, db.Pool.SendBatch(t.Context(), batch).Close())
	require.Equal(t, []call{{"select", false}, {"with", false}, {"select", true}, {"select", false}, {"select", false}, {"batch", false}}, calls)
}
