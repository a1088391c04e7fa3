package models

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/pacing"
)

// heard is what an incoming message says of a chat.
type heard struct {
	session          uuid.UUID
	chat             string
	phone, lid, name *string
	received, sent   *time.Time // one of them
}

// hearSQL notes who wrote. A row is written only if that says something new, and a minute at the earliest after it was written last:
// a conversation costs no write per message. It answers the chats of which something new is known.
const hearSQL = `
WITH input AS (
	SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::timestamptz[])
	WITH ORDINALITY AS t (session_uid, chat, phone, lid, name, received, sent, ord)
)
INSERT INTO chats AS c (session_uid, chat, phone, lid, name, last_received_at, first_sent_at)
SELECT session_uid, chat, phone, lid, name, received, sent FROM input ORDER BY ord
ON CONFLICT (session_uid, chat) DO UPDATE SET phone = coalesce(excluded.phone, c.phone), lid = coalesce(excluded.lid, c.lid),
	name = coalesce(excluded.name, c.name), last_received_at = greatest(c.last_received_at, excluded.last_received_at),
	first_sent_at = least(c.first_sent_at, excluded.first_sent_at), updated_at = now()
WHERE excluded.last_received_at > coalesce(c.last_received_at, '-infinity') + interval '1 minute'
   OR excluded.first_sent_at IS NOT NULL AND c.first_sent_at IS NULL
   OR excluded.phone <> coalesce(c.phone, '') OR excluded.lid <> coalesce(c.lid, '') OR excluded.name <> coalesce(c.name, '')
RETURNING session_uid, chat`

// freeSQL lets go of what the caps on new chats held for such chats: whoever wrote may be answered whatever they say, and in a
// cool-down. It answers the sessions whose lanes have work by that. It is a statement of its own, behind the one that noted
// the chats, so that it sees what was parked while that waited. Its first condition on the status is that of the index messages_held.
const freeSQL = `
WITH parked AS MATERIALIZED (
	SELECT m.id FROM unnest($1::uuid[], $2::text[]) AS t (session_uid, chat) CROSS JOIN LATERAL (
		SELECT id FROM messages WHERE session_uid = t.session_uid AND chat = t.chat AND next_attempt_at IS NOT NULL AND status IN ('PENDING', 'SENDING')
			AND status = 'PENDING' AND waiting_for = 'new_chat_limit' OFFSET 0) m
), freed AS (
	UPDATE messages m SET waiting_for = NULL, next_attempt_at = NULL FROM parked p
	WHERE m.id = ANY(ARRAY[p.id]) AND m.status || '' = 'PENDING' AND m.waiting_for || '' = 'new_chat_limit' AND m.next_attempt_at IS NOT NULL
	RETURNING m.session_uid
)
SELECT session_uid FROM freed
UNION SELECT s.uid FROM sessions s WHERE s.uid = ANY($1) AND s.cooldown_until > now()`

// hear notes the chats of messages that came in, and who may be answered now: their lanes are made due with the end of the batch.
func (g *ingestion) hear(ctx context.Context, rows []*Message) error {
	list := heardIn(rows, g.now)
	if len(list) == 0 {
		return nil
	}
	n := len(list)
	sessions, chats := make([]uuid.UUID, n), make([]string, n)
	phones, lids, names := make([]*string, n), make([]*string, n), make([]*string, n)
	received, sent := make([]*time.Time, n), make([]*time.Time, n)
	for i, h := range list {
		sessions[i], chats[i], phones[i], lids[i], names[i], received[i], sent[i] = h.session, h.chat, h.phone, h.lid, h.name, h.received, h.sent
	}
	news, err := g.tx.Query(ctx, hearSQL, sessions, chats, phones, lids, names, received, sent)
	if err != nil {
		return err
	}
	sessions, chats = sessions[:0], chats[:0]
	var session uuid.UUID
	var chat string
	if _, err = pgx.ForEachRow(news, []any{&session, &chat}, func() error {
		sessions, chats = append(sessions, session), append(chats, chat)
		return nil
	}); err != nil || len(chats) == 0 {
		return err
	}
	found, err := g.tx.Query(ctx, freeSQL, sessions, chats)
	if err != nil {
		return err
	}
	freed, err := pgx.CollectRows(found, pgx.RowTo[uuid.UUID])
	g.freed = append(g.freed, freed...)
	return err
}

// heardIn lists the chats of messages, in the order in which they are locked. Somebody who is known by number and by LID can be
// written to under both, so both are noted.
func heardIn(rows []*Message, now time.Time) []heard {
	seen := map[string]int{}
	var list []heard
	add := func(h heard) {
		key := h.session.String() + h.chat
		i, known := seen[key]
		if !known {
			seen[key] = len(list)
			list = append(list, h)
			return
		}
		was := &list[i]
		was.received, was.sent = latest(was.received, h.received), cmp.Or(was.sent, h.sent)
		was.phone, was.lid, was.name = cmp.Or(h.phone, was.phone), cmp.Or(h.lid, was.lid), cmp.Or(h.name, was.name)
	}
	for _, m := range rows {
		at := m.CreatedAt
		if at.After(now) { // a network's clock must not make a chat warm for longer
			at = now
		}
		h := heard{session: m.SessionUID, chat: m.Chat, received: &at}
		if m.FromMe {
			h.received, h.sent = nil, &at
			add(h)
			continue
		}
		if pacing.Shared(m.Chat) {
			add(h)
			continue
		}
		h.phone, h.lid, h.name = m.FromNumber, m.FromLID, m.FromName
		add(h)
		if m.FromNumber != nil {
			h.chat = strings.TrimPrefix(*m.FromNumber, "+") + "@s.whatsapp.net"
			add(h)
		}
		if m.FromLID != nil {
			h.chat = strings.TrimSuffix(*m.FromLID, "@lid") + "@lid"
			add(h)
		}
	}
	slices.SortFunc(list, func(a, b heard) int {
		return cmp.Or(slices.Compare(a.session[:], b.session[:]), strings.Compare(a.chat, b.chat))
	})
	return list
}

func latest(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// queueBegun notes chats to which something went out for the first time. What else was parked for them is held no longer.
func queueBegun(b *pgx.Batch, list []Settlement) {
	var sessions []uuid.UUID
	var chats []string
	for _, s := range list {
		for _, chat := range slices.Compact(slices.Sorted(slices.Values(s.Begun))) {
			sessions, chats = append(sessions, s.Hold.Lane), append(chats, chat)
		}
	}
	if len(chats) == 0 {
		return
	}
	b.Queue(`INSERT INTO chats AS c (session_uid, chat, first_sent_at) SELECT session_uid, chat, now() FROM unnest($1::uuid[], $2::text[]) AS t (session_uid, chat)
		ON CONFLICT (session_uid, chat) DO UPDATE SET first_sent_at = now(), updated_at = now() WHERE c.first_sent_at IS NULL`, sessions, chats)
	b.Queue(`UPDATE messages m SET waiting_for = NULL, next_attempt_at = NULL FROM unnest($1::uuid[], $2::text[]) AS t (session_uid, chat)
		WHERE m.session_uid = t.session_uid AND m.chat = t.chat
		AND m.status = 'PENDING' AND m.waiting_for = 'new_chat_limit' AND m.next_attempt_at IS NOT NULL`, sessions, chats)
}

// knownChat says that somebody was written to before, or wrote; c is a message to him.
const knownChat = `EXISTS (SELECT 1 FROM chats h WHERE h.session_uid = $1 AND h.chat = c.chat
	AND (h.first_sent_at IS NOT NULL OR h.last_received_at IS NOT NULL))`

// ParkStrangers holds what is due to people who never wrote and were never written to, while the caps on new chats are used up: a
// lane that would claim and put back each of them would do nothing else. It returns which it found; each is parked once, until
// its chat is begun or heard from, or its time is over.
func ParkStrangers(ctx context.Context, q Querier, h Hold, limit int) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `WITH strangers AS (
			SELECT c.id FROM messages c JOIN lanes l ON l.id = c.session_uid AND l.generation = $2
			WHERE `+freeMessage+` AND NOT `+knownChat+`
			  AND c.chat NOT LIKE '%@g.us' AND c.chat NOT LIKE '%@newsletter' AND c.chat NOT LIKE '%@broadcast'
			ORDER BY c.seq LIMIT $3 FOR NO KEY UPDATE OF c SKIP LOCKED
		) UPDATE messages m SET waiting_for = 'new_chat_limit', next_attempt_at = coalesce(m.expires_at, now() + interval '1 day'), updated_at = now()
		FROM strangers s WHERE m.session_uid = $1 AND m.id = s.id AND m.status = 'PENDING' AND m.next_attempt_at IS NULL RETURNING m.id`, h.Lane, h.Generation, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// UnparkKnown lets go of those of a session's messages that are parked to somebody whom it knows by now. Somebody may write
// while his message is being parked, and find nothing to let go of; so whoever has parked looks again.
func UnparkKnown(ctx context.Context, q Querier, session uuid.UUID, parked []uuid.UUID) error {
	if len(parked) == 0 {
		return nil
	}
	tag, err := q.Exec(ctx, `UPDATE messages c SET waiting_for = NULL, next_attempt_at = NULL
		WHERE c.session_uid = $1 AND c.id = ANY($2) AND `+parkedMessage+` AND `+knownChat, session, parked)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	return LanesDue(ctx, q, []uuid.UUID{session})
}
