package models_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

func TestReadMarks(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	other := modelstest.Session(t, db, &models.User{ID: s.UserID}, "other")
	add := func(session uuid.UUID, direction, chat, whatsappID string) uuid.UUID {
		id := models.NewID()
		_, err := db.Pool.Exec(t.Context(), `INSERT INTO messages (id, session_uid, direction, chat, from_number, to_number, message_type, status, whatsapp_id)
			VALUES ($1, $2, $3, $4, '+62', 't', 'TEXT', 'DELIVERED', $5)`, id, session, direction, chat, whatsappID)
		require.NoError(t, err)
		return id
	}
	one, two, mine := add(s.UID, "INBOUND", "c", "1"), add(s.UID, "INBOUND", "c", "2"), add(s.UID, "OUTBOUND", "c", "3")
	elsewhere, foreign := add(s.UID, "INBOUND", "d", "4"), add(other.UID, "INBOUND", "c", "5")
	list, err := models.Received(t.Context(), db.Pool, s.UID, []uuid.UUID{one, mine, elsewhere, foreign, models.NewID()})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{one, elsewhere}, []uuid.UUID{list[0].ID, list[1].ID})
	require.Len(t, list, 2)

	unread := func(limit int) (ids []uuid.UUID) {
		list, err := models.Unread(t.Context(), db.Pool, s.UID, "c", limit)
		require.NoError(t, err)
		for _, m := range list {
			ids = append(ids, m.ID)
		}
		return ids
	}
	require.Equal(t, []uuid.UUID{two, one}, unread(10))
	require.Equal(t, []uuid.UUID{two}, unread(1))
	require.NoError(t, models.SetRead(t.Context(), db.Pool, s.UID, []uuid.UUID{two, mine, foreign}))
	require.Equal(t, []uuid.UUID{one}, unread(10))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages WHERE read_at IS NOT NULL`), "another session's, or one that went out")
}

// What a request or a tick causes finds its rows through an index.
func TestLifecycleQueriesUseIndexes(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	for sql, index := range map[string]string{
		fmt.Sprintf(`SELECT id FROM messages WHERE session_uid = '%s' AND chat = 'c' AND direction = 'INBOUND' AND read_at IS NULL ORDER BY id DESC LIMIT 5`, s.UID):                                           "_session_uid_chat_id_idx",
		`SELECT uid FROM sessions WHERE desired IN ('STOPPED', 'LOGGED_OUT') AND (worker_id IS NOT NULL OR status <> 'DISCONNECTED' OR desired = 'LOGGED_OUT' AND linked_at IS NOT NULL) ORDER BY uid LIMIT 5`: "sessions_ending",
	} {
		rows, err := db.Pool.Query(t.Context(), "EXPLAIN "+sql)
		require.NoError(t, err)
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Contains(t, strings.Join(plan, "\n"), index)
		require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan")
	}
}
