package whatsapp

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"go.mau.fi/whatsmeow/types"
)

// holder is one session at one epoch, in the database. Whatever it changes, it changes as long as no later epoch has claimed
// the session.
type holder struct {
	db      *sql.DB // fenced
	session string
	epoch   int64
}

// errSuperseded says that a later epoch holds the session.
var errSuperseded = errors.New("another worker holds the session")

// claim takes the session for this epoch, and answers which device it is, if any. From then on no earlier holder can change
// anything. It may be repeated.
func (h *holder) claim(ctx context.Context) (device types.JID, err error) {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return device, fmt.Errorf("claim the session: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1::int, hashtext($2))", claimLock, h.session); err != nil {
		return device, fmt.Errorf("wait for the holder before: %w", err)
	}
	var jid sql.NullString
	err = tx.QueryRowContext(ctx, `INSERT INTO kurir_sessions AS s (session, epoch) VALUES ($1, $2)
		ON CONFLICT (session) DO UPDATE SET epoch = $2, changed_at = now() WHERE s.epoch <= $2 RETURNING jid`, h.session, h.epoch).Scan(&jid)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return device, errSuperseded
	case err != nil:
		return device, fmt.Errorf("claim the session: %w", err)
	}
	if jid.Valid {
		if device, err = types.ParseJID(jid.String); err != nil {
			return device, fmt.Errorf("the session's device: %w", err)
		}
	}
	return device, tx.Commit()
}

// current reports whether no later epoch has claimed the session.
func (h *holder) current(ctx context.Context) (bool, error) {
	var epoch int64
	err := h.db.QueryRowContext(ctx, "SELECT epoch FROM kurir_sessions WHERE session = $1", h.session).Scan(&epoch)
	return epoch == h.epoch, err
}

// adopt makes a device that is about to be linked the session's. What is there under the same address, or of the session's
// former device, WhatsApp has forgotten: its keys would mix with the new ones. Privacy tokens are in the one table that does not
// go with its device.
func (h *holder) adopt(ctx context.Context, device types.JID) error {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	for _, s := range []struct {
		statement string
		args      []any
	}{
		{"DELETE FROM whatsmeow_privacy_tokens WHERE our_jid = $2 OR our_jid = (SELECT jid FROM kurir_sessions WHERE session = $1)", []any{h.session, device.String()}},
		{"DELETE FROM whatsmeow_device WHERE jid = $2 OR jid = (SELECT jid FROM kurir_sessions WHERE session = $1)", []any{h.session, device.String()}},
		{"UPDATE kurir_sessions SET jid = NULL, changed_at = now() WHERE jid = $1", []any{device.String()}},
		{"UPDATE kurir_sessions SET jid = $2, changed_at = now() WHERE session = $1", []any{h.session, device.String()}},
	} {
		if _, err := tx.ExecContext(ctx, s.statement, s.args...); isFenced(err) {
			return errSuperseded
		} else if err != nil {
			return err
		}
	}
	return tx.Commit()
}

// forget lets go of the session's device, and of what was sent from it.
func (h *holder) forget(ctx context.Context) error {
	r, err := h.db.ExecContext(ctx, `WITH gone AS (DELETE FROM whatsmeow_device WHERE jid IN (SELECT jid FROM kurir_sessions WHERE session = $1)),
		tokens AS (DELETE FROM whatsmeow_privacy_tokens WHERE our_jid IN (SELECT jid FROM kurir_sessions WHERE session = $1)),
		sent AS (DELETE FROM kurir_sent WHERE session = $1), polls AS (DELETE FROM kurir_polls WHERE session = $1), made AS (DELETE FROM kurir_groups WHERE session = $1)
		UPDATE kurir_sessions SET jid = NULL, changed_at = now() WHERE session = $1 AND epoch = $2`, h.session, h.epoch)
	if isFenced(err) {
		return errSuperseded
	}
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(errSuperseded, err)
	}
	return nil
}
