package migrations_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
)

// applyBefore applies the migrations before a number, and returns the text of the one that has it.
func applyBefore(t *testing.T, db *models.DB, number string) string {
	t.Helper()
	names, err := filepath.Glob("*.up.sql")
	require.NoError(t, err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		if name[:4] == number {
			return string(text)
		}
		_, err = db.Pool.Exec(t.Context(), string(text))
		require.NoError(t, err, name)
	}
	require.Fail(t, "there is no migration "+number)
	return ""
}

// A message that is sent while the counting of messages is installed is counted, once; and however long that takes, no limit of
// the connection ends it.
func TestUsageMissesNothingWhileItIsInstalled(t *testing.T) {
	db := modelstest.Open(t, embeddedtest.DB(t))
	up := applyBefore(t, db, "0021")
	exec := func(sql string) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec(`INSERT INTO users (id, name, email, password_hash) VALUES ('00000000-0000-7000-8000-000000000001', 'u', 'u@x', 'x')`)
	exec(`INSERT INTO sessions (uid, id, user_id, name, status) SELECT kurir_uuid_v7(), 's', id, 's', 'CONNECTED' FROM users`)
	exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, whatsapp_id, status, sent_at)
		SELECT kurir_uuid_v7(), uid, 'OUTBOUND', n, 'c', 't', 'TEXT', 'x' || n, CASE n WHEN 1 THEN 'SENT' ELSE 'SENDING' END, CASE n WHEN 1 THEN now() END FROM sessions, generate_series(1, 3) n`)
	// What is made is made in this schema. Sessions are read by the look through messages alone: they are there for it if no limit holds then.
	exec(`CREATE SCHEMA unlimited`)
	exec(`CREATE VIEW unlimited.sessions AS SELECT * FROM public.sessions WHERE current_setting('statement_timeout') = '0' AND current_setting('enable_seqscan') = 'on'`)

	const within = `SET LOCAL search_path = unlimited, public; `

	sender, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = sender.Rollback(t.Context()) }()
	_, err = sender.Exec(t.Context(), `UPDATE messages SET status = 'SENT', sent_at = now() WHERE seq = 2`)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		done <- db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), within+up)
			return err
		})
	}()
	require.Eventually(t, func() bool {
		return modelstest.Scalar[bool](t, db, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE relation = 'messages'::regclass AND NOT granted)`)
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, sender.Commit(t.Context()))
	require.NoError(t, <-done)
	exec(`DROP VIEW unlimited.sessions`)
	exec(within + `UPDATE messages SET status = 'SENT', sent_at = now() WHERE seq = 3`)
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM unlimited.message_tallies`))
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, db, `SELECT sum(messages)::bigint FROM unlimited.usage_months`))
}
