package models

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// SessionLink is the public page with a session's QR code, with the session as it is now.
type SessionLink struct {
	ID        uuid.UUID
	Language  *string // that its maker chose for it
	ExpiresAt time.Time
	LinkedAt  *time.Time // done
	Session   Session    // only what the page needs
}

// NewSessionLink makes the link of a session, in place of a former one, and returns its secret. There is no row if the session
// is linked to a phone. It locks the session: a scan at the same moment ends the link, or comes before it.
func NewSessionLink(ctx context.Context, q Querier, session uuid.UUID, language *string, lifetime time.Duration) (secret string, expires time.Time, err error) {
	secret, hash := newSecret(linkPrefix)
	err = q.QueryRow(ctx, `INSERT INTO session_links (session_uid, id, hash, language, expires_at)
		SELECT s.uid, $2, $3, $4, now() + $5::interval FROM (
			SELECT uid FROM sessions WHERE uid = $1 AND linked_at IS NULL AND deleted_at IS NULL FOR NO KEY UPDATE) s
		ON CONFLICT (session_uid) DO UPDATE SET id = EXCLUDED.id, hash = EXCLUDED.hash, language = EXCLUDED.language,
			expires_at = EXCLUDED.expires_at, created_at = now(), linked_at = NULL
		RETURNING expires_at`, session, NewID(), hash, language, lifetime).Scan(&expires)
	return secret, expires, err
}

// SessionLinkBySecret finds a link of a session that is not deleted.
func SessionLinkBySecret(ctx context.Context, q Querier, secret string) (*SessionLink, error) {
	l := &SessionLink{}
	s := &l.Session
	err := q.QueryRow(ctx, `SELECT l.id, l.language, l.expires_at, l.linked_at, s.uid, s.user_id, s.status, s.reason, s.desired, s.engine,
			s.phone_number, s.linked_at, s.qr_code, s.qr_expires_at
		FROM session_links l JOIN sessions s ON s.uid = l.session_uid JOIN users u ON u.id = s.user_id
		WHERE l.hash = $1 AND s.deleted_at IS NULL AND u.is_active`, HashKey(secret)).
		Scan(&l.ID, &l.Language, &l.ExpiresAt, &l.LinkedAt, &s.UID, &s.UserID, &s.Status, &s.Reason, &s.Desired, &s.Engine,
			&s.PhoneNumber, &s.LinkedAt, &s.QRCode, &s.QRExpiresAt)
	return l, err
}

// EndSessionLink removes a session's link and says whether there was one.
func EndSessionLink(ctx context.Context, q Querier, session uuid.UUID) (bool, error) {
	tag, err := q.Exec(ctx, `DELETE FROM session_links WHERE session_uid = $1`, session)
	return tag.RowsAffected() > 0, err
}

// queueLinkEnd ends the use of a session's link: a phone has scanned the code. The page goes on to say so until it expires.
func queueLinkEnd(b *pgx.Batch, session uuid.UUID) {
	b.Queue(`UPDATE session_links SET linked_at = now() WHERE session_uid = $1 AND linked_at IS NULL`, session)
}
