package models

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"kurir/webhook"
)

// toldAtDeletion bounds how many messages of a deleted session are told of one by one. That the session was deleted says
// the same of the rest.
const toldAtDeletion = 1000

// endOfSession ends what a deleted session leaves: its messages and its webhook, whose deliveries upkeep removes. The account's
// webhook outlives it and hears of both. The sweep wakes its lane.
func endOfSession(ctx context.Context, tx bun.Tx, uid uuid.UUID) error {
	var ended []Message
	err := tx.NewRaw(`WITH ended AS (
			UPDATE messages m SET updated_at = now(), finished_at = now(), next_attempt_at = NULL, waiting_for = NULL,
				status = CASE m.status WHEN 'PENDING' THEN 'CANCELLED' ELSE 'UNKNOWN' END,
				error_code = 'session_deleted', error_message = 'The session was deleted.'
			FROM (`+unsettledOf("m.id", "m.session_uid = ?0", "")+`) w
			WHERE m.session_uid = ?0 AND m.id = w.id AND m.status IN ('PENDING', 'SENDING') RETURNING m.*
		) SELECT * FROM ended ORDER BY seq LIMIT ?1`, uid, toldAtDeletion).Scan(ctx, &ended)
	if err != nil {
		return fmt.Errorf("end messages of %s: %w", uid, err)
	}
	s, err := SessionByUID(ctx, tx, uid)
	if err != nil {
		return err
	}
	// Both webhooks' lanes, in the order in which everyone locks them, and after the messages.
	_, err = tx.ExecContext(ctx, `SELECT 1 FROM lanes WHERE id IN (SELECT id FROM webhooks WHERE session_uid = ?0
		UNION ALL SELECT id FROM webhooks WHERE user_id = ?1 AND session_uid IS NULL) ORDER BY id FOR UPDATE`, uid, s.UserID)
	if err != nil {
		return err
	}
	if _, err := DeleteWebhook(ctx, tx, HookOwner{User: s.UserID, Session: uid}); err != nil {
		return err
	}
	events := make([]Event, 0, len(ended)+1)
	for i := range ended {
		m := &ended[i]
		events = append(events, Event{Session: uid, Type: eventOf[m.Status], Data: m.Resource(s.ID), At: *m.FinishedAt})
	}
	return emitIn(ctx, tx, append(events, Event{Session: uid, Type: webhook.EventSessionStatus, At: time.Now(),
		Data: webhook.SessionStatus{Status: SessionStatusName(s.Status), Reason: s.Reason, PhoneNumber: s.LinkedNumber()}}))
}

// emitIn is Emit in a transaction of bun's. The webhooks are left to the sweep.
func emitIn(ctx context.Context, tx bun.Tx, events []Event) error {
	statement, args, err := emitStatement(causedBy(ctx, events))
	if err != nil {
		return err
	}
	_, err = tx.Tx.ExecContext(ctx, statement, args...) // bun would put the arguments into the text
	return err
}
