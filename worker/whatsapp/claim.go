package whatsapp

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.mau.fi/whatsmeow/types"
)

// holder is one session at one epoch, in the database. Whatever it changes, it changes as long as no later epoch has claimed
// the session, and no other session its device.
type holder struct {
	db      *sql.DB // fenced
	session string
	epoch   int64
	device  atomic.Value // string: which one it is, as far as it knows
}

func newHolder(pool *pgxpool.Pool, session string, epoch int64) *holder {
	h := &holder{session: session, epoch: epoch}
	h.device.Store(noDevice)
	h.db = fenced(pool, fenceOf(session, epoch), func() string { return h.device.Load().(string) })
	return h
}

// whichever has a transaction change what is of no device, or of more than one: who holds the session alone decides.
func whichever(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "SELECT set_config('kurir.device', $1, true)", anyDevice)
	return err
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
	if err := tx.Commit(); err != nil {
		return device, err
	}
	h.becomes(jid.String)
	return device, nil
}

// becomes notes which device the session is from now on; "": none.
func (h *holder) becomes(device string) { h.device.Store(cmp.Or(device, noDevice)) }

// current reports whether no later epoch has claimed the session.
func (h *holder) current(ctx context.Context) (bool, error) {
	var epoch int64
	err := h.db.QueryRowContext(ctx, "SELECT epoch FROM kurir_sessions WHERE session = $1", h.session).Scan(&epoch)
	return epoch == h.epoch, err
}

// adopt makes a device that is about to be linked the session's. What is there under the same address, or of the session's
// former device, WhatsApp has forgotten: its keys would mix with the new ones. Who had the address before may not know it yet: from
// then on he changes nothing, and what he has begun is waited for. Privacy tokens are in the one table that does not go with its device.
func (h *holder) adopt(ctx context.Context, device types.JID) error {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := whichever(ctx, tx); err != nil {
		return err
	}
	for _, s := range []struct {
		statement string
		args      []any
	}{
		{"SELECT pg_advisory_xact_lock($1::int, hashtext(session)) FROM kurir_sessions WHERE jid = $2 AND session <> $3", []any{claimLock, device.String(), h.session}},
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
	if err := tx.Commit(); err != nil {
		return err
	}
	h.becomes(device.String())
	return nil
}

// forget lets go of the session's device, and of what was sent from it.
func (h *holder) forget(ctx context.Context) error {
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := whichever(ctx, tx); err != nil {
		return err
	}
	r, err := tx.ExecContext(ctx, `WITH gone AS (DELETE FROM whatsmeow_device WHERE jid IN (SELECT jid FROM kurir_sessions WHERE session = $1)),
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
	return tx.Commit()
}
