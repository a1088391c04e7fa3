package models

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kurir/pacing"
	"kurir/tracing"
	"kurir/webhook"
	"kurir/wire"
)

type pgconnTag = pgconn.CommandTag

// sessionStates maps what a worker says to what is stored.
var sessionStates = map[string]string{
	wire.StatusInitializing: SessionInit, wire.StatusQRRequired: SessionQRRequired, wire.StatusConnected: SessionConnected,
	wire.StatusDisconnected: SessionDisconnected, wire.StatusReconnecting: SessionReconnecting, wire.StatusError: SessionError,
}

// networkReasons are the reasons of a session that its worker's way to the network may be to blame for, unless the session has a
// proxy: no tenant's proxy makes a worker look ill.
var networkReasons = map[string]bool{"unreachable": true, "connection_lost": true}

// reasonOutdated is that of a session whose worker the network refuses, for its version and as a whole. It is tried again elsewhere.
const reasonOutdated = "client_outdated"

// SessionStatusName is the status as clients see it.
func SessionStatusName(status string) string {
	if status == SessionInit {
		return wire.StatusInitializing
	}
	return strings.ToLower(status)
}

// sessionEvent takes a session's own events. Only the worker that holds it, at its present epoch, may tell of it.
func (g *ingestion) sessionEvent(ctx context.Context, p *parsed) error {
	s := p.session
	if *s.WorkerID != g.worker || s.Epoch != p.Epoch || s.Desired != DesiredRunning {
		g.log.Info("ingest: session event of another epoch ignored", "worker", g.worker, "session", s.UID, "epoch", p.Epoch, "current", s.Epoch)
		return nil
	}
	if p.Type == wire.EventSessionQR {
		g.last.Queue(`UPDATE sessions SET qr_code = $2, qr_expires_at = $3, updated_at = now() WHERE uid = $1`, s.UID, p.qr.QR, p.qr.ExpiresAt)
		g.emit(s, "session.qr", webhook.SessionQR{QR: p.qr.QR, ExpiresAt: p.qr.ExpiresAt}, p.Timestamp, optional(p.Trace))
		return nil
	}
	status, ok := sessionStates[p.status.Status]
	if !ok {
		g.log.Warn("ingest: unknown session status ignored", "worker", g.worker, "session", s.UID, "status", p.status.Status)
		return nil
	}
	if status == SessionConnected {
		if err := g.connected(ctx, p); err != nil {
			return fmt.Errorf("connect session %s: %w", s.UID, err)
		}
	} else if p.status.Reason == "logged_out" {
		if err := g.loggedOut(ctx, s, p.Trace); err != nil {
			return fmt.Errorf("log out session %s: %w", s.UID, err)
		}
	} else if status == SessionError && p.status.Until != nil {
		g.banned(s, *p.status.Until)
	}
	outdated := status == SessionError && p.status.Reason == reasonOutdated
	if outdated {
		g.last.Queue(`UPDATE worker_streams SET outdated_term = $2 WHERE worker_id = $1 AND outdated_term IS DISTINCT FROM $2`, g.worker, g.term)
	}
	reason := optional(p.status.Reason)
	endless := status == SessionError && p.status.Reason == pacing.Banned && p.status.Until == nil && g.unpromised(s)
	if s.Status == status && equal(s.Reason, reason) && !endless {
		return nil
	}
	// Why a session is not back yet may change with each attempt: the row shows it, and subscribers are told once.
	same := status == SessionReconnecting && s.Status == status
	s.Status, s.Reason = status, reason
	g.last.Queue(`UPDATE sessions SET status = $2, reason = $3, updated_at = now(), last_seen_at = now(),
			qr_code = CASE WHEN $2 = 'QR_REQUIRED' THEN qr_code END, qr_expires_at = CASE WHEN $2 = 'QR_REQUIRED' THEN qr_expires_at END,
			trouble_at = CASE WHEN $5 OR $2 = 'RECONNECTING' AND $4 AND proxy IS NULL THEN coalesce(trouble_at, now()) END
		WHERE uid = $1`, s.UID, status, reason, networkReasons[p.status.Reason], outdated)
	if !same {
		g.emit(s, "session.status", webhook.SessionStatus{Status: SessionStatusName(status), Reason: reason, PhoneNumber: s.LinkedNumber(), Until: p.status.Until}, p.Timestamp, optional(p.Trace))
	}
	return nil
}

// connected opens the lane. If another number is linked than before, what waits was meant to go out from
// the former one, and is cancelled. What is in doubt must not go out from this one too: phones would show it twice.
func (g *ingestion) connected(ctx context.Context, p *parsed) error {
	s := p.session
	if phone := optional(p.status.PhoneNumber); phone != nil && !equal(s.PhoneNumber, phone) {
		if s.PhoneNumber != nil {
			if err := g.flush(ctx); err != nil {
				return err
			}
			if err := g.cancelPending(ctx, s, "number_changed", "Another number was linked to the session.", MessagePending, MessageSending); err != nil {
				return err
			}
			if err := forgetPace(ctx, g.tx, s.UID); err != nil {
				return err
			}
		}
		s.PhoneNumber = phone
	}
	if s.LinkedAt == nil {
		s.LinkedAt = &g.now
	}
	g.last.Queue(`UPDATE sessions SET phone_number = $2, linked_at = coalesce(linked_at, now()),
			cooldown_until = CASE WHEN cooldown_reason IS DISTINCT FROM $3 THEN cooldown_until END,
			cooldown_replies_at = CASE WHEN cooldown_reason IS DISTINCT FROM $3 THEN cooldown_replies_at END, cooldown_reason = nullif(cooldown_reason, $3)
		WHERE uid = $1`, s.UID, s.PhoneNumber, pacing.Banned)
	queueLinkEnd(g.last, s.UID)
	// A session that comes back has its lane open. To lock it all the same would be to wait in a circle: for a batch of events in
	// their order, for accepts in that of the lanes, for outcomes after the webhooks' lanes.
	g.last.Queue(`UPDATE lanes SET open = true WHERE id = $1 AND NOT open`, s.UID)
	if !slices.ContainsFunc(g.out.Connected, func(w Woken) bool { return w.Lane == s.UID }) {
		g.out.Connected = append(g.out.Connected, Woken{Lane: s.UID})
	}
	return nil
}

// banned shows until when the network lets the session in no more. A longer pause, which it asked for before, stays.
func (g *ingestion) banned(s *Session, until time.Time) {
	g.last.Queue(`UPDATE sessions SET cooldown_until = b.until, cooldown_replies_at = b.until, cooldown_reason = $3, updated_at = now()
		FROM (SELECT least($2::timestamptz, now() + $4::interval) AS until) b
		WHERE uid = $1 AND b.until > now() AND (cooldown_until < b.until) IS NOT FALSE`, s.UID, until, pacing.Banned, pacing.MostAsked)
	s.CooldownReason = optional(pacing.Banned)
}

// unpromised ends the pause of a ban whose end was told, where the network now says that there is none. False: none was told.
func (g *ingestion) unpromised(s *Session) bool {
	if !equal(s.CooldownReason, optional(pacing.Banned)) {
		return false
	}
	s.CooldownReason = nil
	g.last.Queue(`UPDATE sessions SET cooldown_until = NULL, cooldown_replies_at = NULL, cooldown_reason = NULL WHERE uid = $1 AND cooldown_reason = $2`, s.UID, pacing.Banned)
	return true
}

// loggedOut closes the lane: the phone unlinked the device. Its owner is told, once.
func (g *ingestion) loggedOut(ctx context.Context, s *Session, trace string) error {
	if err := g.flush(ctx); err != nil {
		return err
	}
	if err := g.cancelPending(ctx, s, "logged_out", "The phone unlinked the session.", MessagePending); err != nil {
		return err
	}
	if _, err := g.tx.Exec(ctx, `UPDATE lanes SET open = false WHERE id = $1`, s.UID); err != nil {
		return err
	}
	s.LinkedAt = nil
	tag, err := g.tx.Exec(ctx, `UPDATE sessions SET linked_at = NULL WHERE uid = $1 AND linked_at IS NOT NULL`, s.UID)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	return QueueLetter(tracing.In(ctx, trace), g.tx, s.UserID, LetterSessionLoggedOut, AboutSession{Session: s.UID})
}

// cancelPending ends the session's messages that have one of the states: CANCELLED, or UNKNOWN if it was claimed.
func (g *ingestion) cancelPending(ctx context.Context, s *Session, code, sentence string, states ...string) error {
	// The lane first, as everyone who makes messages does: none can slip in behind.
	if _, err := g.tx.Exec(ctx, `SELECT 1 FROM lanes WHERE id = $1 FOR UPDATE`, s.UID); err != nil {
		return err
	}
	var raised pgx.Batch
	g.writeRaised(&raised)
	if err := g.tx.SendBatch(ctx, &raised).Close(); err != nil { // what an earlier event of the batch raised has ended already
		return err
	}
	events, err := cancelMessages(ctx, g.tx, s, code, sentence, states...)
	g.events = append(g.events, events...)
	return err
}

// cancelMessages ends those messages and returns the events that tell of it. Its caller has locked the lane.
func cancelMessages(ctx context.Context, tx pgx.Tx, s *Session, code, sentence string, states ...string) (events []Event, err error) {
	rows, err := tx.Query(ctx, `UPDATE messages m SET status = CASE m.status WHEN 'PENDING' THEN 'CANCELLED' ELSE 'UNKNOWN' END,
			error_code = $2, error_message = $3, next_attempt_at = NULL, waiting_for = NULL, finished_at = now(), updated_at = now()
		FROM (`+unsettledMessages("m.id", "")+`) w
		WHERE m.session_uid = $1 AND m.id = w.id AND m.status IN ('PENDING', 'SENDING') AND m.status = ANY($4) RETURNING `+messageColumns, s.UID, code, sentence, states)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m Message
		if err := rows.Scan(scanMessage(&m)...); err != nil {
			return nil, err
		}
		events = append(events, Event{Session: s.UID, Type: eventOf[m.Status], Data: m.Resource(s.ID), At: *m.FinishedAt, Trace: m.Trace})
	}
	return events, rows.Err()
}

func equal(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
