package models

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// StreamGrant is what must stay true for a stream to go on.
type StreamGrant struct {
	User    uuid.UUID  // active
	Version *int       // of the user's tokens; nil if no token opened the stream
	Key     *uuid.UUID // active and not expired, and may read
	Session *uuid.UUID // not deleted
	Link    *uuid.UUID // still the session's

	KeyVersion *int // of the key's secret: it is good still; nil if no key opened the stream
	Manage     bool // the key may manage too
}

// RevokedGrants returns the places in the list of those that hold no more.
func RevokedGrants(ctx context.Context, q Querier, grants []StreamGrant) ([]int, error) {
	n := len(grants)
	users, versions, keys := make([]uuid.UUID, n), make([]*int, n), make([]*uuid.UUID, n)
	sessions, links := make([]*uuid.UUID, n), make([]*uuid.UUID, n)
	secrets, manage := make([]*int, n), make([]bool, n)
	for i, g := range grants {
		users[i], versions[i], keys[i], sessions[i], links[i] = g.User, g.Version, g.Key, g.Session, g.Link
		secrets[i], manage[i] = g.KeyVersion, g.Manage
	}
	rows, err := q.Query(ctx, `SELECT g.ord - 1 FROM unnest($1::uuid[], $2::int[], $3::uuid[], $4::uuid[], $5::uuid[], $6::int[], $7::bool[])
			WITH ORDINALITY AS g (user_id, version, key_id, session_uid, link_id, secret, manage, ord)
		WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = g.user_id AND u.is_active AND u.token_version = coalesce(g.version, u.token_version))
		   OR g.key_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM api_keys k WHERE k.id = g.key_id AND k.is_active AND (k.expires_at IS NULL OR k.expires_at > now())
			AND (coalesce(g.secret, k.secret_version) = k.secret_version OR g.secret = k.secret_version - 1 AND k.former_until > now())
			AND 'read' = ANY (k.scopes) AND (NOT g.manage OR 'manage' = ANY (k.scopes)))
		   OR g.session_uid IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.uid = g.session_uid AND s.deleted_at IS NULL)
		   OR g.link_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM session_links l WHERE l.session_uid = g.session_uid AND l.id = g.link_id)`,
		users, versions, keys, sessions, links, secrets, manage)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// StreamTicket opens one stream of what its maker may read.
type StreamTicket struct {
	Grant      StreamGrant // Session: the one that it is for, nil for all of the user's
	Until      *time.Time  // when the maker's token or key ends
	Credential string      // what its streams count for
}

// Prefixes of secrets that stand in addresses, so that a leaked one tells what it opens.
const (
	ticketPrefix = "kut_"
	linkPrefix   = "kul_"
	tokenPrefix  = "kum_" // mailed
)

// newSecret makes 32 random bytes behind a prefix, and the hash under which they are stored.
func newSecret(prefix string) (secret string, hash []byte) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails, see crypto/rand
	secret = prefix + base64.RawURLEncoding.EncodeToString(raw)
	return secret, HashKey(secret)
}

// maxTickets is how many unused tickets a user can have; another one takes the place of the oldest.
const maxTickets = 100

// NewStreamTicket stores a ticket and returns its secret, and until when it is good. It removes what nobody used in time.
func NewStreamTicket(ctx context.Context, q Querier, t *StreamTicket, lifetime time.Duration) (secret string, expires time.Time, err error) {
	secret, hash := newSecret(ticketPrefix)
	g := &t.Grant
	if _, err = q.Exec(ctx, `DELETE FROM stream_tickets WHERE hash IN (SELECT hash FROM stream_tickets WHERE user_id = $1 AND expires_at <= now()
		UNION ALL (SELECT hash FROM stream_tickets WHERE user_id = $1 ORDER BY expires_at DESC OFFSET $2))`, g.User, maxTickets-1); err != nil {
		return "", expires, err
	}
	err = q.QueryRow(ctx, `INSERT INTO stream_tickets (hash, user_id, session_uid, key_id, token_version, token_until, credential, expires_at, key_version, manage)
		VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval, $9, $10) RETURNING expires_at`,
		hash, g.User, g.Session, g.Key, g.Version, t.Until, t.Credential, lifetime, g.KeyVersion, g.Manage).Scan(&expires)
	return secret, expires, err
}

// TakeStreamTicket uses a ticket up: whichever process asks first has it. ok is false if it is unknown, used or expired, or
// if its maker's credential is good no more.
func TakeStreamTicket(ctx context.Context, q Querier, secret string) (t *StreamTicket, ok bool, err error) {
	t = &StreamTicket{}
	g := &t.Grant
	ok, err = Found(q.QueryRow(ctx, `DELETE FROM stream_tickets WHERE hash = $1 AND expires_at > now()
		RETURNING user_id, session_uid, key_id, token_version, token_until, credential, key_version, manage`, HashKey(secret)).
		Scan(&g.User, &g.Session, &g.Key, &g.Version, &t.Until, &t.Credential, &g.KeyVersion, &g.Manage))
	if err != nil || !ok || t.Until != nil && t.Until.Before(time.Now()) {
		return nil, false, err
	}
	revoked, err := RevokedGrants(ctx, q, []StreamGrant{*g})
	return t, len(revoked) == 0 && err == nil, err
}
