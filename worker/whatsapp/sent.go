package whatsapp

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// Phones ask again for messages that they could not read within days; the gateway asks within the life of a message.
const (
	keepSent  = 14 * 24 * time.Hour
	keepPolls = 90 * 24 * time.Hour
	keepMade  = 7 * 24 * time.Hour // keys of groups
)

// kept finds a message that was begun before, by this worker or another one, and when it was accepted, if it was. It goes out
// as it was then: made anew, it could have another content. Nil: it is new.
func (h *holder) kept(ctx context.Context, id string) (m *waE2E.Message, accepted time.Time, err error) {
	var text []byte
	var sent sql.NullTime
	err = h.db.QueryRowContext(ctx, "SELECT message, sent_at FROM kurir_sent WHERE session = $1 AND id = $2", h.session, id).Scan(&text, &sent)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, accepted, nil
	}
	if err != nil {
		return nil, accepted, err
	}
	m = new(waE2E.Message)
	return m, sent.Time, proto.Unmarshal(text, m)
}

// begin keeps a message before it goes out, so that any worker can send it again. The fence refuses a holder that is none any more.
func (h *holder) begin(ctx context.Context, id, chat string, m *waE2E.Message) error {
	text, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = h.db.ExecContext(ctx, "INSERT INTO kurir_sent (session, id, chat, message) VALUES ($1, $2, $3, $4)", h.session, id, chat, text)
	if isFenced(err) {
		return errSuperseded
	}
	return err
}

// again is begin for a message that was kept.
func (h *holder) again(ctx context.Context, id string) error {
	_, err := h.db.ExecContext(ctx, "UPDATE kurir_sent SET begun_at = begun_at WHERE session = $1 AND id = $2", h.session, id)
	if isFenced(err) {
		return errSuperseded
	}
	return err
}

// accepted notes WhatsApp's time of acceptance.
func (h *holder) accepted(ctx context.Context, id string, at time.Time) error {
	_, err := h.db.ExecContext(ctx, "UPDATE kurir_sent SET sent_at = $3 WHERE session = $1 AND id = $2", h.session, id, at)
	return err
}

// refused forgets a message that never went out.
func (h *holder) refused(ctx context.Context, id string) error {
	_, err := h.db.ExecContext(ctx, "DELETE FROM kurir_sent WHERE session = $1 AND id = $2 AND sent_at IS NULL", h.session, id)
	return err
}

// message finds what was sent under an ID, nil: nothing, or it is too long ago.
func (h *holder) message(ctx context.Context, id string) (*waE2E.Message, error) {
	m, _, err := h.kept(ctx, id)
	return m, err
}

// sentTo is message with the chat that it was for.
func (h *holder) sentTo(ctx context.Context, id string) (m *waE2E.Message, chat types.JID, err error) {
	var text []byte
	var to string
	err = h.db.QueryRowContext(ctx, "SELECT message, chat FROM kurir_sent WHERE session = $1 AND id = $2", h.session, id).Scan(&text, &to)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, chat, nil
	}
	if err == nil {
		chat, err = types.ParseJID(to)
	}
	if err != nil {
		return nil, chat, err
	}
	m = new(waE2E.Message)
	return m, chat, proto.Unmarshal(text, m)
}

// written lists people whom the session has written to.
func (h *holder) written(ctx context.Context) ([]string, error) {
	rows, err := h.db.QueryContext(ctx, "SELECT DISTINCT chat FROM kurir_sent WHERE session = $1 AND sent_at IS NOT NULL", h.session)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var chat string
		if err := rows.Scan(&chat); err != nil {
			return nil, err
		}
		list = append(list, chat)
	}
	return list, rows.Err()
}

// keepPoll remembers the options of a poll, so that votes can be read.
func (h *holder) keepPoll(ctx context.Context, id string, options []string) error {
	_, err := h.db.ExecContext(ctx, "INSERT INTO kurir_polls (session, id, options) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", h.session, id, options)
	return err
}

// poll is the options of a poll, nil: it is not known.
func (h *holder) poll(ctx context.Context, id string) (options []string, err error) {
	rows, err := h.db.QueryContext(ctx, "SELECT unnest(options) FROM kurir_polls WHERE session = $1 AND id = $2", h.session, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var option string
		if err := rows.Scan(&option); err != nil {
			return nil, err
		}
		options = append(options, option)
	}
	return options, rows.Err()
}

// keepGroup remembers which group was made for a key.
func (h *holder) keepGroup(ctx context.Context, key, jid string) error {
	_, err := h.db.ExecContext(ctx, "INSERT INTO kurir_groups (session, key, jid) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", h.session, key, jid)
	return err
}

// madeGroup is the group that was made for a key, "" if none was.
func (h *holder) madeGroup(ctx context.Context, key string) (jid string, err error) {
	err = h.db.QueryRowContext(ctx, "SELECT jid FROM kurir_groups WHERE session = $1 AND key = $2", h.session, key).Scan(&jid)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return jid, err
}
