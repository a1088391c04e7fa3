package models

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Person is somebody whose data are to be deleted from a session, under every name that the session knows.
type Person struct {
	Chats  []string // JIDs
	Phones []string // with a leading +
	LIDs   []string // with and without their server
}

// PersonOf finds the names of whoever is behind an address.
func PersonOf(ctx context.Context, q Querier, session uuid.UUID, address string) (*Person, error) {
	p := &Person{}
	p.add(address)
	rows, err := q.Query(ctx, `SELECT chat, coalesce(phone, ''), coalesce(lid, '') FROM chats
		WHERE session_uid = $1 AND (chat = ANY($2) OR phone = ANY($3) OR lid = ANY($4))`, session, p.Chats, append(p.Phones, trimPlus(p.Phones)...), p.LIDs)
	if err != nil {
		return nil, err
	}
	var chat, phone, lid string
	_, err = pgx.ForEachRow(rows, []any{&chat, &phone, &lid}, func() error {
		p.add(chat)
		if phone != "" {
			p.add(strings.TrimPrefix(phone, "+") + "@s.whatsapp.net")
		}
		if lid != "" {
			p.add(strings.TrimSuffix(lid, "@lid") + "@lid")
		}
		return nil
	})
	return p, err
}

func (p *Person) add(jid string) {
	p.Chats = append(p.Chats, jid)
	user, server, _ := strings.Cut(jid, "@")
	switch server {
	case "s.whatsapp.net":
		p.Phones = append(p.Phones, "+"+user)
	case "lid":
		p.LIDs = append(p.LIDs, jid, user)
	}
}

func trimPlus(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, strings.TrimPrefix(s, "+"))
	}
	return out
}

// CancelTo cancels up to limit of the messages that wait to go to a person and are older than an ID, and returns how many, and
// the webhooks to wake. One that is being claimed at this moment is passed over. What they held up in their chat, and is
// newer, is due.
func CancelTo(ctx context.Context, tx pgx.Tx, session uuid.UUID, p *Person, below uuid.UUID, limit int) (int, []Woken, error) {
	const his = ` AND m.chat = ANY($2) AND m.id < $3 LIMIT $4`
	rows, err := tx.Query(ctx, `WITH late AS (
			SELECT m.id FROM (`+waitingMessages("m.id", his)+`) w JOIN messages m ON m.id = w.id
			WHERE m.session_uid = $1 AND m.status = 'PENDING' ORDER BY m.id LIMIT $4 FOR UPDATE OF m SKIP LOCKED)
		UPDATE messages m SET status = 'CANCELLED', finished_at = now(), updated_at = now(), next_attempt_at = NULL, waiting_for = NULL,
			error_code = NULL, error_message = NULL
		FROM late, sessions s WHERE m.session_uid = $1 AND m.id = late.id AND m.status = 'PENDING' AND s.uid = $1
		RETURNING s.id, `+messageColumns, session, p.Chats, below, limit)
	if err != nil {
		return 0, nil, err
	}
	var events []Event
	for rows.Next() {
		var m Message
		var name string
		if err := rows.Scan(scanMessage(&m, &name)...); err != nil {
			rows.Close()
			return 0, nil, err
		}
		events = append(events, Event{Session: session, Type: eventOf[MessageCancelled], Data: m.Resource(name), At: *m.FinishedAt})
	}
	if err := rows.Err(); err != nil {
		return 0, nil, err
	}
	if len(events) > 0 {
		if err := LanesDue(ctx, tx, []uuid.UUID{session}); err != nil {
			return 0, nil, err
		}
	}
	woken, err := Emit(ctx, tx, events)
	return len(events), woken, err
}

// Unsettled says whether messages to a person that are older than an ID are still to be sent, or on their way.
func Unsettled(ctx context.Context, q Querier, session uuid.UUID, p *Person, below uuid.UUID) (waiting bool, err error) {
	const his = ` AND m.chat = ANY($2) AND m.id < $3 LIMIT 1`
	err = q.QueryRow(ctx, `SELECT EXISTS (`+unsettledMessages("1", his)+`)`, session, p.Chats, below).Scan(&waiting)
	return waiting, err
}

// Swept is what one step of a deletion did.
type Swept struct {
	Changed int
	Next    uuid.UUID // where to go on, downwards
	Done    bool
}

// sweepStep runs a statement that looks through rows below an ID, and answers how many it changed and the lowest that it saw.
func sweepStep(ctx context.Context, q Querier, what, sql string, args ...any) (Swept, error) {
	var s Swept
	var lowest *uuid.UUID
	if err := q.QueryRow(ctx, sql, args...).Scan(&s.Changed, &lowest); err != nil {
		return s, fmt.Errorf("forget %s: %w", what, err)
	}
	if s.Done = lowest == nil; !s.Done {
		s.Next = *lowest
	}
	return s, nil
}

// ForgetChat deletes settled messages of a conversation.
func ForgetChat(ctx context.Context, q Querier, session uuid.UUID, chat string, below uuid.UUID, limit int) (Swept, error) {
	return sweepStep(ctx, q, "a chat", `WITH seen AS (
			SELECT id FROM message_index WHERE session_uid = $1 AND chat = $2 AND id < $3 ORDER BY id DESC LIMIT $4
		), gone AS (
			DELETE FROM messages m USING seen WHERE m.session_uid = $1 AND m.id = seen.id AND m.status NOT IN ('PENDING', 'SENDING') RETURNING 1
		) SELECT (SELECT count(*) FROM gone), (SELECT id FROM seen ORDER BY id LIMIT 1)`, session, chat, below, limit)
}

// ForgetAuthor deletes what a person wrote in other conversations, and takes his reactions off messages that stay.
func ForgetAuthor(ctx context.Context, q Querier, session uuid.UUID, p *Person, below uuid.UUID, limit int) (Swept, error) {
	return sweepStep(ctx, q, "an author", `WITH seen AS (
			SELECT id, direction = 'INBOUND' AND NOT from_me AND (from_number = ANY($5) OR from_lid = ANY($6)) AS his,
				EXISTS (SELECT 1 FROM jsonb_array_elements(CASE jsonb_typeof(reactions) WHEN 'array' THEN reactions END) r WHERE r->>'from' = ANY($2)) AS marked
			FROM messages WHERE session_uid = $1 AND id < $3 ORDER BY id DESC LIMIT $4
		), gone AS (
			DELETE FROM messages m USING seen WHERE seen.his AND m.session_uid = $1 AND m.id = seen.id RETURNING 1
		), unmarked AS (
			UPDATE messages m SET reactions = (SELECT jsonb_agg(r) FROM jsonb_array_elements(m.reactions) r WHERE r->>'from' <> ALL($2))
			FROM seen WHERE seen.marked AND seen.his IS NOT TRUE AND m.session_uid = $1 AND m.id = seen.id RETURNING 1
		) SELECT (SELECT count(*) FROM gone), (SELECT id FROM seen ORDER BY id LIMIT 1)`,
		session, p.Chats, below, limit, p.Phones, p.LIDs)
}

// tellsOf is the condition that an event e is about a person, or shows a reaction of his, and of a time before the given one: of
// a message its own, of what else there is the event's. $2 to $5: JIDs, phones, LIDs, the ID that messages must lie below.
const tellsOf = `(e.data->>'chat' = ANY($2) OR e.data->>'from' = ANY($2) OR e.data#>>'{from,phone}' = ANY($3) AND e.data->>'fromMe' IS DISTINCT FROM 'true'
	AND e.data->>'direction' IS DISTINCT FROM 'outbound' OR e.data#>>'{from,lid}' = ANY($4) AND e.data->>'fromMe' IS DISTINCT FROM 'true'
	AND e.data->>'direction' IS DISTINCT FROM 'outbound'
	OR e.type = 'group.updated' AND (e.data->>'id' = ANY($2) OR e.data#>>'{by,phone}' = ANY($3) OR e.data#>>'{by,lid}' = ANY($4) OR EXISTS (
		SELECT 1 FROM jsonb_array_elements(CASE jsonb_typeof(e.data->'members') WHEN 'array' THEN e.data->'members' END) p WHERE p->>'phone' = ANY($3) OR p->>'lid' = ANY($4)))
	OR EXISTS (SELECT 1 FROM jsonb_array_elements(CASE jsonb_typeof(e.data->'reactions') WHEN 'array' THEN e.data->'reactions' END) r
		WHERE (r->>'from' = ANY($2) OR r#>>'{from,phone}' = ANY($3) OR r#>>'{from,lid}' = ANY($4)) AND r->>'fromMe' IS DISTINCT FROM 'true')
	OR (e.data#>>'{reaction,from,phone}' = ANY($3) OR e.data#>>'{reaction,from,lid}' = ANY($4)) AND e.data#>>'{reaction,fromMe}' IS DISTINCT FROM 'true')
	AND CASE WHEN e.type LIKE 'message.%' THEN e.data->>'id' ELSE e.id::text END COLLATE "C" < $5::text`

// ForgetAnswers removes what subscribers answered to events about a person. It goes first: afterwards nobody knows which they
// were. Deliveries are looked through by their webhook's sequence, downwards; next is where to go on, 0 at the end.
func ForgetAnswers(ctx context.Context, q Querier, session uuid.UUID, p *Person, messages uuid.UUID, webhook uuid.UUID, below int64, limit int) (next int64, err error) {
	err = q.QueryRow(ctx, `WITH seen AS (
			SELECT id, event_id, sequence FROM webhook_deliveries WHERE webhook_id = $6 AND sequence < $7 ORDER BY sequence DESC LIMIT $8
		), his AS (
			SELECT seen.id FROM seen JOIN events e ON e.id = seen.event_id WHERE e.session_uid = $1 AND `+tellsOf+`
		), answers AS (
			UPDATE webhook_deliveries d SET response_body = NULL FROM his WHERE d.id = his.id AND d.response_body IS NOT NULL RETURNING 1
		), attempts AS (
			UPDATE webhook_attempts a SET response_body = NULL FROM his WHERE a.delivery_id = his.id AND a.response_body IS NOT NULL RETURNING 1
		) SELECT coalesce((SELECT min(sequence) FROM seen), 0)`, session, p.Chats, p.Phones, p.LIDs, messages, webhook, below, limit).Scan(&next)
	return next, err
}

// ForgetEvents deletes events about a person, and says how many. Their deliveries stay, so that sequences have no gaps, without
// payload. Events are looked through by the transactions that wrote them, downwards and each as a whole; next is where to go
// on, 0 at the end.
func ForgetEvents(ctx context.Context, q Querier, session uuid.UUID, p *Person, messages uuid.UUID, below int64, limit int) (changed int, next int64, err error) {
	err = q.QueryRow(ctx, `WITH seen AS (
			SELECT id, xid FROM events WHERE session_uid = $1 AND xid < $6::bigint::text::xid8 ORDER BY xid DESC FETCH FIRST $7 ROWS WITH TIES
		), gone AS (
			DELETE FROM events e USING seen WHERE e.session_uid = $1 AND e.id = seen.id AND `+tellsOf+` RETURNING 1
		) SELECT (SELECT count(*) FROM gone), coalesce((SELECT min(xid::text::bigint) FROM seen), 0)`,
		session, p.Chats, p.Phones, p.LIDs, messages, below, limit).Scan(&changed, &next)
	if err != nil {
		return 0, 0, fmt.Errorf("forget events: %w", err)
	}
	return changed, next, nil
}

// ForgetPerson deletes what is known of the person beside messages.
func ForgetPerson(ctx context.Context, q Querier, session uuid.UUID, p *Person) error {
	_, err := q.Exec(ctx, `DELETE FROM chats WHERE session_uid = $1 AND chat = ANY($2)`, session, p.Chats)
	return err
}

// WebhooksOver lists the webhooks that hear of a session: its own, and its account's.
func WebhooksOver(ctx context.Context, q Querier, session uuid.UUID) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `SELECT id FROM webhooks WHERE session_uid = $1
		UNION ALL SELECT w.id FROM sessions s JOIN webhooks w ON w.user_id = s.user_id AND w.session_uid IS NULL WHERE s.uid = $1 ORDER BY id`, session)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// SaveStep notes, of a job's running attempt, where it stands: params for the next attempt, progress for its owner.
func SaveStep(ctx context.Context, q Querier, j *Job, params, progress any) error {
	to, err := json.Marshal(params)
	if err != nil {
		return err
	}
	shown, err := json.Marshal(progress)
	if err != nil {
		return err
	}
	_, err = q.Exec(ctx, `UPDATE jobs SET params = $2, progress = $3 WHERE id = $1 AND status = 'RUNNING' AND attempts = $4`, j.ID, to, shown, j.Attempts)
	return err
}

// LowestID is the lowest ID of an instant: what is below it is older.
func LowestID(at time.Time) uuid.UUID { return lowestID(at) }
