package models

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/message"
)

// Why a pending message is held, or waits with its session.
const (
	WaitingMedia    = "media"
	WaitingNewChat  = "new_chat_limit"
	waitingPacing   = "pacing"
	waitingCooldown = "cooldown"
)

// EndHolds lets go of held messages whose time is over, and returns the sessions whose lanes have to look at them anew: what holds
// them up still, holds them again.
func EndHolds(ctx context.Context, q Querier, limit int) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `WITH over AS (
			SELECT id, session_uid FROM messages WHERE status = 'PENDING' AND next_attempt_at <= now() ORDER BY next_attempt_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
		), ended AS (
			UPDATE messages m SET next_attempt_at = NULL, waiting_for = NULL FROM over o
			WHERE m.id = ANY(ARRAY[o.id]) AND coalesce(m.status, '') = 'PENDING' AND m.status IN ('PENDING', 'SENDING') AND m.next_attempt_at <= now() RETURNING m.session_uid
		), locked AS (
			SELECT l.id FROM lanes l WHERE l.id = ANY (ARRAY (SELECT session_uid FROM ended)) ORDER BY l.id FOR NO KEY UPDATE
		) UPDATE lanes l SET next_due_at = least(l.next_due_at, now()) FROM locked k WHERE l.id = k.id RETURNING l.id`, limit)
	if err != nil {
		return nil, fmt.Errorf("end holds: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// HoldUnfetched holds scheduled messages that are due within ahead and whose medium is not here, for so long, and returns their IDs:
// the medium is fetched before they are due.
func HoldUnfetched(ctx context.Context, q Querier, ahead, hold time.Duration, limit int) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `WITH soon AS (
			SELECT id, session_uid FROM messages WHERE status = 'PENDING' AND media_url IS NOT NULL AND media_id IS NULL AND next_attempt_at IS NULL
				AND send_at IS NOT NULL AND send_at <= now() + make_interval(secs => $1) AND send_at > now()
			ORDER BY send_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
		) UPDATE messages m SET waiting_for = 'media', next_attempt_at = now() + make_interval(secs => $2) FROM soon s
		WHERE m.id = s.id AND m.session_uid = s.session_uid AND m.status = 'PENDING' AND m.next_attempt_at IS NULL RETURNING m.id`,
		ahead.Seconds(), hold.Seconds(), limit)
	if err != nil {
		return nil, fmt.Errorf("hold messages without their medium: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// ProlongFetches holds messages for so long again whose hold for a medium is over, up to limit of them, and says how many there
// were.
func ProlongFetches(ctx context.Context, q Querier, hold time.Duration, limit int) (int, error) {
	tag, err := q.Exec(ctx, `WITH over AS (
			SELECT id, session_uid FROM messages WHERE status = 'PENDING' AND next_attempt_at <= now() AND waiting_for = 'media' AND media_id IS NULL
			ORDER BY next_attempt_at LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
		) UPDATE messages m SET next_attempt_at = now() + make_interval(secs => $1) FROM over o
		WHERE m.id = o.id AND m.session_uid = o.session_uid AND m.status = 'PENDING' AND m.waiting_for = 'media' AND m.next_attempt_at <= now()`,
		hold.Seconds(), limit)
	if err != nil {
		return 0, fmt.Errorf("prolong holds for media: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

// Unfetched reports whether the gateway has to fetch the message's medium before it can be sent.
func (m *Message) Unfetched() bool { return m.MediaURL != nil && *m.MediaURL != "" && m.MediaID == nil }

// BeginFetch finds a held message whose medium is to be fetched, with its session's owner, and holds it for so long from now; the
// fetch calls it again to renew that. It is SENDING if the runner that claimed it first died: others of its chat may be in doubt behind it, so it keeps that
// state. False: it was cancelled, or is fetched, or is not held for that.
func BeginFetch(ctx context.Context, q Querier, id uuid.UUID, hold time.Duration) (m *Message, user uuid.UUID, ok bool, err error) {
	m = new(Message)
	err = q.QueryRow(ctx, `UPDATE messages m SET next_attempt_at = now() + make_interval(secs => $2) FROM sessions s
		WHERE m.id = $1 AND s.uid = m.session_uid AND s.deleted_at IS NULL AND m.status IN ('PENDING', 'SENDING') AND m.waiting_for = 'media' AND m.media_id IS NULL
		RETURNING s.user_id, `+messageColumns, id, hold.Seconds()).Scan(scanMessage(m, &user)...)
	ok, err = Found(err)
	return m, user, ok, err
}

// Fetched gives a message its medium and ends its hold. False: it is not pending any more, or has one.
func Fetched(ctx context.Context, db *DB, m *Message, media uuid.UUID, item message.Media) (ok bool, err error) {
	body, err := json.Marshal(item)
	if err != nil {
		return false, err
	}
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE messages SET media_id = $2, media = $3, waiting_for = NULL, error_code = NULL, error_message = NULL, updated_at = now(),
				next_attempt_at = CASE status WHEN 'SENDING' THEN now() END
			WHERE id = $1 AND session_uid = $4 AND (status = 'PENDING' OR status = 'SENDING' AND waiting_for = 'media') AND media_id IS NULL`, m.ID, media, string(body), m.SessionUID)
		if ok = err == nil && tag.RowsAffected() == 1; !ok {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE lanes SET next_due_at = least(next_due_at, greatest(now(), $2::timestamptz)) WHERE id = $1`, m.SessionUID, m.SendAt)
		return err
	})
	return ok, err
}

// PutOffFetch holds a message for so long again after a fetch that counts for nothing, and notes why it came to nothing; without
// a code what is noted stays.
func PutOffFetch(ctx context.Context, q Querier, m *Message, hold time.Duration, code, sentence string) error {
	_, err := q.Exec(ctx, `UPDATE messages SET next_attempt_at = now() + make_interval(secs => $3),
			error_code = coalesce(nullif($4, ''), error_code), error_message = CASE $4 WHEN '' THEN error_message ELSE $5 END
		WHERE id = $1 AND session_uid = $2 AND status IN ('PENDING', 'SENDING') AND media_id IS NULL AND waiting_for = 'media'`,
		m.ID, m.SessionUID, hold.Seconds(), code, sentence)
	if err != nil {
		return fmt.Errorf("put off fetch of message %s: %w", m.ID, err)
	}
	return nil
}

// FetchFailed counts a fetch that came to nothing, and notes why. The hold goes on for wait(tries), at the end of which the lane
// has it tried again; if that is 0, the message has failed. It returns the webhooks to wake.
func FetchFailed(ctx context.Context, db *DB, m *Message, code, sentence string, wait func(tries int) time.Duration) (failed bool, woken []Woken, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		failed, woken = false, nil
		var tries int
		err := tx.QueryRow(ctx, `UPDATE messages SET media_tries = media_tries + 1, error_code = $3, error_message = $4 WHERE id = $1 AND session_uid = $2
			AND status IN ('PENDING', 'SENDING') AND media_id IS NULL AND waiting_for = 'media' RETURNING media_tries`, m.ID, m.SessionUID, code, sentence).Scan(&tries)
		if ok, err := Found(err); err != nil || !ok {
			return err
		}
		if pause := wait(tries); pause > 0 {
			_, err := tx.Exec(ctx, `UPDATE messages SET next_attempt_at = now() + make_interval(secs => $3) WHERE id = $1 AND session_uid = $2`,
				m.ID, m.SessionUID, pause.Seconds())
			return err
		}
		f, session := new(Message), ""
		err = tx.QueryRow(ctx, `UPDATE messages m SET status = 'FAILED', waiting_for = NULL, next_attempt_at = NULL,
				finished_at = now(), updated_at = now() FROM sessions s
			WHERE m.id = $1 AND m.session_uid = $2 AND s.uid = m.session_uid RETURNING s.id, `+messageColumns, m.ID, m.SessionUID).
			Scan(scanMessage(f, &session)...)
		if err != nil {
			return err
		}
		failed = true
		if err := LanesDue(ctx, tx, []uuid.UUID{m.SessionUID}); err != nil { // what waited behind it in its chat
			return err
		}
		woken, err = Emit(ctx, tx, []Event{{Session: f.SessionUID, Type: eventOf[MessageFailed], Data: f.Resource(session), At: *f.FinishedAt, Trace: f.Trace}})
		return err
	})
	return failed, woken, err
}
