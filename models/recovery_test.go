package models_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

func TestMarginOfARecovery(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for ago, want := range map[time.Duration]int64{
		-time.Hour: 1_000_000, 0: 1_000_000, 99 * time.Second: 1_000_000, 100 * time.Second: 2_000_000, 24 * time.Hour: 865_000_000,
	} {
		require.Equal(t, want, models.Recovery{From: now.Add(-ago), Now: now}.Margin(), "%s ago", ago)
	}
}

// comesBack is a worker that registers.
func comesBack(t *testing.T, db *models.DB, r wire.Register, resumed bool) (term int64, err error) {
	t.Helper()
	r.MaxSessions, r.Engine = 10, "simulator"
	err = db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		term, err = models.RegisterWorker(t.Context(), tx, r, time.Hour, resumed)
		return err
	})
	return term, err
}

// A database is put back. What others remember of the time that it has forgotten is of no use to them any more.
func TestRecovery(t *testing.T) {
	db := modelstest.DB(t)
	ctx := t.Context()
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(ctx, sql, args...)
		require.NoError(t, err)
	}
	user, s := modelstest.Ready(t, db)
	require.NoError(t, models.Beat(ctx, db.Pool, time.Minute))
	exec(`UPDATE intake SET seen = now() - interval '1 hour'`)
	exec(`INSERT INTO runners (id, hostname, pid, expires_at) VALUES ($1, 'h', 1, now() + interval '1 hour')`, uuid.New())
	exec(`UPDATE lanes SET next_seq = 5, generation = 7, holder = $1, next_due_at = NULL`, uuid.New())
	exec(`INSERT INTO chats (session_uid, chat, first_sent_at) VALUES ($1, 'known', now())`, s.UID)
	for seq, m := range []struct {
		chat   string
		sendAt *string
	}{{"known", nil}, {"known", pointer("-1 minute")}, {"known", pointer("1 day")}, {"stranger", nil}} {
		exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, whatsapp_id, status, send_at, expires_at)
			VALUES (kurir_uuid_v7(), $1, 'OUTBOUND', $2, $3, 't', 'TEXT', 'x', 'PENDING', now() + $4::interval, now() + interval '2 days')`, s.UID, seq+1, m.chat, m.sendAt)
	}
	exec(`INSERT INTO events (id, user_id, session_uid, type, data, xid) SELECT kurir_uuid_v7(), $1, $2, 'session.status', '{}', ('900000000' || n)::xid8 FROM generate_series(1, 2) n`, user.ID, s.UID)
	exec(`INSERT INTO account_tokens (hash, user_id, purpose, email, expires_at) VALUES (sha256('x'), $1, 'RESET', 'x', now() + interval '1 day')`, user.ID)

	before, err := models.SessionByName(ctx, db, "shop")
	require.NoError(t, err)
	r, err := models.Recover(ctx, db, models.Recovery{Hold: true, How: "it's \\ a test"})
	require.NoError(t, err)
	require.InDelta(t, time.Hour.Seconds(), r.Now.Sub(r.From).Seconds(), 1, "from when API processes beat last")
	margin := r.Margin()

	// Workers of the time before are refused, and nobody takes over before their lease is over.
	h := wire.Heartbeat{Status: "online", Term: 1}
	ok, err := models.RenewLease(ctx, db, "w1", h, time.Hour)
	require.NoError(t, err)
	require.False(t, ok, "a heartbeat of the former term")
	_, err = comesBack(t, db, wire.Register{WorkerID: "w1", Endpoint: "http://w1", PreviousTerm: 1}, true)
	require.ErrorIs(t, err, models.ErrWorkerLive, "the same process")
	f, err := models.ExpireLeases(ctx, db)
	require.NoError(t, err)
	require.Zero(t, f.Freed)
	left, err := models.LeasesLeft(ctx, db.Pool)
	require.NoError(t, err)
	require.InDelta(t, time.Minute.Seconds(), left.Seconds(), 30)
	exec(`UPDATE workers SET lease_expires_at = now()`)
	left, err = models.LeasesLeft(ctx, db.Pool)
	require.NoError(t, err)
	require.Zero(t, left)
	term, err := comesBack(t, db, wire.Register{WorkerID: "w1", Endpoint: "http://w1"}, false)
	require.NoError(t, err)
	require.Greater(t, term, margin)
	first, err := comesBack(t, db, wire.Register{WorkerID: "w2", Endpoint: "http://w2"}, false)
	require.NoError(t, err)
	require.Greater(t, first, margin, "of a worker that is not known here any more")

	after, err := models.SessionByName(ctx, db, "shop")
	require.NoError(t, err)
	require.Equal(t, before.Epoch+margin, after.Epoch)
	require.Equal(t, before.LinkedAt, after.LinkedAt)
	type lane struct {
		Seq, Generation int64
		Held, Due       bool
	}
	rows, err := db.Pool.Query(ctx, `SELECT next_seq, generation, holder IS NOT NULL, coalesce(next_due_at <= now(), false) FROM lanes`)
	require.NoError(t, err)
	lanes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lane])
	require.NoError(t, err)
	require.Equal(t, []lane{{5 + margin, 7 + margin, false, true}}, lanes)
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT (SELECT count(*) FROM runners) + (SELECT count(*) FROM intake) + (SELECT count(*) FROM account_tokens)`))
	require.EqualValues(t, 1_000_001, modelstest.Scalar[int](t, db, `SELECT token_version FROM users`))
	paused, err := models.PlatformPaused(ctx, db.Pool)
	require.NoError(t, err)
	require.NotNil(t, paused)
	require.Equal(t, "it's \\ a test", modelstest.Scalar[string](t, db, `SELECT details->>'how' FROM system_logs WHERE message = 'platform.restored' AND actor = 'operator'`))

	// What is new comes behind what streams have read.
	exec(`INSERT INTO events (id, user_id, session_uid, type, data) VALUES (kurir_uuid_v7(), $1, $2, 'session.status', '{}')`, user.ID, s.UID)
	horizon, err := models.EventHorizon(ctx, db.Pool)
	require.NoError(t, err)
	seen, err := models.EventsBetween(ctx, db.Pool, models.EventSource{User: user.ID}, models.EventPlace{}, models.EventPlace{Xact: horizon}, nil, 10)
	require.NoError(t, err)
	require.Len(t, seen, 3)
	require.Equal(t, []bool{true, true, false}, []bool{seen[0].Xact == 0, seen[1].Xact == 0, seen[2].Xact == 0})

	// What may have gone out is in doubt: it can't be cancelled, and ends as UNKNOWN; what can't have, is as it was.
	require.Equal(t, "SENDING,SENDING,PENDING,PENDING", modelstest.Scalar[string](t, db, `SELECT string_agg(status, ',' ORDER BY seq) FROM messages`))
	exec(`UPDATE messages SET expires_at = now()`)
	require.NoError(t, db.InPgxTx(ctx, func(tx pgx.Tx) error {
		n, _, err := models.ExpireMessages(ctx, tx, 10)
		require.Equal(t, 4, n)
		return err
	}))
	require.Equal(t, "UNKNOWN,UNKNOWN,EXPIRED,EXPIRED", modelstest.Scalar[string](t, db, `SELECT string_agg(status, ',' ORDER BY seq) FROM messages`))

	// A second time raises all of it once more, what workers begin with too.
	exec(`DELETE FROM sessions`)
	exec(`DELETE FROM worker_streams`)
	exec(`DELETE FROM workers`)
	_, err = models.Recover(ctx, db, models.Recovery{})
	require.NoError(t, err)
	again, err := comesBack(t, db, wire.Register{WorkerID: "w2", Endpoint: "http://w2"}, false)
	require.NoError(t, err)
	require.Greater(t, again, first)
}

func pointer(text string) *string { return &text }

// Who works on a database is found, also where the names of connections don't tell.
func TestWhoIsAlive(t *testing.T) {
	url := modelstest.URL(t)
	db := modelstest.Open(t, url)
	alive := func() []string {
		t.Helper()
		list, err := models.Alive(t.Context(), db.Pool)
		require.NoError(t, err)
		return list
	}
	require.Empty(t, alive())
	for _, name := range []string{"kurir api key 12", "kurir apiary", "someone else", "kurir backup"} {
		other, err := models.OpenAs(name, url, 2)
		require.NoError(t, err)
		t.Cleanup(func() { _ = other.Close() })
		require.NoError(t, other.Pool.Ping(t.Context()))
	}
	list := alive()
	require.Len(t, list, 1)
	require.Contains(t, list[0], "kurir api key 12")
	worker, err := models.OpenAs("kurir-whatsapp", url, 2)
	require.NoError(t, err)
	require.NoError(t, worker.Pool.Ping(t.Context()))
	require.Len(t, alive(), 2, "a worker that keeps credentials there")
	require.NoError(t, worker.Close())
	require.Eventually(t, func() bool { return len(alive()) == 1 }, 10*time.Second, 10*time.Millisecond)

	require.NoError(t, models.Beat(t.Context(), db.Pool, time.Second))
	require.NoError(t, models.RenewRunner(t.Context(), db.Pool, uuid.New(), "there", 4711, time.Minute))
	list = alive()
	require.Len(t, list, 3)
	require.Contains(t, list[1], "an api process")
	require.Contains(t, list[2], "4711 on there")
	_, err = db.Pool.Exec(t.Context(), `UPDATE intake SET seen = now() - interval '6 seconds'; UPDATE runners SET expires_at = now()`)
	require.NoError(t, err)
	require.Len(t, alive(), 1)
}

// A partition is not waited for while somebody reads its table for long: whoever came behind would wait too.
func TestAddPartitionsBesideABackup(t *testing.T) {
	db := modelstest.DB(t)
	reader, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = reader.Rollback(context.Background()) }()
	_, err = reader.Exec(t.Context(), `LOCK TABLE messages IN ACCESS SHARE MODE`)
	require.NoError(t, err)

	next := time.Now().UTC().AddDate(0, 0, 1-time.Now().UTC().Day()).AddDate(0, 1, 0)
	made, err := models.AddPartitions(t.Context(), db, next)
	require.NoError(t, err)
	require.Equal(t, 2, made, "of the two tables that nobody reads")
	require.NoError(t, reader.Commit(t.Context()))
	made, err = models.AddPartitions(t.Context(), db, next)
	require.NoError(t, err)
	require.Equal(t, 1, made)
}
