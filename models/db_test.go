package models_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// ending is a database with a table that the last statements of transactions write to, and a pool of few connections.
type ending struct {
	*testing.T
	db *models.DB
}

func newEnding(t *testing.T) *ending {
	e := &ending{t, modelstest.DB(t)}
	_, err := e.db.Pool.Exec(t.Context(), `CREATE TABLE notes (text text NOT NULL)`)
	require.NoError(t, err)
	return e
}

func (e *ending) notes() string {
	e.Helper()
	return modelstest.Scalar[string](e, e.db, `SELECT coalesce(string_agg(text, ' ' ORDER BY text), '') FROM notes`)
}

// idle demands that no connection is left in a transaction or with its user.
func (e *ending) idle() {
	e.Helper()
	require.Eventually(e, func() bool { return e.db.Pool.Stat().AcquiredConns() == 0 }, 20*time.Second, time.Millisecond, "all connections are back")
	require.Eventually(e, func() bool { // a connection that was closed ends there a moment later
		return modelstest.Scalar[int64](e, e.db, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'`) == 0
	}, 20*time.Second, 10*time.Millisecond, "no transaction is open")
}

const note = `INSERT INTO notes VALUES ($1)`

func TestLastStatementsAreCommittedAndAnswered(t *testing.T) {
	e := newEnding(t)
	var answer int64
	require.NoError(t, e.db.InPgxTxLast(t.Context(), func(tx pgx.Tx, last *pgx.Batch) error {
		_, err := tx.Exec(t.Context(), note, "first")
		last.Queue(note, "last")
		last.Queue(`SELECT count(*) FROM notes`).QueryRow(func(row pgx.Row) error { return row.Scan(&answer) })
		return err
	}))
	require.EqualValues(t, 2, answer, "it sees what went before it")
	require.Equal(t, "first last", e.notes())
	require.NoError(t, e.db.InPgxTxLast(t.Context(), func(pgx.Tx, *pgx.Batch) error { return nil }), "nothing at all")
	e.idle()
}

// What PostgreSQL ends for the sake of others is done again as a whole, also when the last statements are what it ends.
func TestLastStatementsAreTriedAgain(t *testing.T) {
	for name, code := range map[string]string{"deadlock": "40P01", "serialization": "40001"} {
		t.Run(name, func(t *testing.T) {
			e := newEnding(t)
			failOnce(t, e.db, "notes", code)
			_, err := e.db.Pool.Exec(t.Context(), `CREATE TABLE others (text text)`)
			require.NoError(t, err)
			tries := 0
			require.NoError(t, e.db.InPgxTxLast(t.Context(), func(tx pgx.Tx, last *pgx.Batch) error {
				tries++
				require.Zero(t, last.Len(), "each try begins with none")
				last.Queue(note, "last")
				_, err := tx.Exec(t.Context(), `INSERT INTO others VALUES ('x')`)
				return err
			}))
			failedOnce(t, e.db)
			require.Equal(t, 2, tries)
			require.Equal(t, "last", e.notes())
			require.EqualValues(t, 1, modelstest.Scalar[int64](t, e.db, `SELECT count(*) FROM others`))
			e.idle()
		})
	}
}

func TestTransactionsThatComeToNothing(t *testing.T) {
	e := newEnding(t)
	write := func(tx pgx.Tx, last *pgx.Batch) {
		_, err := tx.Exec(t.Context(), note, "first")
		require.NoError(t, err)
		last.Queue(note, "last")
	}
	nothing := func() {
		t.Helper()
		e.idle()
		require.Empty(t, e.notes())
		require.NoError(t, e.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `SELECT 1`)
			return err
		}), "the pool is usable")
	}
	t.Run("an error that is passed over", func(t *testing.T) {
		for _, last := range []bool{true, false} {
			require.Error(t, e.db.InPgxTxLast(t.Context(), func(tx pgx.Tx, b *pgx.Batch) error {
				if last {
					write(tx, b)
				}
				_, err := tx.Exec(t.Context(), `SELECT 1 / 0`)
				require.Error(t, err)
				return nil
			}))
			nothing()
		}
	})
	t.Run("an error of the last statements", func(t *testing.T) {
		require.ErrorContains(t, e.db.InPgxTxLast(t.Context(), func(tx pgx.Tx, last *pgx.Batch) error {
			write(tx, last)
			last.Queue(`INSERT INTO notes VALUES (NULL)`)
			return nil
		}), "23502")
		nothing()
	})
	t.Run("cancelled before the last statements", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		require.ErrorIs(t, e.db.InPgxTxLast(ctx, func(tx pgx.Tx, last *pgx.Batch) error {
			write(tx, last)
			cancel()
			return nil
		}), context.Canceled)
		nothing()
	})
	t.Run("cancelled while they wait", func(t *testing.T) {
		other, err := e.db.Pool.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = other.Rollback(context.WithoutCancel(t.Context())) }()
		_, err = other.Exec(t.Context(), `LOCK TABLE notes IN SHARE MODE`)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- e.db.InPgxTxLast(ctx, func(_ pgx.Tx, last *pgx.Batch) error {
				last.Queue(note, "last")
				return nil
			})
		}()
		waits(t, e.db)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.NoError(t, other.Rollback(t.Context()))
		require.Eventually(t, func() bool {
			return modelstest.Scalar[int64](t, e.db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'INSERT INTO notes%' AND state = 'active'`) == 0
		}, 20*time.Second, 5*time.Millisecond)
	})
	t.Run("a panic", func(t *testing.T) {
		_, err := e.db.Pool.Exec(t.Context(), `TRUNCATE notes`)
		require.NoError(t, err)
		require.PanicsWithValue(t, "oops", func() {
			_ = e.db.InPgxTxLast(t.Context(), func(tx pgx.Tx, last *pgx.Batch) error {
				write(tx, last)
				panic("oops")
			})
		})
		nothing()
	})
}

// An audited change is told in its own transaction, also where nothing but the last statements writes, and nothing where nothing
// is written.
func TestLastStatementsAreTold(t *testing.T) {
	e := newEnding(t)
	lines := func() string {
		return modelstest.Scalar[string](t, e.db, `SELECT coalesce(string_agg(message || ' ' || (xmin::text = (SELECT max(n.xmin::text) FROM notes n WHERE n.text = message)), ', ' ORDER BY id), '') FROM system_logs`)
	}
	ctx, trail := models.WithTrail(t.Context(), models.Audit{Service: "api", Message: "looked"})
	require.NoError(t, e.db.InPgxTxLast(ctx, func(_ pgx.Tx, last *pgx.Batch) error {
		last.Queue(`SELECT 1 FROM notes`)
		return nil
	}))
	require.False(t, trail.Told())
	require.Empty(t, lines())

	ctx, trail = models.WithTrail(t.Context(), models.Audit{Service: "api", Message: "changed"})
	failOnce(t, e.db, "notes", "40P01")
	require.NoError(t, e.db.InPgxTxLast(ctx, func(_ pgx.Tx, last *pgx.Batch) error {
		last.Queue(note, "changed")
		return nil
	}))
	failedOnce(t, e.db)
	require.True(t, trail.Told())
	require.Equal(t, "changed true", lines())

	ctx, trail = models.WithTrail(t.Context(), models.Audit{Service: "api", Message: "failed"})
	require.Error(t, e.db.InPgxTxLast(ctx, func(tx pgx.Tx, last *pgx.Batch) error {
		_, err := tx.Exec(ctx, note, "failed")
		last.Queue(`INSERT INTO notes VALUES (NULL)`)
		return err
	}))
	require.False(t, trail.Told())
	require.Equal(t, "changed true", lines())
	e.idle()
}

// bun writes values into its queries: prepared, each would stay on its connection, here and in PostgreSQL.
func TestQueriesOfBunAreNotKept(t *testing.T) {
	db := modelstest.DB(t)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	prepared := func() (n int) {
		require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_prepared_statements").Scan(&n))
		return n
	}
	before := prepared()
	for range 20 {
		_, err := models.WebhookByID(t.Context(), conn, models.NewID())
		require.ErrorIs(t, err, sql.ErrNoRows)
	}
	require.Equal(t, before, prepared())
}
