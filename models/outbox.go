package models

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/pacing"
	"kurir/webhook"
)

// Claimed is a message that a lane's holder is to send now.
type Claimed struct {
	Message
	Fresh  bool // never tried before; otherwise it may have gone out already
	Parked bool // it waited for the caps on new chats
	Begun  bool // something was sent to its chat before
	Heard  bool // somebody there wrote once
	Warm   bool // and within pacing.WarmFor
	order  [2]int64
}

// Claim is what a holder finds in a lane.
type Claim struct {
	Held      bool // false: another runner has the lane
	Connected bool // false: the session is not connected, nothing is claimed
	Paused    bool // true: its owner or an administrator stopped it, nothing is claimed
	SessionID string
	UserID    uuid.UUID
	Epoch     int64
	WorkerID  string
	Guard     Guard
	Messages  []Claimed
}

// claimSQL marks the next due messages of a lane as SENDING under the holder's generation, in the order in which
// they are to go out: what an earlier generation or attempt left unsettled first, then what was never tried. A chat
// with a message that is backing off or held is passed over; the others go on. It finds nothing in a guarded lane.
var claimSQL = `
WITH lane AS (
	SELECT l.id FROM lanes l JOIN sessions s ON s.uid = l.id WHERE l.id = $1 AND l.generation = $2 AND ` + connectedLane + ` AND NOT ` + guardedSession("$4") + `
), due AS (
	(SELECT c.id, c.chat, c.seq, 0 AS class FROM messages c JOIN lane ON c.session_uid = lane.id
	 WHERE ` + unsettledMessage + ` ORDER BY c.seq LIMIT $3)
	UNION ALL
	(SELECT c.id, c.chat, c.seq, 1 FROM messages c JOIN lane ON c.session_uid = lane.id
	 WHERE ` + freeMessage + ` AND NOT ` + blockedMessage + ` ORDER BY c.seq LIMIT $3)
), pick AS (
	SELECT id, chat, seq, class, seq AS rank, false AS parked FROM due ORDER BY class, seq LIMIT $3
)` + claimPicked

// claimPicked ends both claims. A claim may have waited for one of an earlier generation: what it then gets was claimed
// before, and so has an attempt; one that comes too late gets nothing. A row that was held meanwhile is left alone.
const claimPicked = `
UPDATE messages m SET status = 'SENDING', generation = $2, next_attempt_at = NULL, waiting_for = NULL, updated_at = now(),
	attempts = m.attempts + CASE WHEN m.status = 'SENDING' AND m.next_attempt_at IS NULL THEN 1 ELSE 0 END,
	from_number = s.phone_number
FROM sessions s, pick p LEFT JOIN chats h ON h.session_uid = $1 AND h.chat = p.chat
WHERE m.session_uid = $1 AND m.id = p.id AND s.uid = $1
  AND (m.status = 'PENDING' AND m.generation <= $2 AND (m.next_attempt_at IS NULL OR p.parked)
    OR m.status = 'SENDING' AND (m.generation < $2 OR m.next_attempt_at <= now()))
RETURNING p.class > 0 AND m.attempts = 0, p.parked, h.first_sent_at IS NOT NULL, h.last_received_at IS NOT NULL,
	coalesce(h.last_received_at > now() - interval '24 hours', false), p.class, p.rank, ` + messageColumns + `
`

// messageColumns and scanMessage go together.
const messageColumns = `m.id, m.session_uid, m.direction, m.seq, m.chat, m.from_number, m.from_lid, m.from_name, m.from_me,
	m.to_number, m.message_type, m.content, m.media_url, m.filename, m.caption,
	m.media_id, m.media, m.details, m.target_id, m.priority, m.waiting_for, m.edited_at, m.deleted_at, m.reactions, m.status, m.error_code, m.error_message, m.whatsapp_id,
	m.generation, m.attempts, m.next_attempt_at, m.send_at, m.expires_at, m.metadata, m.sent_at, m.delivered_at, m.read_at,
	m.finished_at, m.trace, m.created_at, m.updated_at`

func scanMessage(m *Message, before ...any) []any {
	return append(before, &m.ID, &m.SessionUID, &m.Direction, &m.Seq, &m.Chat, &m.FromNumber, &m.FromLID, &m.FromName, &m.FromMe,
		&m.ToNumber, &m.MessageType, &m.Content, &m.MediaURL, &m.Filename, &m.Caption,
		&m.MediaID, &m.Media, &m.Details, &m.TargetID, &m.Priority, &m.WaitingFor, &m.EditedAt, &m.DeletedAt, &m.Reactions, &m.Status, &m.ErrorCode, &m.ErrorMessage, &m.WhatsappID,
		&m.Generation, &m.Attempts, &m.NextAttemptAt, &m.SendAt, &m.ExpiresAt, &m.Metadata, &m.SentAt, &m.DeliveredAt, &m.ReadAt,
		&m.FinishedAt, &m.Trace, &m.CreatedAt, &m.UpdatedAt)
}

// ClaimMessages claims up to limit messages. The statements run in one transaction and one round trip, without locking
// the lane, so that accepts are not held up. The order makes that safe: next_seq is read before the claim, so that the
// release notices whatever the claim did not see, and the generation once more after it: if that is still ours, no
// other runner had taken the lane when we claimed, and whoever takes it later finds our claims.
//
// Whether the lane is guarded is learned with the first claim, which then is made anew, and kept in the hold.
func ClaimMessages(ctx context.Context, q Batcher, h *Hold, limit int) (*Claim, error) {
	c, guarded, err := claimMessages(ctx, q, h, limit)
	if err != nil {
		return nil, fmt.Errorf("claim messages of %s: %w", h.Lane, err)
	}
	again := guarded && !h.Guarded && len(c.Messages) == 0 && c.Held && c.Connected
	h.Guarded, h.OneByOne = guarded, c.Guard.Pace.Rate > 0
	if again {
		if c, h.Guarded, err = claimMessages(ctx, q, h, limit); err != nil {
			return nil, fmt.Errorf("claim messages of %s: %w", h.Lane, err)
		}
	}
	return c, nil
}

func claimMessages(ctx context.Context, q Batcher, h *Hold, limit int) (c *Claim, guarded bool, err error) {
	c = &Claim{}
	var b pgx.Batch
	b.Queue(`SELECT next_seq FROM lanes WHERE id = $1 AND generation = $2`, h.Lane, h.Generation).QueryRow(func(row pgx.Row) error {
		_, err := Found(row.Scan(&h.NextSeq))
		return err
	})
	take, args := claimSQL, []any{h.Lane, h.Generation, limit, pacing.GentleEngines()}
	if h.Guarded {
		take, args = claimGuarded, args[:3]
	}
	if h.OneByOne {
		args[2] = min(limit, 1)
	}
	b.Queue(take, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var m Claimed
			if err := rows.Scan(scanMessage(&m.Message, &m.Fresh, &m.Parked, &m.Begun, &m.Heard, &m.Warm, &m.order[0], &m.order[1])...); err != nil {
				return err
			}
			c.Messages = append(c.Messages, m)
		}
		return rows.Err()
	})
	b.Queue(lookSQL, h.Lane, h.Generation, pacing.GentleEngines()).QueryRow(func(row pgx.Row) (err error) {
		guarded, err = c.look(row)
		return err
	})
	if err := q.SendBatch(ctx, &b).Close(); err != nil {
		return nil, false, err
	}
	sortClaimed(c.Messages)
	return c, guarded, nil
}

// sortClaimed restores the order of the claim, which RETURNING does not keep.
func sortClaimed(list []Claimed) {
	slices.SortFunc(list, func(a, b Claimed) int {
		return cmp.Or(cmp.Compare(a.order[0], b.order[0]), cmp.Compare(a.order[1], b.order[1]), cmp.Compare(a.Seq, b.Seq))
	})
}

// Outcome is what became of a claimed message.
type Outcome struct {
	Message       *Message
	Status        string     // PENDING: put back, nothing was sent; SENDING: in doubt or to be tried again, at NextAttemptAt
	Code, Error   string     // of a failure, or of a try that came to nothing
	NextAttemptAt *time.Time // with SENDING; with PENDING: held until then
	WaitingFor    string     // why it is held
	Tried         bool       // counts as an attempt without final outcome
	At            time.Time  // when it was sent or ended
}

// KeepError has a message that goes on waiting tell still why its last try came to nothing.
func (o *Outcome) KeepError() {
	if m := o.Message; o.Code == "" && m.ErrorCode != nil && m.ErrorMessage != nil && !Final(o.Status) {
		o.Code, o.Error = *m.ErrorCode, *m.ErrorMessage
	}
}

// eventOf is the event that tells of a final status.
var eventOf = map[string]string{
	MessageSent: "message.sent", MessageDelivered: "message.delivered", MessageRead: "message.read", MessageFailed: "message.failed",
	MessageUnknown: "message.unknown", MessageExpired: "message.expired", MessageCancelled: "message.cancelled",
}

// settleSQL writes outcomes back, each on the condition that the message is still claimed under the holder's generation: a
// receipt may have overtaken us, or a new holder. A message that is locked at this moment is passed over: mostly a receipt
// has it in hand, which knows better. If it comes to nothing, or it was a cancel that came too late, the message stays SENDING:
// the holder has to give the lane back, so that the next one sends it again, under the same WhatsApp ID, before what is
// behind it in its chat.
const settleSQL = `
WITH o AS (
	SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::int[], $8::timestamptz[],
		$9::uuid[], $10::text[], $11::jsonb[], $13::text[], $14::text[])
	WITH ORDINALITY AS t (id, status, code, error, next_attempt_at, tried, at, event_id, type, data, waiting_for, trace, ord)
), locked_rows AS (
	SELECT m.id FROM messages m WHERE m.session_uid = $1 AND m.id = ANY($2::uuid[]) AND m.status = 'SENDING' AND m.generation = $12 ORDER BY m.id FOR UPDATE SKIP LOCKED
), done AS (
	UPDATE messages m SET status = o.status, error_code = nullif(o.code, ''), error_message = nullif(o.error, ''),
		next_attempt_at = o.next_attempt_at, waiting_for = nullif(o.waiting_for, ''), attempts = m.attempts + o.tried, updated_at = now(),
		sent_at = CASE WHEN o.status = 'SENT' THEN o.at ELSE m.sent_at END,
		finished_at = CASE WHEN o.status IN ('FAILED', 'UNKNOWN', 'EXPIRED') THEN o.at ELSE m.finished_at END
	FROM o JOIN locked_rows k ON k.id = o.id
	WHERE m.session_uid = $1 AND m.id = o.id AND m.status = 'SENDING' AND m.generation = $12
	RETURNING m.id
)`

// settleEmit goes with settleSQL, where nothing else has to be told with the outcomes. It answers the webhooks to wake and
// the messages that were written.
const settleEmit = `, ev AS (
	SELECT o.event_id AS id, $1::uuid AS session_uid, o.type, o.data, o.at, o.trace, o.ord FROM o JOIN done d ON d.id = o.id WHERE o.type <> ''
), ` + emit + ` UNION ALL SELECT id FROM done`

// leftSQL says whether messages that a holder claimed are neither settled nor put off.
const leftSQL = `SELECT EXISTS (SELECT 1 FROM messages m WHERE m.session_uid = $1 AND ` + claimedOnes + ` AND m.generation = $2 AND m.next_attempt_at IS NULL AND m.id = ANY($3))`

// Settlement is what a round of a lane's holder came to.
type Settlement struct {
	Outcomes []Outcome
	Begun    []string      // chats to which something went out for the first time, or may have
	Pace     *pacing.State // where the session stands now
}

// Settle writes the outcomes of claimed messages with their events and with what else the round changed, in one transaction
// and, unless messages are about others, one round trip. It returns the webhooks to wake. left: some message was locked, and
// is not settled. The holder must send nothing more then, and give the lane back.
func Settle(ctx context.Context, db *DB, h Hold, sessionID string, s Settlement) (woken []uuid.UUID, left bool, err error) {
	var done []uuid.UUID
	if takesEffect(s.Outcomes) {
		woken, done, err = settleWithTargets(ctx, db, h, sessionID, s)
	} else {
		err = retryDeadlock(func() error {
			ids, err := settle(ctx, db.Pool, settleSQL+settleEmit, h, sessionID, s)
			done, woken = s.part(ids)
			return err
		})
	}
	if err == nil && len(done) < len(s.Outcomes) { // mostly since receipts came first
		err = db.Pool.QueryRow(ctx, leftSQL, h.Lane, h.Generation, s.ids()).Scan(&left)
	}
	if err != nil {
		return nil, false, fmt.Errorf("settle messages of %s: %w", h.Lane, err)
	}
	return woken, left, nil
}

func (s *Settlement) ids() []uuid.UUID {
	ids := make([]uuid.UUID, len(s.Outcomes))
	for i := range s.Outcomes {
		ids[i] = s.Outcomes[i].Message.ID
	}
	return ids
}

// part tells its messages from webhooks.
func (s *Settlement) part(ids []uuid.UUID) (messages, webhooks []uuid.UUID) {
	all := s.ids()
	for _, id := range ids {
		if slices.Contains(all, id) {
			messages = append(messages, id)
		} else {
			webhooks = append(webhooks, id)
		}
	}
	return messages, webhooks
}

// settle runs a statement that begins as settleSQL and answers IDs, with what else the round changed before it.
func settle(ctx context.Context, q Batcher, query string, h Hold, sessionID string, s Settlement) (ids []uuid.UUID, err error) {
	var b pgx.Batch
	if s.Pace != nil {
		queuePace(&b, h.Lane, *s.Pace)
	}
	queueBegun(&b, h.Lane, s.Begun)
	if err := queueOutcomes(&b, query, h, sessionID, s.Outcomes, &ids); err != nil || b.Len() == 0 {
		return nil, err
	}
	return ids, q.SendBatch(ctx, &b).Close()
}

func queueOutcomes(b *pgx.Batch, query string, h Hold, sessionID string, outcomes []Outcome, answer *[]uuid.UUID) error {
	n := len(outcomes)
	if n == 0 {
		return nil
	}
	ids, status, codes, errs, waiting := make([]uuid.UUID, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	next, tried, at := make([]*time.Time, n), make([]int32, n), make([]time.Time, n)
	eventIDs, types, data := make([]uuid.UUID, n), make([]string, n), make([]string, n)
	var traces rare[string]
	for i := range outcomes {
		o := &outcomes[i]
		// A worker's words may hold what PostgreSQL refuses, and the outcomes of the others with it.
		o.Code, o.Error = strings.ReplaceAll(o.Code, "\x00", ""), strings.ReplaceAll(o.Error, "\x00", "")
		ids[i], status[i], codes[i], errs[i], next[i], at[i] = o.Message.ID, o.Status, o.Code, o.Error, o.NextAttemptAt, o.At
		waiting[i] = o.WaitingFor
		if o.Tried {
			tried[i] = 1
		}
		eventIDs[i], types[i], data[i] = NewID(), eventOf[o.Status], "null"
		if types[i] != "" {
			body, err := json.Marshal(o.resource(sessionID))
			if err != nil {
				return err
			}
			data[i] = string(body)
			traces.set(i, o.Message.Trace)
		}
	}
	b.Queue(query, h.Lane, ids, status, codes, errs, next, tried, at, eventIDs, types, data, h.Generation, waiting, traces.list).Query(func(rows pgx.Rows) (err error) {
		*answer, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		return err
	})
	return nil
}

// resource is the message as it is with this outcome.
func (o *Outcome) resource(sessionID string) webhook.Message {
	m := o.message()
	return m.Resource(sessionID)
}

func (o *Outcome) message() Message {
	m := *o.Message
	m.Status = o.Status
	if o.Status == MessageSent {
		m.SentAt = &o.At
	} else {
		m.FinishedAt = &o.At
	}
	if m.ErrorCode, m.ErrorMessage = nil, nil; o.Code != "" {
		m.ErrorCode, m.ErrorMessage = &o.Code, &o.Error
	}
	if o.Tried {
		m.Attempts++
	}
	return m
}

// What ExpireMessages ends: messages that were never tried, and those in doubt that no lane will end, since their
// session is not connected or cools down, and nobody has them in hand.
const (
	latePending = `SELECT id, session_uid, next_attempt_at IS NOT NULL AS held FROM messages WHERE coalesce(status, '') = 'PENDING' AND expires_at <= now() ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`
	lateSending = `SELECT m.id, m.session_uid, m.next_attempt_at IS NOT NULL AS held FROM messages m JOIN lanes l ON l.id = m.session_uid
		WHERE m.status = 'SENDING' AND m.expires_at <= now() AND NOT coalesce(` + liveHolder + `, false)
		  AND (NOT ` + connectedLane + ` OR EXISTS (SELECT 1 FROM sessions c WHERE c.uid = m.session_uid AND c.cooldown_until > now()))
		ORDER BY m.id LIMIT $1 FOR UPDATE OF m SKIP LOCKED`
)

// ExpireMessages ends messages whose time is over and that no lane will end, and returns how many and which webhooks to
// wake.
func ExpireMessages(ctx context.Context, tx pgx.Tx, limit int) (int, []uuid.UUID, error) {
	events, blocking, err := expireMessages(ctx, tx, latePending, limit)
	if err != nil {
		return 0, nil, err
	}
	doubts, more, err := expireMessages(ctx, tx, lateSending, limit)
	if err != nil {
		return 0, nil, err
	}
	events = append(events, doubts...)
	if err := LanesDue(ctx, tx, append(blocking, more...)); err != nil {
		return 0, nil, err
	}
	woken, err := Emit(ctx, tx, events)
	return len(events), woken, err
}

// LanesDue makes the lanes of sessions due at once: something that blocked a chat is gone, a held message that was cancelled for
// example. It locks them, after the messages and before Emit locks the lanes of webhooks, as ingest does.
func LanesDue(ctx context.Context, q Querier, sessions []uuid.UUID) error {
	if len(sessions) == 0 {
		return nil
	}
	_, err := q.Exec(ctx, `UPDATE lanes l SET next_due_at = least(l.next_due_at, now())
		FROM (SELECT id FROM lanes WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE) locked WHERE l.id = locked.id`, sessions)
	return err
}

// expireMessages returns the events, and the sessions of messages that were held or backed off.
func expireMessages(ctx context.Context, tx pgx.Tx, late string, limit int) (events []Event, blocking []uuid.UUID, err error) {
	rows, err := tx.Query(ctx, `WITH late AS (`+late+`)
		UPDATE messages m SET finished_at = now(), updated_at = now(), next_attempt_at = NULL, waiting_for = NULL,
			status = CASE m.status WHEN 'PENDING' THEN 'EXPIRED' ELSE 'UNKNOWN' END,
			error_code = CASE m.status WHEN 'PENDING' THEN 'expired' ELSE 'outcome_unknown' END,
			error_message = CASE m.status WHEN 'PENDING' THEN 'The message could not be sent before it expired.'
				ELSE 'The worker never said whether the message went out.' END
		FROM late, sessions s WHERE m.id = late.id AND m.session_uid = late.session_uid AND s.uid = late.session_uid AND m.status IN ('PENDING', 'SENDING')
		RETURNING s.id, late.held, `+messageColumns, limit)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m Message
		var session string
		var held bool
		if err := rows.Scan(scanMessage(&m, &session, &held)...); err != nil {
			return nil, nil, err
		}
		if held {
			blocking = append(blocking, m.SessionUID)
		}
		events = append(events, Event{Session: m.SessionUID, Type: eventOf[m.Status], Data: m.Resource(session), At: *m.FinishedAt, Trace: m.Trace})
	}
	return events, blocking, rows.Err()
}
