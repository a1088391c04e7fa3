package models

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/message"
	"kurir/tracing"
)

// EditPending changes the text of a message that was never tried; of a medium it is the caption. It says whether it was in
// time.
func EditPending(ctx context.Context, q Querier, m *Message, text string) (bool, error) {
	tag, err := q.Exec(ctx, `UPDATE messages SET updated_at = now(),
			content = CASE WHEN message_type = 'TEXT' THEN $3 ELSE content END,
			caption = CASE WHEN message_type = 'TEXT' THEN caption ELSE $3 END
		WHERE session_uid = $1 AND id = $2 AND status = 'PENDING'`, m.SessionUID, m.ID, text)
	return tag.RowsAffected() == 1, err
}

// ErrNotRetryable refuses to try a message again.
var ErrNotRetryable = fault.New(fault.Conflict, "not_retryable", "Only a message of yours that failed, expired or was cancelled can be sent again, and with force one whose outcome is unknown.")

// Retryable reports whether a message may be sent again, as far as can be told from how it was read.
func (m *Message) Retryable(force bool) bool {
	return m.Direction == Outbound && slices.Contains(retryable(force), m.Status)
}

func retryable(force bool) []string {
	states := []string{MessageFailed, MessageExpired, MessageCancelled}
	if force {
		states = append(states, MessageUnknown)
	}
	return states
}

// RetryMessage puts a message that was not sent back into its lane, at the end: what was accepted after it may have gone
// out. It keeps its ID and its WhatsApp ID, by which workers and phones would know it if it had gone out after all.
// Whoever raised its status meanwhile wins.
//
// A message that FAILED, EXPIRED or was CANCELLED never went out: it is PENDING again. One that is UNKNOWN may have, so
// it is SENDING, as after any try without an outcome: it can't be cancelled, and ends as UNKNOWN again if nobody ever
// says what became of it.
func RetryMessage(ctx context.Context, db *DB, m *Message, force bool, expiresAt time.Time) error {
	err := retryMessage(ctx, db, m, force, expiresAt, false)
	if isSealed(err) {
		err = retryMessage(ctx, db, m, force, expiresAt, true)
		if IsLockTimeout(err) {
			err = errSealed.WithCause(err)
		}
	}
	return err
}

func retryMessage(ctx context.Context, db *DB, m *Message, force bool, expiresAt time.Time, unseal bool) error {
	return db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if unseal {
			if err := unsealMonth(ctx, tx, m.ID); err != nil {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `UPDATE messages SET status = CASE status WHEN 'UNKNOWN' THEN 'SENDING' ELSE 'PENDING' END,
				next_attempt_at = CASE status WHEN 'UNKNOWN' THEN now() END,
				attempts = 0, media_tries = 0, error_code = NULL, error_message = NULL, finished_at = NULL, waiting_for = NULL, send_at = NULL, expires_at = $4, trace = coalesce($5, trace), updated_at = now()
			WHERE session_uid = $1 AND id = $2 AND status = ANY($3) AND seq > 0 AND direction = 'OUTBOUND'`, m.SessionUID, m.ID, retryable(force), expiresAt, tracing.Carried(ctx))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotRetryable
		}
		var seq int64
		err = tx.QueryRow(ctx, `UPDATE lanes SET next_seq = next_seq + 1, next_due_at = least(coalesce(next_due_at, now()), now())
			WHERE id = $1 AND open RETURNING next_seq - 1`, m.SessionUID).Scan(&seq)
		if ok, err := Found(err); err != nil {
			return err
		} else if !ok {
			return ErrNotLinked
		}
		_, err = tx.Exec(ctx, `UPDATE messages SET seq = $3 WHERE session_uid = $1 AND id = $2`, m.SessionUID, m.ID, seq)
		return err
	})
}

// PendingFilter chooses messages that wait. Empty fields don't restrict.
type PendingFilter struct {
	Chat, Type    string // JID, upper case
	After, Before time.Time
	Metadata      json.RawMessage // holds at least these
}

// cancelWindow is how many waiting messages one transaction looks at.
const cancelWindow = 500

// CancelMessages takes back the messages of a lane that wait, were never tried and fit a filter, from a place in the lane
// on, up to a window of them: call it with the place that it returns until that is 0. Those that are being claimed at
// this moment are on their way and stay.
func CancelMessages(ctx context.Context, db *DB, s *Session, f PendingFilter, from int64) (cancelled int, next int64, woken []Woken, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		cancelled, next, woken = 0, 0, nil
		ids, last, err := pendingWindow(ctx, tx, s.UID, from)
		if err != nil || len(ids) == 0 {
			return err
		}
		if len(ids) == cancelWindow {
			next = last + 1
		}
		events, held, err := cancelFitting(ctx, tx, s, ids, f)
		if err != nil {
			return err
		}
		cancelled = len(events)
		if held { // it blocked its chat, whose next message may be due now
			if err := LanesDue(ctx, tx, []uuid.UUID{s.UID}); err != nil {
				return err
			}
		}
		woken, err = Emit(ctx, tx, events)
		return err
	})
	return cancelled, next, woken, err
}

func pendingWindow(ctx context.Context, tx pgx.Tx, session uuid.UUID, from int64) (ids []uuid.UUID, last int64, err error) {
	rows, err := tx.Query(ctx, `SELECT id, seq FROM (`+waitingMessages("m.id, m.seq", ` AND m.seq >= $2 ORDER BY m.seq LIMIT $3`)+`) w ORDER BY seq LIMIT $3`,
		session, from, cancelWindow)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var id uuid.UUID
		if err := rows.Scan(&id, &last); err != nil {
			return nil, 0, err
		}
		ids = append(ids, id)
	}
	return ids, last, rows.Err()
}

// cancelFitting says too whether one of them was held for a time.
func cancelFitting(ctx context.Context, tx pgx.Tx, s *Session, ids []uuid.UUID, f PendingFilter) (events []Event, held bool, err error) {
	var after, before *time.Time
	if !f.After.IsZero() {
		after = &f.After
	}
	if !f.Before.IsZero() {
		before = &f.Before
	}
	var metadata *string
	if f.Metadata != nil {
		text := string(f.Metadata)
		metadata = &text
	}
	rows, err := tx.Query(ctx, `WITH fit AS (
			SELECT m.id, m.next_attempt_at IS NOT NULL AS held FROM messages m WHERE m.session_uid = $1 AND m.id = ANY($2) AND m.status = 'PENDING'
				AND ($3 = '' OR m.chat = $3) AND ($4 = '' OR m.message_type = $4)
				AND ($5::timestamptz IS NULL OR m.id >= kurir_uuid_from($5)) AND ($6::timestamptz IS NULL OR m.id < kurir_uuid_from($6))
				AND ($7::jsonb IS NULL OR m.metadata @> $7)
			ORDER BY m.id FOR UPDATE SKIP LOCKED)
		UPDATE messages m SET status = 'CANCELLED', finished_at = now(), updated_at = now(), waiting_for = NULL, next_attempt_at = NULL, error_code = NULL, error_message = NULL
		FROM fit WHERE m.session_uid = $1 AND m.id = fit.id AND m.status = 'PENDING'
		RETURNING fit.held, `+messageColumns, s.UID, ids, f.Chat, f.Type, after, before, metadata)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var m Message
		var blocked bool
		if err := rows.Scan(scanMessage(&m, &blocked)...); err != nil {
			return nil, false, err
		}
		held = held || blocked
		events = append(events, Event{Session: m.SessionUID, Type: eventOf[m.Status], Data: m.Resource(s.ID), At: *m.FinishedAt})
	}
	return events, held, rows.Err()
}

// Forwarded is a copy of what a message holds, for another chat; false if it holds nothing that can be forwarded.
func (m *Message) Forwarded() (*NewMessage, bool) {
	copied := &NewMessage{Session: m.SessionUID, Type: m.MessageType, Content: m.Content, MediaURL: m.MediaURL, Filename: m.Filename,
		Caption: m.Caption, Details: &message.Details{Forwarded: true}}
	if message.HasMedia(strings.ToLower(m.MessageType)) {
		copied.MediaID, copied.Media = m.MediaID, m.Media
	}
	if d := m.Details; d != nil {
		copied.Details.Location, copied.Details.Contacts, copied.Details.Poll, copied.Details.LinkPreview = d.Location, d.Contacts, d.Poll, d.LinkPreview
	}
	return copied, m.DeletedAt == nil && forwardable(copied)
}

func forwardable(m *NewMessage) bool {
	switch kind := strings.ToLower(m.Type); {
	case kind == message.Text:
		return m.Content != ""
	case message.HasMedia(kind):
		return m.MediaID != nil || m.MediaURL != nil
	case kind == message.Location:
		return m.Details.Location != nil
	case kind == message.Contact:
		return len(m.Details.Contacts) > 0
	case kind == message.Poll:
		return m.Details.Poll != nil
	}
	return false
}
