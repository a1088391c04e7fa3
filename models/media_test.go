package models_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

func TestMediaID(t *testing.T) {
	a, b := models.NewID(), models.NewID()
	x, y := sha256.Sum256([]byte("x")), sha256.Sum256([]byte("y"))
	id := models.MediaID(a, x)
	require.Equal(t, id, models.MediaID(a, x))
	require.NotEqual(t, id, models.MediaID(a, y))
	require.NotEqual(t, id, models.MediaID(b, x))
	require.EqualValues(t, 8, id.Version())
	require.Equal(t, uuid.RFC4122, id.Variant())
}

// Every statement about media finds its rows through an index.
func TestMediaStatementsUseIndexes(t *testing.T) {
	db := modelstest.DB(t)
	user, session := modelstest.Ready(t, db)
	exec := func(sql string, args ...any) {
		_, err := db.Pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	exec(`INSERT INTO media (id, user_id, sha256, mimetype, size, stored_at, look_at) SELECT gen_random_uuid(), $1, sha256(n::text::bytea), 'image/png', n, now(), now() + interval '1 day' + n * interval '1 second'
		FROM generate_series(1, 5000) n`, user.ID)
	exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, status, whatsapp_id, media_id)
		SELECT kurir_uuid_v7(), $1, 'OUTBOUND', row_number() OVER (), 'c', 't', 'IMAGE', 'SENT', 'w' || size, id FROM media`, session.UID)
	exec(`ANALYZE`)
	cfg := db.Pool.Config()
	rec := &recorder{}
	cfg.ConnConfig.Tracer = rec
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	sum := sha256.Sum256([]byte("content"))
	m := &models.Media{ID: models.MediaID(user.ID, sum), UserID: user.ID, SHA256: sum[:], MIMEType: "image/png", Size: 7}
	require.NoError(t, models.ReserveMedia(t.Context(), pool, m))
	ok, err := models.StoreMedia(t.Context(), pool, m.ID)
	require.NoError(t, err)
	require.True(t, ok)
	_, err = models.UseMedia(t.Context(), pool, user.ID, m.ID)
	require.NoError(t, err)
	_, err = models.MediaOf(t.Context(), pool, user.ID, &session.UID, m.ID)
	require.ErrorIs(t, err, models.ErrNoMedia)
	_, ok, err = models.MediaHolder(t.Context(), pool, "w1", 1, session.UID)
	require.NoError(t, err)
	require.True(t, ok)
	exec(`UPDATE media SET look_at = now() - interval '1 second' WHERE id = $1`, m.ID)
	retired, looked, err := models.RetireMedia(t.Context(), pool, 10)
	require.NoError(t, err)
	require.Len(t, retired, 1)
	require.Equal(t, 1, looked)
	dropped, err := models.DropMedia(t.Context(), &models.DB{DB: db.DB, Pool: pool}, m.ID, func(context.Context) error { return nil })
	require.NoError(t, err)
	require.True(t, dropped)
	orphans, err := models.AdoptMedia(t.Context(), pool, []models.Media{*m, {ID: uuid.New(), UserID: uuid.New(), SHA256: sum[:]}})
	require.NoError(t, err)
	require.Len(t, orphans, 1)

	explained := 0
	for _, s := range rec.seen {
		if !strings.Contains(s.sql, "media") {
			continue
		}
		explained++
		rows, err := db.Pool.Query(t.Context(), "EXPLAIN "+s.sql, s.args...)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, s.sql)
		plan := strings.Join(lines, "\n")
		for _, table := range []string{"media", "messages", "users", "sessions"} {
			require.NotContains(t, plan, "Seq Scan on "+table, "%s\n%s", s.sql, plan)
		}
	}
	require.Greater(t, explained, 6)
}
