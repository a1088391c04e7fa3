package models

import (
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
// behind it in its chat. What was put back before such a message stays SENDING with it: it would be taken up later, and so be passed.
const settleSQL = `
WITH o AS (
	SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::int[], $8::timestamptz[],
		$9::uuid[], $10::text[], $11::jsonb[], $12::bigint[], $13::text[], $14::text[])
	WITH ORDINALITY AS t (lane, id, status, code, error, next_attempt_at, tried, at, event_id, type, data, generation, waiting_for, trace, ord)
), locked_rows AS (
	SELECT o.* FROM o CROSS JOIN LATERAL (
		SELECT FROM messages m WHERE m.id = o.id AND ` + stillClaimed + ` AND m.session_uid IS NOT DISTINCT FROM o.lane FOR UPDATE SKIP LOCKED) m
), done AS (
	UPDATE messages m SET status = o.status, error_code = nullif(o.code, ''), error_message = nullif(o.error, ''),
		next_attempt_at = o.next_attempt_at, waiting_for = nullif(o.waiting_for, ''), attempts = m.attempts + o.tried, updated_at = now(),
		sent_at = CASE WHEN o.status = 'SENT' THEN o.at ELSE m.sent_at END,
		finished_at = CASE WHEN o.status IN ('FAILED', 'UNKNOWN', 'EXPIRED') THEN o.at ELSE m.finished_at END
	FROM locked_rows o WHERE m.id = ANY(ARRAY[o.id]) AND ` + stillClaimed + `
	  AND NOT (o.status = 'PENDING' AND EXISTS (SELECT 1 FROM o x WHERE x.lane = o.lane AND x.ord > o.ord AND x.status = 'PENDING'
		AND x.id NOT IN (SELECT id FROM locked_rows)))
	RETURNING o.*
)`

// stillClaimed is written so that only the index of IDs fits, not those of what is under way; the second condition leaves out the months that
// are sealed.
const stillClaimed = `coalesce(m.status, '') = 'SENDING' AND m.status IN ('PENDING', 'SENDING') AND m.generation = o.generation`

// settleEmit goes with settleSQL, where nothing else has to be told with the outcomes. It answers the webhooks to wake and
// the messages that were written.
const settleEmit = `, ev AS (
	SELECT event_id AS id, lane AS session_uid, type, data, at, trace, ord FROM done WHERE type <> ''
), ` + emit + ` UNION ALL SELECT ` + settledOnes + ` FROM done`

// settledOnes are the messages that were written, in the place of webhooks to wake.
const settledOnes = `id, NULL::uuid, 0::bigint`

// leftSQL says whether messages that a holder claimed are neither settled nor put off.
const leftSQL = `SELECT EXISTS (SELECT 1 FROM messages m WHERE m.session_uid = $1 AND ` + claimedOnes + ` AND m.generation = $2 AND m.next_attempt_at IS NULL AND m.id = ANY($3))`

// Settlement is what a round of a lane's holder came to.
type Settlement struct {
	Hold      Hold
	SessionID string
	Outcomes  []Outcome
	Begun     []string      // chats to which something went out for the first time, or may have
	Pace      *pacing.State // where the session stands now
}

// Settled is what became of a settlement.
type Settled struct {
	Woken []Woken // webhooks to wake
	Left  bool    // some message was locked, and is not settled: the holder must send nothing more, and give the lane back
}

// Settle writes the outcomes of claimed messages with their events and with what else the round changed, in one transaction
// and, unless messages are about others, one round trip.
func Settle(ctx context.Context, db *DB, s Settlement) (Settled, error) {
	if takesEffect(s.Outcomes) {
		woken, done, err := settleWithTargets(ctx, db, s)
		if err != nil {
			return Settled{}, fmt.Errorf("settle messages of %s: %w", s.Hold.Lane, err)
		}
		left, err := s.left(ctx, db.Pool, done)
		return Settled{woken, left}, err
	}
	settled, err := SettlePlain(ctx, db, []Settlement{s})
	if err != nil {
		return Settled{}, err
	}
	return settled[0], nil
}

// Plain reports whether none of the messages is about another one.
func (s *Settlement) Plain() bool { return !takesEffect(s.Outcomes) }

// SettlePlain settles plain rounds of several lanes in one transaction, and answers each at its place. The webhooks of all are the
// first one's to wake.
func SettlePlain(ctx context.Context, db *DB, list []Settlement) ([]Settled, error) {
	settled := make([]Settled, len(list))
	var done []uuid.UUID
	err := retryDeadlock(func() error {
		answer, err := settle(ctx, db.Pool, settleSQL+settleEmit, list)
		done, settled[0].Woken = part(list, answer)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("settle messages: %w", err)
	}
	for i := range list { // what cannot be found out is taken for left: then the next holder looks
		left, err := list[i].left(ctx, db.Pool, done)
		settled[i].Left = left || err != nil
	}
	return settled, nil
}

// left looks whether something was left, where not everything was done: mostly receipts came first.
func (s *Settlement) left(ctx context.Context, q Querier, done []uuid.UUID) (left bool, err error) {
	var missing []uuid.UUID
	for i := range s.Outcomes {
		if id := s.Outcomes[i].Message.ID; !slices.Contains(done, id) {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		err = q.QueryRow(ctx, leftSQL, s.Hold.Lane, s.Hold.Generation, missing).Scan(&left)
	}
	return left, err
}

// part tells the messages of settlements from webhooks.
func part(list []Settlement, answer []Woken) (messages []uuid.UUID, webhooks []Woken) {
	all := map[uuid.UUID]bool{}
	for _, s := range list {
		for i := range s.Outcomes {
			all[s.Outcomes[i].Message.ID] = true
		}
	}
	for _, w := range answer {
		if all[w.Lane] {
			messages = append(messages, w.Lane)
		} else {
			webhooks = append(webhooks, w)
		}
	}
	return messages, webhooks
}

// settle runs a statement that begins as settleSQL and answers messages and webhooks, with what else the rounds changed before it.
func settle(ctx context.Context, q Batcher, query string, list []Settlement) (answer []Woken, err error) {
	var b pgx.Batch
	impatient(&b, len(list))
	list = slices.SortedFunc(slices.Values(list), func(a, b Settlement) int { return compareIDs(a.Hold.Lane, b.Hold.Lane) })
	for _, s := range list {
		if s.Pace != nil {
			queuePace(&b, s.Hold.Lane, *s.Pace)
		}
	}
	queueBegun(&b, list)
	if err := queueOutcomes(&b, query, list, &answer); err != nil || b.Len() == 0 {
		return nil, err
	}
	return answer, q.SendBatch(ctx, &b).Close()
}

func queueOutcomes(b *pgx.Batch, query string, list []Settlement, answer *[]Woken) error {
	n := 0
	for _, s := range list {
		n += len(s.Outcomes)
	}
	if n == 0 {
		return nil
	}
	lanes, generations := make([]uuid.UUID, n), make([]int64, n)
	ids, status, codes, errs, waiting := make([]uuid.UUID, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	next, tried, at := make([]*time.Time, n), make([]int32, n), make([]time.Time, n)
	eventIDs, types, data := make([]uuid.UUID, n), make([]string, n), make([]string, n)
	var traces rare[string]
	i := 0
	for _, s := range list {
		for k := range s.Outcomes {
			o := &s.Outcomes[k]
			// A worker's words may hold what PostgreSQL refuses, and the outcomes of the others with it.
			o.Code, o.Error = strings.ReplaceAll(o.Code, "\x00", ""), strings.ReplaceAll(o.Error, "\x00", "")
			lanes[i], generations[i] = s.Hold.Lane, s.Hold.Generation
			ids[i], status[i], codes[i], errs[i], next[i], at[i] = o.Message.ID, o.Status, o.Code, o.Error, o.NextAttemptAt, o.At
			waiting[i] = o.WaitingFor
			if o.Tried {
				tried[i] = 1
			}
			eventIDs[i], types[i], data[i] = NewID(), eventOf[o.Status], "null"
			if types[i] != "" {
				body, err := json.Marshal(o.resource(s.SessionID))
				if err != nil {
					return err
				}
				data[i] = string(body)
				traces.set(i, o.Message.Trace)
			}
			i++
		}
	}
	b.Queue(query, lanes, ids, status, codes, errs, next, tried, at, eventIDs, types, data, generations, waiting, traces.list).Query(func(rows pgx.Rows) (err error) {
		*answer, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Woken])
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
// session is not connected or cools down, and nobody has them in hand. Each is ordered as the index that holds just such messages, which are
// few, and looks up what it has to know of each: the history, and the lanes of all sessions, would otherwise seem as good to go through.
const (
	latePending = `SELECT id, session_uid, next_attempt_at IS NOT NULL AS held FROM messages WHERE coalesce(status, '') = 'PENDING' AND expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED`
	lateSending = `SELECT m.id, m.session_uid, m.next_attempt_at IS NOT NULL AS held FROM messages m CROSS JOIN LATERAL (
			SELECT FROM lanes l WHERE l.id = m.session_uid AND NOT coalesce(` + liveHolder + `, false)
			  AND (NOT ` + connectedLane + ` OR EXISTS (SELECT 1 FROM sessions c WHERE c.uid = l.id AND c.cooldown_until > now())) LIMIT 1) l
		WHERE m.status = 'SENDING' AND m.expires_at <= now() ORDER BY m.session_uid, m.seq LIMIT $1 FOR UPDATE OF m SKIP LOCKED`
)

// ExpireMessages ends messages whose time is over and that no lane will end, and returns how many and which webhooks to
// wake.
func ExpireMessages(ctx context.Context, tx pgx.Tx, limit int) (int, []Woken, error) {
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
		FROM late CROSS JOIN LATERAL (SELECT id FROM sessions WHERE uid = late.session_uid LIMIT 1) s
		WHERE m.id = ANY(ARRAY[late.id]) AND m.status IN ('PENDING', 'SENDING')
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
