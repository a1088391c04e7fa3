package models_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// bulk is an installation with a long history: sessions sessions over months months up to now, the first of which holds a
// tenth of all messages. The indexes of words are made when all is there, which takes a quarter of the time.
type bulk struct {
	testing.TB
	db       *models.DB
	user     *models.User
	sessions []uuid.UUID
}

// fillBulk makes n messages. Of a session's, one in 2,000 has failed, one in 1,000 is an image, and a third came in; there
// are 500 chats in the large session and 50 in the others. Words follow a curve: w0 is in every second message, w40000 in
// one of some thousands; rare1 is in ten of the large session's oldest.
func fillBulk(t testing.TB, db *models.DB, n, sessions, months int) *bulk {
	b := &bulk{TB: t, db: db}
	modelstest.Worker(t, db, "w1", 1_000_000)
	b.user = modelstest.User(t, db)
	first := time.Now().UTC().AddDate(0, 1-months, 0)
	first = time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC)
	pastMonths(t, db, first, months)
	for i := range sessions {
		uid := models.NewID()
		b.exec(`INSERT INTO sessions (uid, id, user_id, name, status) VALUES ($1, $2, $3, 'bulk', 'CONNECTED')`, uid, fmt.Sprintf("bulk%d", i), b.user.ID)
		b.sessions = append(b.sessions, uid)
	}
	b.exec(`ALTER TABLE messages DISABLE TRIGGER messages_indexed`)
	b.exec(`DROP INDEX message_index_words`)
	began := time.Now()
	const batch = 250_000
	span := time.Since(first) - time.Hour
	for from := 0; from < n; from += batch {
		to := min(from+batch, n)
		b.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, from_number, to_number, message_type, content, status, whatsapp_id, sent_at, created_at)
			SELECT overlay(kurir_uuid_from(at)::text PLACING '7' || lpad(to_hex(g & 4095), 3, '0') || '-8' || lpad(to_hex(g >> 12), 3, '0') || '-' || lpad(to_hex(g), 12, '0') FROM 15)::uuid, s, CASE WHEN g % 3 = 0 THEN 'INBOUND' ELSE 'OUTBOUND' END, CASE WHEN g % 3 = 0 THEN 0 ELSE g END,
				chat || CASE WHEN g % 50 = 7 THEN '@g.us' ELSE '@s.whatsapp.net' END, CASE WHEN g % 3 = 0 THEN '+' || chat END, chat || '@s.whatsapp.net',
				CASE WHEN g / 10 % 1000 = 501 THEN 'IMAGE' ELSE 'TEXT' END,
				concat_ws(' ', 'hello', CASE WHEN g % 2 = 0 THEN 'w0' END, 'w' || (40000 * random() ^ 4)::int, 'w' || (40000 * random() ^ 3)::int, 'w' || (40000 * random() ^ 2)::int,
					'w' || (40000 * random())::int, 'order', g, CASE WHEN s = ($4::uuid[])[1] AND g < 100 THEN 'rare1' END),
				CASE WHEN g / 10 % 2000 = 11 THEN 'FAILED' WHEN g % 3 = 0 THEN 'DELIVERED' ELSE 'READ' END, 'B' || g, at, at
			FROM (SELECT g, $3::timestamptz + $5::interval * (g::float8 / $6::float8) AS at,
				CASE WHEN g % 10 = 0 THEN ($4::uuid[])[1] ELSE ($4::uuid[])[2 + (g * 7919) % ($7::int8 - 1)] END AS s,
				(628000000000 + CASE WHEN g % 10 = 0 THEN g / 10 % 500 ELSE g / 10 % 50 END)::text AS chat FROM generate_series($1::int8, $2::int8 - 1) g) r`,
			from, to, first, b.sessions, span, n, sessions)
	}
	t.Logf("%d messages in %v", n, time.Since(began).Round(time.Second))
	began = time.Now()
	b.exec(`INSERT INTO message_index (id, session_uid, chat, todo, document)
		SELECT id, session_uid, chat, false, kurir_document(session_uid, message_type, content, caption, filename, deleted_at) FROM messages`)
	t.Logf("their documents in %v", time.Since(began).Round(time.Second))
	began = time.Now()
	b.exec(`SET maintenance_work_mem = '512MB'; CREATE INDEX message_index_words ON message_index USING gin (document) WITH (fastupdate = on, gin_pending_list_limit = 256); RESET maintenance_work_mem`)
	t.Logf("their indexes in %v", time.Since(began).Round(time.Second))
	b.exec(`ALTER TABLE messages ENABLE TRIGGER messages_indexed`)
	b.exec(`INSERT INTO events (id, user_id, session_uid, type, data, created_at)
		SELECT id, $1, session_uid, 'message.read', jsonb_build_object('id', id, 'chat', chat, 'direction', lower(direction), 'fromMe', from_me,
			'from', jsonb_build_object('phone', from_number, 'lid', null), 'message', content), created_at FROM messages WHERE seq % 10 IN (0, 1)`, b.user.ID)
	b.exec(`VACUUM ANALYZE events`)
	b.exec(`VACUUM ANALYZE messages`)
	b.exec(`VACUUM ANALYZE message_index`)
	return b
}

// exec runs a statement without the bound that requests have.
func (b *bulk) exec(sql string, args ...any) {
	b.Helper()
	conn, err := b.db.Pool.Acquire(context.Background())
	require.NoError(b, err)
	defer conn.Release()
	_, err = conn.Exec(b.Context(), "SET statement_timeout = 0")
	require.NoError(b, err)
	_, err = conn.Exec(b.Context(), sql, args...)
	require.NoError(b, err, sql)
	_, err = conn.Exec(b.Context(), "RESET statement_timeout")
	require.NoError(b, err)
}
