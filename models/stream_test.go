package models_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// What streams ask for is found by index, in order, without the months that cannot hold it, whoever else has how many events.
func TestStreamStatementsUseIndexes(t *testing.T) {
	db := modelstest.DB(t)
	user, session := modelstest.Ready(t, db)
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	exec(`INSERT INTO events (id, user_id, session_uid, type, data, xid) SELECT kurir_uuid_v7(), gen_random_uuid(), gen_random_uuid(), 'message.sent', '1', (n / 25)::text::xid8 FROM generate_series(1, 5000) n`)
	exec(`INSERT INTO events (id, user_id, session_uid, type, data, xid) SELECT kurir_uuid_v7(), $1, $2, 'message.sent', '1', (n / 25)::text::xid8 FROM generate_series(1, 5000) n`, user.ID, session.UID)
	exec(`ANALYZE events`)

	cfg := db.Pool.Config()
	rec := &recorder{}
	cfg.ConnConfig.Tracer = rec
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	horizon, err := models.EventHorizon(t.Context(), pool)
	require.NoError(t, err)
	now := time.Now()
	middle := models.EventPlace{Xact: 50, ID: models.IDFrom(now)}
	list, err := models.EventsOfUsers(t.Context(), pool, []uuid.UUID{user.ID, uuid.New()}, middle, horizon, now, 200)
	require.NoError(t, err)
	require.Len(t, list, 200)
	for _, of := range []models.EventSource{{User: user.ID}, {User: user.ID, Session: &session.UID}} {
		list, err := models.EventsBetween(t.Context(), pool, of, middle, models.EventPlace{Xact: horizon}, nil, 200)
		require.NoError(t, err)
		require.Len(t, list, 200)
		for i := range list[1:] {
			require.True(t, list[i].Before(list[i+1].EventPlace))
		}
		last, err := models.LastEvent(t.Context(), pool, of, models.EventPlace{Xact: horizon})
		require.NoError(t, err)
		p, ok, err := models.PlaceOf(t.Context(), pool, of, last, horizon)
		require.NoError(t, err)
		require.True(t, ok)
		require.EqualValues(t, 200, p.Xact)
		none, err := models.EventsBetween(t.Context(), pool, of, p, models.EventPlace{Xact: horizon}, nil, 200)
		require.NoError(t, err)
		require.Empty(t, none)
		other, err := models.EventsBetween(t.Context(), pool, of, middle, models.EventPlace{Xact: horizon}, []string{"message.read"}, 1)
		require.NoError(t, err)
		require.Equal(t, "null", string(other[0].Data), "what is not asked for is not read")
	}
	_, err = models.RevokedGrants(t.Context(), pool, []models.StreamGrant{{User: user.ID, Session: &session.UID}})
	require.NoError(t, err)

	seen := 0
	for _, s := range rec.seen {
		rows, err := db.Pool.Query(t.Context(), "EXPLAIN (ANALYZE, TIMING off, COSTS off) "+s.sql, s.args...)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, s.sql)
		plan := strings.Join(lines, "\n")
		require.NotContains(t, plan, "Seq Scan", "%s\n%s", s.sql, plan)
		if !strings.Contains(s.sql, "FROM events") {
			continue
		}
		seen++
		require.NotContains(t, plan, "Rows Removed by Filter", "%s\n%s", s.sql, plan)
		require.NotRegexp(t, `events_\d+ .*rows=[1-9]\d{3,}`, plan, "it should read a page, not all")
		if strings.Contains(s.sql, "u.id") {
			require.NotContains(t, plan, "events_old", "months that cannot hold them")
		}
	}
	require.Equal(t, 11, seen)
}

func TestRevokedGrants(t *testing.T) {
	db := modelstest.DB(t)
	user, session := modelstest.Ready(t, db)
	_, key := models.NewAPIKey(user.ID, nil, "key", time.Now())
	require.NoError(t, models.InsertAPIKey(t.Context(), db, key))
	secret, _, err := models.NewSessionLink(t.Context(), db.Pool, modelstest.Session(t, db, user, "other").UID, nil, time.Minute)
	require.NoError(t, err)
	link, err := models.SessionLinkBySecret(t.Context(), db.Pool, secret)
	require.NoError(t, err)
	one, two, nobody := 1, 2, uuid.New()
	good := []models.StreamGrant{{User: user.ID}, {User: user.ID, Version: &one}, {User: user.ID, Key: &key.ID}, {User: user.ID, Session: &session.UID},
		{User: user.ID, Version: &one, Session: &session.UID}, {User: user.ID, Session: &link.Session.UID, Link: &link.ID}}
	bad := []models.StreamGrant{{User: nobody}, {User: user.ID, Version: &two}, {User: user.ID, Key: &nobody}, {User: user.ID, Session: &nobody},
		{User: user.ID, Session: &session.UID, Link: &link.ID}, {User: user.ID, Session: &link.Session.UID, Link: &nobody}}
	revoked := func(grants ...models.StreamGrant) []int {
		list, err := models.RevokedGrants(context.Background(), db.Pool, grants)
		require.NoError(t, err)
		return list
	}
	require.Empty(t, revoked())
	require.Empty(t, revoked(good...))
	require.ElementsMatch(t, []int{6, 7, 8, 9, 10, 11}, revoked(append(good, bad...)...))
	for what, c := range map[string]struct {
		sql  string
		ends []int
	}{
		"expired":     {`UPDATE api_keys SET expires_at = now()`, []int{2}},
		"inactive":    {`UPDATE api_keys SET is_active = false`, []int{2}},
		"logged out":  {`UPDATE users SET token_version = 2`, []int{1, 4}},
		"replaced":    {`UPDATE session_links SET id = gen_random_uuid()`, []int{5}},
		"deactivated": {`UPDATE users SET is_active = false`, []int{0, 1, 2, 3, 4, 5}},
		"deleted":     {`UPDATE sessions SET deleted_at = now(), desired = 'DELETED'`, []int{3, 4, 5}},
	} {
		tx, err := db.Pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), c.sql)
		require.NoError(t, err)
		list, err := models.RevokedGrants(t.Context(), tx, good)
		require.NoError(t, err)
		require.ElementsMatch(t, c.ends, list, what)
		require.NoError(t, tx.Rollback(t.Context()))
	}
}

// A link that is made at the moment of the scan is refused, or ends with it: none is left that would show the next code.
func TestLinkAtTheMomentOfTheScan(t *testing.T) {
	r := newReporter(t)
	for range 20 {
		r.exec(`UPDATE sessions SET status = 'QR_REQUIRED', linked_at = NULL`)
		r.exec(`DELETE FROM session_links`)
		made := make(chan error, 1)
		go func() {
			_, _, err := models.NewSessionLink(context.Background(), r.db.Pool, r.session.UID, nil, time.Minute)
			made <- err
		}()
		r.send(r.status("connected", "", "+6281234567890"))
		ok, err := models.Found(<-made)
		require.NoError(t, err)
		left := modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM session_links WHERE linked_at IS NOT NULL`)
		require.Equal(t, ok, left == 1)
		require.Zero(t, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM session_links WHERE linked_at IS NULL`))
	}
}

// The column that streams go by comes to a full table without its rows being written anew, and has them stand before all
// that follow.
func TestTheColumnOfStreamsIsCheap(t *testing.T) {
	db := modelstest.DB(t)
	_, session := modelstest.Ready(t, db)

	files := func() string {
		return modelstest.Scalar[string](t, db, `SELECT string_agg(pg_relation_filenode(i.inhrelid)::text, ' ' ORDER BY i.inhrelid) FROM pg_inherits i WHERE i.inhparent = 'events'::regclass`)
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	exec(`ALTER TABLE events DROP COLUMN xid`)
	exec(`INSERT INTO events (id, user_id, session_uid, type, data) SELECT kurir_uuid_v7(), $1, $2, 'message.sent', '1' FROM generate_series(1, 1000)`, session.UserID, session.UID)
	before := files()
	exec(`ALTER TABLE events ADD COLUMN xid xid8 NOT NULL DEFAULT '0'`)
	exec(`ALTER TABLE events ALTER COLUMN xid SET DEFAULT pg_current_xact_id()`)
	require.Equal(t, before, files())
	emit(t, db, session, "message.read")
	require.Equal(t, "1000 1", modelstest.Scalar[string](t, db, `SELECT concat_ws(' ', count(*) FILTER (WHERE xid = '0'), count(*) FILTER (WHERE xid > '0')) FROM events`))
	later := modelstest.Scalar[string](t, db, `SELECT kurir_add_month('events', '2099-01-01')::text`)
	require.Equal(t, "true", later)
	exec(`INSERT INTO events (id, user_id, session_uid, type, data) VALUES (kurir_uuid_from('2099-01-15'), $1, $2, 'message.sent', '1')`, session.UserID, session.UID)
	require.True(t, modelstest.Scalar[bool](t, db, `SELECT xid > '0' FROM events_209901`), "new partitions have it too")
}
