package models

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/message"
	"kurir/webhook"
)

// Directions of messages.
const (
	Inbound  = "INBOUND"
	Outbound = "OUTBOUND"
)

// States of messages. PENDING was never tried; SENDING was claimed and is not settled: on its way, in doubt, or
// backing off. A status only rises, see rank.
const (
	MessagePending   = "PENDING"
	MessageSending   = "SENDING"
	MessageSent      = "SENT"
	MessageDelivered = "DELIVERED"
	MessageRead      = "READ"
	MessageFailed    = "FAILED"
	MessageUnknown   = "UNKNOWN"
	MessageCancelled = "CANCELLED"
	MessageExpired   = "EXPIRED"
)

// Message is one message in or out.
type Message struct {
	bun.BaseModel `bun:"table:messages,alias:m"`

	ID            uuid.UUID `bun:",pk,type:uuid"`
	SessionUID    uuid.UUID `bun:"type:uuid"`
	Direction     string
	Seq           int64
	Chat          string
	FromNumber    *string
	FromLID       *string `bun:"from_lid"`
	FromName      *string
	FromMe        bool
	ToNumber      string
	MessageType   string
	Content       string
	MediaURL      *string
	Filename      *string
	Caption       *string
	MediaID       *uuid.UUID       `bun:"type:uuid"`
	Media         *message.Media   `bun:"type:jsonb,nullzero"`
	Details       *message.Details `bun:"type:jsonb,nullzero"`
	TargetID      *uuid.UUID       `bun:"type:uuid"`
	Priority      int16
	WaitingFor    *string // of a pending one that is held until NextAttemptAt
	Status        string
	ErrorCode     *string
	ErrorMessage  *string
	WhatsappID    string
	Generation    int64
	Attempts      int
	NextAttemptAt *time.Time
	SendAt        *time.Time
	ExpiresAt     *time.Time
	Metadata      json.RawMessage `bun:"type:jsonb,nullzero"`
	SentAt        *time.Time
	DeliveredAt   *time.Time
	ReadAt        *time.Time
	FinishedAt    *time.Time
	EditedAt      *time.Time
	DeletedAt     *time.Time
	Reactions     []message.Mark `bun:"type:jsonb,nullzero"`
	Trace         *string        // the span that caused it, where it is traced
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// DueSince is when a message was accepted, or what it was scheduled for.
func (m *Message) DueSince() time.Time {
	if m.SendAt != nil && m.SendAt.After(m.CreatedAt) {
		return *m.SendAt
	}
	return m.CreatedAt
}

// Final reports whether nothing but a receipt can change the status any more.
func Final(status string) bool { return status != MessagePending && status != MessageSending }

// rank orders the states that a receipt can raise a message to. A final failure is raised by a receipt too: the
// network knows better, an UNKNOWN one was delivered after all.
func rank(status string) int {
	switch status {
	case MessageSent:
		return 1
	case MessageDelivered:
		return 2
	case MessageRead:
		return 3
	}
	return 0
}

// WentOut reports whether the network has taken the message.
func WentOut(status string) bool { return rank(status) > 0 }

// Resource is the message as its tenant sees it; session is the public name.
func (m *Message) Resource(session string) webhook.Message {
	r := webhook.Message{
		ID: m.ID.String(), SessionID: session, Direction: strings.ToLower(m.Direction), Chat: m.Chat, FromMe: m.FromMe,
		To: m.ToNumber, Type: strings.ToLower(m.MessageType), Message: m.Content, MediaURL: m.MediaURL, Caption: m.Caption,
		Filename: m.Filename, Status: strings.ToLower(m.Status), ErrorCode: m.ErrorCode, Error: m.ErrorMessage,
		Attempts: m.Attempts, Metadata: m.Metadata, WhatsappID: m.WhatsappID, SendAt: m.SendAt, ExpiresAt: m.ExpiresAt,
		CreatedAt: m.CreatedAt, SentAt: m.SentAt, DeliveredAt: m.DeliveredAt, ReadAt: m.ReadAt, FinishedAt: m.FinishedAt,
		Media: m.Media, Priority: priorityName(m.Priority), EditedAt: m.EditedAt, DeletedAt: m.DeletedAt, Reactions: marks(m.Reactions),
	}
	if m.Details != nil {
		r.Details = *m.Details
	}
	if m.FromNumber != nil || m.FromLID != nil {
		r.From = &webhook.Contact{Phone: m.FromNumber, LID: m.FromLID, Name: m.FromName}
	}
	return r
}

// marks are reactions as a tenant sees them.
func marks(kept []message.Mark) []webhook.MessageReaction {
	var list []webhook.MessageReaction
	for _, k := range kept {
		shown := webhook.MessageReaction{FromMe: k.FromMe, Emoji: k.Emoji, At: k.At}
		if k.From != "" {
			shown.From = &webhook.Contact{LID: optional(k.LID), Name: optional(k.Name)}
			if user, server, _ := strings.Cut(k.From, "@"); server == "lid" {
				shown.From.LID = &k.From
			} else {
				phone := "+" + user
				shown.From.Phone = &phone
			}
		}
		list = append(list, shown)
	}
	return list
}

// reacted is the data of the event that m, a reaction, is done: with the message that it is about, or with itself.
func (m *Message) reacted(shown webhook.Message) webhook.Reacted {
	r := webhook.Reaction{FromMe: m.Direction == Outbound, Emoji: m.Content, Removed: m.Content == "", At: happened(m)}
	if m.FromNumber != nil || m.FromLID != nil {
		r.From = &webhook.Contact{Phone: m.FromNumber, LID: m.FromLID, Name: m.FromName}
	}
	return webhook.Reacted{Message: shown, Reaction: r}
}

func priorityName(p int16) string {
	if p > 0 {
		return "high"
	}
	return "normal"
}

// Waits tells why a message that is not settled waits in its session, "" if it doesn't.
func (m *Message) Waits(s *Session, now time.Time) string {
	pending := m.Status == MessagePending
	switch {
	case Final(m.Status):
		return ""
	case s.Status != SessionConnected:
		return "session"
	case s.HeldBack:
		return waitingAdministrator
	case s.Paused():
		return "paused"
	case m.SendAt != nil && m.SendAt.After(now) && pending:
		return "schedule"
	case m.WaitingFor != nil:
		return *m.WaitingFor
	case m.NextAttemptAt != nil && m.NextAttemptAt.After(now):
		return "retry"
	case !pending:
		return ""
	case s.CoolingDown(now):
		return waitingCooldown
	case s.Pace().Rate > 0:
		return waitingPacing
	}
	return "turn"
}

// MessageOf finds a message of a user, or of one of his sessions where session is given.
func MessageOf(ctx context.Context, db bun.IDB, user uuid.UUID, session *uuid.UUID, id uuid.UUID) (*Message, *Session, error) {
	m := new(Message)
	if err := db.NewSelect().Model(m).Where("id = ?", id).Scan(ctx); err != nil {
		return nil, nil, err
	}
	s := new(Session)
	q := db.NewSelect().Model(s).Apply(withHeldBack).Where("uid = ?", m.SessionUID).Where("user_id = ?", user)
	if session != nil {
		q = q.Where("uid = ?", *session)
	}
	return m, s, q.Scan(ctx)
}

// MessageStates reads the status of a few messages at once, for those who wait for an end.
func MessageStates(ctx context.Context, q Querier, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	rows, err := q.Query(ctx, `SELECT id, status FROM messages WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	states := make(map[uuid.UUID]string, len(ids))
	for rows.Next() {
		var id uuid.UUID
		var status string
		if err := rows.Scan(&id, &status); err != nil {
			return nil, err
		}
		states[id] = status
	}
	return states, rows.Err()
}

// CancelMessage takes back a message that was never tried, and returns the webhooks to wake. It says whether it was in
// time.
func CancelMessage(ctx context.Context, db *DB, m *Message, sessionID string) (ok bool, woken []Woken, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		c := *m
		held := false
		err := tx.QueryRow(ctx, `UPDATE messages m SET status = 'CANCELLED', next_attempt_at = NULL, waiting_for = NULL, error_code = NULL, error_message = NULL, finished_at = now(), updated_at = now()
			FROM (SELECT id, next_attempt_at FROM messages WHERE id = $1 AND status = 'PENDING' FOR NO KEY UPDATE) f WHERE m.id = $1 AND f.id = m.id AND m.status = 'PENDING'
			RETURNING m.status, m.finished_at, f.next_attempt_at IS NOT NULL`, m.ID).Scan(&c.Status, &c.FinishedAt, &held)
		if ok, err = Found(err); err != nil || !ok {
			return cmp.Or(err, errNothingDone)
		}
		c.WaitingFor, c.NextAttemptAt, c.ErrorCode, c.ErrorMessage = nil, nil, nil, nil
		if held { // it blocked its chat
			if err := LanesDue(ctx, tx, []uuid.UUID{m.SessionUID}); err != nil {
				return err
			}
		}
		woken, err = Emit(ctx, tx, []Event{{Session: m.SessionUID, Type: eventOf[MessageCancelled], Data: c.Resource(sessionID), At: *c.FinishedAt}})
		return err
	})
	if errors.Is(err, errNothingDone) {
		err = nil
	}
	return ok, woken, err
}
