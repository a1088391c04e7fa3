package models

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/pacing"
	"kurir/webhook"
)

// Guard is what bounds the sending of a session: its pace and where it stands, and a pause that its network asked for. Most
// lanes have none.
type Guard struct {
	Now      time.Time // PostgreSQL's, when it was read
	Pace     pacing.Pace
	State    pacing.State
	Cooldown pacing.Cooldown
}

// guardedSession says that a lane has to be claimed from with care, see claimGuarded; s is the session, and the parameter the
// engines that are paced by default. A session that was paced once has a row in paces.
func guardedSession(engines string) string {
	return `(s.settings IS NOT NULL OR s.engine = ANY(` + engines + `) OR coalesce(s.cooldown_until > now() - interval '24 hours', false)
	OR EXISTS (SELECT 1 FROM paces g WHERE g.session_uid = s.uid))`
}

// lookSQL tells what claims found, or why they found nothing. $1 are the lanes, $2 the holders' generations.
var lookSQL = `SELECT l.id, l.generation, s.status = 'CONNECTED' AND s.desired = 'RUNNING', ` + pausedByOwner + ` OR ` + pausedByAdministrator + `,
		s.id, s.user_id, s.epoch, coalesce(s.worker_id, ''),
		` + guardedSession("$3") + ` OR EXISTS (SELECT 1 FROM messages h WHERE h.session_uid = l.id AND h.status = 'PENDING'
			AND h.next_attempt_at IS NULL AND h.priority > 0),
		now(), s.engine, s.settings, coalesce(s.cooldown_reason, ''), s.cooldown_until, s.cooldown_replies_at, s.cooldown_count,
		p.next_send_at, p.new_chat_at, p.hour_tat, p.day_tat
	FROM unnest($1::uuid[], $2::bigint[]) AS w (id, generation) JOIN lanes l ON l.id = w.id AND l.generation = w.generation
	JOIN sessions s ON s.uid = l.id LEFT JOIN paces p ON p.session_uid = l.id`

// look reads a row of what lookSQL answers into the claim that it is about.
func look(row pgx.Row, into func(t term, guarded bool) *Claim) error {
	var t term
	var guarded bool
	var engine string
	var settings []byte
	var until, repliesAt, send, chat, hour, day *time.Time
	found := Claim{Held: true}
	g := &found.Guard
	if err := row.Scan(&t.lane, &t.generation, &found.Connected, &found.Paused, &found.SessionID, &found.UserID, &found.Epoch, &found.WorkerID, &guarded,
		&g.Now, &engine, &settings, &g.Cooldown.Reason, &until, &repliesAt, &g.Cooldown.Count, &send, &chat, &hour, &day); err != nil {
		return err
	}
	var s *Settings
	if settings != nil {
		s = &Settings{}
		if err := json.Unmarshal(settings, s); err != nil { // of a later version: its fields are passed over, its types are ours
			return &LaneError{t.lane, err}
		}
	}
	g.Pace = paceOf(engine, s)
	g.Cooldown.Until, g.Cooldown.RepliesAt = timeOf(until), timeOf(repliesAt)
	g.State = pacing.State{NextSendAt: timeOf(send), NewChatAt: timeOf(chat), HourTAT: timeOf(hour), DayTAT: timeOf(day)}
	claim := into(t, guarded)
	found.Messages = claim.Messages
	*claim = found
	return nil
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// queuePace writes where a session stands. Times only move on, so that a holder that comes late takes nothing back.
func queuePace(b *pgx.Batch, session uuid.UUID, s pacing.State) {
	b.Queue(`INSERT INTO paces AS p (session_uid, next_send_at, new_chat_at, hour_tat, day_tat) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (session_uid) DO UPDATE SET next_send_at = greatest(p.next_send_at, excluded.next_send_at),
			new_chat_at = greatest(p.new_chat_at, excluded.new_chat_at),
			hour_tat = greatest(p.hour_tat, excluded.hour_tat), day_tat = greatest(p.day_tat, excluded.day_tat)`,
		session, optionalTime(s.NextSendAt), optionalTime(s.NewChatAt), optionalTime(s.HourTAT), optionalTime(s.DayTAT))
}

// queueCooldown begins or extends a pause, if the session is as it was when the holder decided so, and tells of it where it
// begins.
func queueCooldown(b *pgx.Batch, session uuid.UUID, former, next pacing.Cooldown, now time.Time, webhooks *[]Woken) error {
	data, err := json.Marshal(webhook.SessionThrottled{Reason: next.Reason, Until: next.Until.UTC(), Replies: next.Reason != pacing.TemporaryBan})
	if err != nil {
		return err
	}
	b.Queue(`WITH changed AS (
			UPDATE sessions SET cooldown_until = $2, cooldown_reason = $3, cooldown_replies_at = $4, cooldown_count = $5, updated_at = now()
			WHERE uid = $1 AND cooldown_until IS NOT DISTINCT FROM $6 AND deleted_at IS NULL RETURNING uid
		), ev AS (
			SELECT $7::uuid AS id, uid AS session_uid, '`+webhook.EventSessionThrottled+`' AS type, $8::jsonb AS data, now() AS at, NULL::text AS trace, 1 AS ord
			FROM changed WHERE $9
		), `+emit, session, next.Until, next.Reason, optionalTime(next.RepliesAt), next.Count, optionalTime(former.Until), NewID(), string(data),
		former.Begins(next, now)).Query(func(rows pgx.Rows) (err error) {
		*webhooks, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Woken])
		return err
	})
	return nil
}

// CoolDown begins or extends a session's pause and returns the webhooks to wake.
func CoolDown(ctx context.Context, q Batcher, session uuid.UUID, former, next pacing.Cooldown, now time.Time) (woken []Woken, err error) {
	var b pgx.Batch
	if err := queueCooldown(&b, session, former, next, now, &woken); err != nil {
		return nil, err
	}
	if err := q.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("cool down %s: %w", session, err)
	}
	return woken, nil
}

// forgetPace ends what was asked of a session's former number: its pause, and the pace and caps that it had used up.
func forgetPace(ctx context.Context, q Querier, session uuid.UUID) error {
	if _, err := q.Exec(ctx, `UPDATE sessions SET cooldown_until = NULL, cooldown_reason = NULL, cooldown_replies_at = NULL, cooldown_count = 0
		WHERE uid = $1`, session); err != nil {
		return err
	}
	_, err := q.Exec(ctx, `UPDATE paces SET next_send_at = NULL, new_chat_at = NULL, hour_tat = NULL, day_tat = NULL WHERE session_uid = $1`, session)
	return err
}
