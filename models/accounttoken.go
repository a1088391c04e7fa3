package models

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
)

// What a mailed token is for.
const (
	TokenReset  = "RESET"  // of the password
	TokenVerify = "VERIFY" // of a mail address
)

// How long they are good.
const (
	ResetLifetime  = time.Hour
	VerifyLifetime = 24 * time.Hour
)

// ErrMailedToken says that a mailed token opens nothing, or no longer.
var ErrMailedToken = fault.New(fault.Invalid, "invalid_mail_token", "This link or code was used, has expired, or was replaced by a change of the account. Ask for a new one.")

// NewMailedToken makes a token that is mailed to an address of a user's, while the account is open and the address his. Where a mail has
// to be sent again, another one is made beside it: nobody knows whether the first one arrived.
func NewMailedToken(ctx context.Context, q Querier, user uuid.UUID, purpose, email string) (secret string, err error) {
	lifetime := ResetLifetime
	if purpose == TokenVerify {
		lifetime = VerifyLifetime
	}
	secret, hash := newSecret(tokenPrefix)
	tag, err := q.Exec(ctx, `INSERT INTO account_tokens (hash, user_id, purpose, email, expires_at)
		SELECT $1, id, $3, $4, now() + make_interval(secs => $5) FROM users
		WHERE id = $2 AND is_active AND ($4 = email OR $3 = 'VERIFY' AND $4 = pending_email) FOR KEY SHARE`, hash, user, purpose, email, lifetime.Seconds())
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrMailedToken
	}
	return secret, err
}

// MailedTokenOwner finds whose token it is, without using it. ErrMailedToken: nobody's.
func MailedTokenOwner(ctx context.Context, db *DB, purpose, secret string) (*User, error) {
	var id uuid.UUID
	err := db.Pool.QueryRow(ctx, `SELECT t.user_id FROM account_tokens t JOIN users u ON u.id = t.user_id
		WHERE t.hash = $1 AND t.purpose = $2 AND t.expires_at > now() AND u.is_active`, HashKey(secret), purpose).Scan(&id)
	if err := tokenFound(err); err != nil {
		return nil, err
	}
	u, err := UserByID(ctx, db, id)
	return u, tokenFound(err)
}

func tokenFound(err error) error {
	if ok, err := Found(err); err != nil || ok {
		return err
	}
	return ErrMailedToken
}

// byToken locks the account of a mailed token and uses the token up: one of several who show it at once has it. It returns the
// address that it was mailed to.
func byToken(ctx context.Context, tx pgx.Tx, user uuid.UUID, purpose, secret string) (u *User, email string, err error) {
	u, err = lockAccount(ctx, tx, user)
	if errors.Is(err, ErrAccountChanged) {
		err = ErrMailedToken
	}
	if err != nil {
		return nil, "", err
	}
	err = tx.QueryRow(ctx, `DELETE FROM account_tokens WHERE hash = $1 AND user_id = $2 AND purpose = $3 AND expires_at > now() RETURNING email`,
		HashKey(secret), user, purpose).Scan(&email)
	return u, email, tokenFound(err)
}

// endTokens makes worthless whatever was mailed to a user.
func endTokens(ctx context.Context, q Querier, user uuid.UUID) error {
	_, err := q.Exec(ctx, `DELETE FROM account_tokens WHERE user_id = $1`, user)
	return err
}
