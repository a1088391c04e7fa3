package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"kurir/models"
)

const (
	historyMonths = 4
	historyBatch  = 250_000 // rows in one statement
)

// past is the time that the history covers.
type past struct{ first, last time.Time }

// at is a moment of it; 0 is its beginning, 1 its end.
func (p past) at(part float64) time.Time {
	return p.first.Add(time.Duration(part * float64(p.last.Sub(p.first))))
}

// fill gives the sessions a history of n messages over four months: a tenth of them the first one's, a third came in, one in 2,000
// has failed, one in 1,000 is an image; 500 chats in the first session and 50 in the others. Words follow a curve: w0 is in every
// second message, w40000 in one of some thousands; rare1 is in ten of the first session's oldest. The indexes of words are made when
// all is there, which takes a quarter of the time. More sessions, by their uids, get their part.
func (r *rig) fill(ctx context.Context, n int, more ...string) (p past, err error) {
	conn, err := pgx.Connect(ctx, r.servers.DatabaseURL)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	now := time.Now().UTC()
	p.first, p.last = time.Date(now.Year(), now.Month()+1-historyMonths, 1, 0, 0, 0, 0, time.UTC), now.Add(-time.Hour)
	if err := openMonths(ctx, conn, p.first); err != nil {
		return p, err
	}
	uids := make([]string, len(r.phones), len(r.phones)+len(more))
	for i, s := range r.phones {
		uids[i] = s.uid
	}
	uids = append(uids, more...)
	for _, sql := range []string{`ALTER TABLE messages DISABLE TRIGGER messages_indexed`, `DROP INDEX message_index_words`} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return p, err
		}
	}
	for from := 0; from < n; from += historyBatch {
		if _, err := conn.Exec(ctx, fillSQL, from, min(from+historyBatch, n), p.first, uids, p.last.Sub(p.first), n, len(uids)); err != nil {
			return p, fmt.Errorf("fill: %w", err)
		}
		r.say("history: %d of %d messages", min(from+historyBatch, n), n)
	}
	return p, finish(ctx, conn)
}

// openMonths makes the partitions of the past, which a new installation keeps in one.
func openMonths(ctx context.Context, conn *pgx.Conn, first time.Time) error {
	for _, parent := range []string{"message_index", "messages"} {
		statements := []string{"DROP TABLE " + parent + "_old"}
		for m := range historyMonths - 1 {
			statements = append(statements, fmt.Sprintf("SELECT kurir_add_month('%s', '%s'::date)", parent, first.AddDate(0, m, 0).Format(time.DateOnly)))
		}
		statements = append(statements, fmt.Sprintf("CREATE TABLE %s_old PARTITION OF %s FOR VALUES FROM (MINVALUE) TO ('%s')", parent, parent, models.LowestID(first)))
		for _, sql := range statements {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
	}
	return nil
}

const fillSQL = `INSERT INTO messages (id, session_uid, direction, seq, chat, from_number, to_number, message_type, content, status, whatsapp_id, sent_at, created_at)
	SELECT overlay(kurir_uuid_from(at)::text PLACING '7' || lpad(to_hex(g & 4095), 3, '0') || '-8' || lpad(to_hex(g >> 12), 3, '0') || '-' || lpad(to_hex(g), 12, '0') FROM 15)::uuid, s,
		CASE WHEN g % 3 = 0 THEN 'INBOUND' ELSE 'OUTBOUND' END, CASE WHEN g % 3 = 0 THEN 0 ELSE g END,
		chat || CASE WHEN g % 50 = 7 THEN '@g.us' ELSE '@s.whatsapp.net' END, CASE WHEN g % 3 = 0 THEN '+' || chat END, chat || '@s.whatsapp.net',
		CASE WHEN g / 10 % 1000 = 501 THEN 'IMAGE' ELSE 'TEXT' END,
		concat_ws(' ', 'hello', CASE WHEN g % 2 = 0 THEN 'w0' END, 'w' || (40000 * random() ^ 4)::int, 'w' || (40000 * random() ^ 3)::int, 'w' || (40000 * random() ^ 2)::int,
			'w' || (40000 * random())::int, 'order', g, CASE WHEN s = ($4::uuid[])[1] AND g < 100 THEN 'rare1' END),
		CASE WHEN g / 10 % 2000 = 11 THEN 'FAILED' WHEN g % 3 = 0 THEN 'DELIVERED' ELSE 'READ' END, 'B' || g, at, at
	FROM (SELECT g, $3::timestamptz + $5::interval * (g::float8 / $6::float8) AS at,
		CASE WHEN g % 10 = 0 THEN ($4::uuid[])[1] ELSE ($4::uuid[])[2 + (g * 7919) % ($7::int8 - 1)] END AS s,
		(628000000000 + CASE WHEN g % 10 = 0 THEN g / 10 % 500 ELSE g / 10 % 50 END)::text AS chat FROM generate_series($1::int8, $2::int8 - 1) g) r`

// finish makes what hangs on the messages.
func finish(ctx context.Context, conn *pgx.Conn) error {
	for _, sql := range []string{
		`INSERT INTO message_index (id, session_uid, chat, todo, document)
			SELECT id, session_uid, chat, false, kurir_document(session_uid, message_type, content, caption, filename, deleted_at) FROM messages ON CONFLICT DO NOTHING`,
		`SET maintenance_work_mem = '512MB'`,
		`CREATE INDEX message_index_words ON message_index USING gin (document) WITH (fastupdate = on, gin_pending_list_limit = 256)`,
		`ALTER TABLE messages ENABLE TRIGGER messages_indexed`,
		`VACUUM ANALYZE messages`, `VACUUM ANALYZE message_index`, `CHECKPOINT`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%.40s: %w", sql, err)
		}
	}
	return nil
}
