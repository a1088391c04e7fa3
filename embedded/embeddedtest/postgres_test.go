package embeddedtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestPostgresGoesAndComesBack(t *testing.T) {
	pg := NewPostgres(t)
	dsn := pg.URL()
	_, err := connect(t, dsn).Exec(t.Context(), "CREATE TABLE things (id int)")
	require.NoError(t, err)
	for i, away := range []func(){pg.Crash, pg.Stop, pg.Crash} {
		conn := connect(t, dsn)
		_, err := conn.Exec(t.Context(), "INSERT INTO things VALUES ($1)", i)
		require.NoError(t, err)
		open, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = open.Exec(t.Context(), "INSERT INTO things VALUES (99)")
		require.NoError(t, err)

		away()
		require.Error(t, open.Commit(t.Context()))
		_, err = pgx.Connect(t.Context(), dsn)
		require.ErrorContains(t, err, "refused")

		pg.Start()
		require.Equal(t, dsn, pg.URL())
		var ids []int
		require.NoError(t, connect(t, dsn).QueryRow(t.Context(), "SELECT array_agg(id ORDER BY id) FROM things").Scan(&ids))
		require.Equal(t, []int{0, 1, 2}[:i+1], ids, "what was committed, and nothing else")
	}
}

// A client that comes while the server recovers is told so, as it would be without the front.
func TestPostgresIsMetInRecovery(t *testing.T) {
	pg := NewPostgres(t)
	// Enough to recover that it is not over before a client has come.
	_, err := connect(t, pg.URL()).Exec(t.Context(), "CREATE TABLE much AS SELECT n, repeat('x', 500) FROM generate_series(1, 100000) n")
	require.NoError(t, err)
	pg.Crash()
	told := make(chan bool)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		for {
			conn, err := pgx.Connect(ctx, pg.URL())
			var starting *pgconn.PgError
			switch {
			case err == nil:
				_ = conn.Close(ctx)
				told <- false
				return
			case errors.As(err, &starting) && starting.Code == "57P03":
				told <- true
				return
			}
			<-time.After(time.Millisecond)
		}
	}()
	pg.Start()
	require.True(t, <-told, "the server was up before anybody met it in recovery")
}
