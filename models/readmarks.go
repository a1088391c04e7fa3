package models

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ReceivedMessage is what the network needs to know of a message that came in, to mark it as read.
type ReceivedMessage struct {
	ID         uuid.UUID
	Chat       string
	FromNumber *string // with a leading +
	FromLID    *string
	WhatsappID string
}

// Received finds messages that a session received, of those with the given IDs.
func Received(ctx context.Context, q Querier, session uuid.UUID, ids []uuid.UUID) ([]ReceivedMessage, error) {
	rows, err := q.Query(ctx, `SELECT id, chat, from_number, from_lid, whatsapp_id FROM messages
		WHERE session_uid = $1 AND id = ANY($2) AND direction = 'INBOUND' ORDER BY id`, session, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[ReceivedMessage])
}

// Unread finds the last messages of a chat that came in and were not marked as read yet.
func Unread(ctx context.Context, q Querier, session uuid.UUID, chat string, limit int) ([]ReceivedMessage, error) {
	rows, err := q.Query(ctx, `SELECT id, chat, from_number, from_lid, whatsapp_id FROM messages
		WHERE session_uid = $1 AND chat = $2 AND direction = 'INBOUND' AND read_at IS NULL ORDER BY id DESC LIMIT $3`, session, chat, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[ReceivedMessage])
}

// SetRead notes that messages were marked as read.
func SetRead(ctx context.Context, q Querier, session uuid.UUID, ids []uuid.UUID) error {
	_, err := q.Exec(ctx, `UPDATE messages SET read_at = now(), updated_at = now()
		WHERE session_uid = $1 AND id = ANY($2) AND direction = 'INBOUND' AND read_at IS NULL`, session, ids)
	return err
}
