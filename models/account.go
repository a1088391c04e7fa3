package models

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
)

// Faults of changes of an account.
var (
	ErrEmailTaken        = fault.New(fault.Conflict, "email_taken", "There is an account with this mail address already.")
	ErrLastAdministrator = fault.New(fault.Conflict, "last_administrator", "This is the last administrator. Make another one first.")
	ErrAccountChanged    = fault.New(fault.Conflict, "account_changed", "The account was changed at the same moment. Read it and try again.")
)

// lockAccount locks an account that is open. Changes of its credentials and addresses follow one another.
func lockAccount(ctx context.Context, tx pgx.Tx, id uuid.UUID) (*User, error) {
	u := &User{ID: id}
	err := tx.QueryRow(ctx, `SELECT name, email, pending_email, password_hash, role, email_verified_at, must_verify_email
		FROM users WHERE id = $1 AND is_active FOR NO KEY UPDATE`, id).
		Scan(&u.Name, &u.Email, &u.PendingEmail, &u.PasswordHash, &u.Role, &u.EmailVerifiedAt, &u.MustVerifyEmail)
	if ok, err := Found(err); err != nil || ok {
		return u, err
	}
	return nil, ErrAccountChanged
}

// ChangePassword replaces a password, if its hash is still the one that the caller knows. All tokens of the account end, mailed
// ones too; API keys go on. It returns the version of tokens from now on.
func ChangePassword(ctx context.Context, tx pgx.Tx, user uuid.UUID, former, hash string) (version int, err error) {
	u, err := lockAccount(ctx, tx, user)
	if err != nil {
		return 0, err
	}
	if u.PasswordHash != former {
		return 0, ErrAccountChanged
	}
	return setPassword(ctx, tx, user, hash, AboutPassword{})
}

// ResetPassword does so for whoever shows a token that was mailed for it. He has the mailbox, which so is proved; an address that
// was to take its place, perhaps by whoever knew the former password, is forgotten. Where it was never proved before, somebody else may
// have opened the account with it: keys end too, which it says.
func ResetPassword(ctx context.Context, tx pgx.Tx, user uuid.UUID, secret, hash string) (keysEnded bool, err error) {
	u, email, err := byToken(ctx, tx, user, TokenReset, secret)
	switch {
	case err != nil:
		return false, err
	case email != u.Email:
		return false, ErrMailedToken
	}
	if _, err := tx.Exec(ctx, `UPDATE users SET email_verified_at = coalesce(email_verified_at, now()), pending_email = NULL WHERE id = $1`, user); err != nil {
		return false, err
	}
	unproved := u.EmailVerifiedAt == nil && u.Role != RoleAdministrator // those were made by whoever runs the installation
	if unproved {
		if err := endCredentials(ctx, tx, user); err != nil {
			return false, err
		}
	}
	_, err = setPassword(ctx, tx, user, hash, AboutPassword{ByReset: true, KeysEnded: unproved})
	return unproved, err
}

// endCredentials ends what whoever opened an account may have kept of it, with an address that nobody had proved to be his: keys of
// the account and of its sessions, tickets, and where he had events delivered to.
func endCredentials(ctx context.Context, tx pgx.Tx, user uuid.UUID) error {
	for _, statement := range []string{
		`UPDATE api_keys SET is_active = false, deactivated_at = now(), former_hash = NULL, former_until = NULL WHERE user_id = $1 AND is_active`,
		`DELETE FROM stream_tickets WHERE user_id = $1`,
	} {
		if _, err := tx.Exec(ctx, statement, user); err != nil {
			return err
		}
	}
	rows, err := tx.Query(ctx, `UPDATE webhooks SET is_active = false, updated_at = now() WHERE user_id = $1 AND is_active RETURNING id`, user)
	if err != nil {
		return err
	}
	lanes, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil || len(lanes) == 0 {
		return err
	}
	return setOpen(ctx, tx, lanes, false)
}

func setPassword(ctx context.Context, tx pgx.Tx, user uuid.UUID, hash string, about AboutPassword) (version int, err error) {
	var email string
	err = tx.QueryRow(ctx, `UPDATE users SET password_hash = $2, token_version = token_version + 1, password_changed_at = now(), updated_at = now()
		WHERE id = $1 RETURNING token_version, email`, user, hash).Scan(&version, &email)
	if err != nil {
		return 0, err
	}
	if err := endTokens(ctx, tx, user); err != nil {
		return 0, err
	}
	ok, err := withinQuota(ctx, tx, LetterPasswordChanged+" "+email, lettersAsked)
	if err != nil || !ok {
		return version, err
	}
	return version, QueueLetter(ctx, tx, user, LetterPasswordChanged, about)
}

// ProfileChange is what a user changes of his account.
type ProfileChange struct {
	Name  *string
	Email *string
	Prove bool // a new address takes its place when it is proved, not before
}

// addressChanges is how often a user may ask for another address within an hour.
const addressChanges = 5

// ErrAddressChanges says that a user has asked for other addresses too often.
var ErrAddressChanges = fault.New(fault.Limited, "address_change_limit", "The mail address of an account can be changed 5 times per hour.")

// MayChangeAddress counts a user's wish for another address, whatever becomes of it: each may cost somebody a letter, and tells whether
// there is an account with that address.
func MayChangeAddress(ctx context.Context, q Querier, user uuid.UUID) error {
	subject := "address of " + user.String()
	ok, err := withinQuota(ctx, q, subject, addressChanges)
	if err != nil || ok {
		return err
	}
	var left float64
	err = q.QueryRow(ctx, `SELECT greatest(extract(epoch FROM since - now()) + $2, 1)::float8 FROM letter_quotas WHERE subject = $1`,
		quotaSubject(subject), quotaWindow.Seconds()).Scan(&left)
	if _, err := Found(err); err != nil {
		return err
	}
	return ErrAddressChanges.After(time.Duration(max(left, 1) * float64(time.Second)))
}

// ChangeProfile changes an account. Whoever had the former address is told of a new one, and what was mailed to him opens nothing
// any more.
func ChangeProfile(ctx context.Context, tx pgx.Tx, vault *Vault, user uuid.UUID, c ProfileChange) error {
	u, err := lockAccount(ctx, tx, user)
	if err != nil {
		return err
	}
	if c.Name != nil {
		if _, err := tx.Exec(ctx, `UPDATE users SET name = $2, updated_at = now() WHERE id = $1`, user, *c.Name); err != nil {
			return err
		}
	}
	switch {
	case c.Email == nil:
		return nil
	case *c.Email == u.Email: // what was pending is taken back
		return pend(ctx, tx, user, nil)
	case !c.Prove:
		return moveTo(ctx, tx, vault, u, *c.Email, false)
	}
	var taken bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE email = $1)`, *c.Email).Scan(&taken); err != nil {
		return err
	}
	if taken {
		return ErrEmailTaken
	}
	if err := pend(ctx, tx, user, c.Email); err != nil {
		return err
	}
	return QueueProof(ctx, tx, user, *c.Email)
}

// pend notes the address that is to be proved. Proofs of another one end.
func pend(ctx context.Context, tx pgx.Tx, user uuid.UUID, email *string) error {
	if _, err := tx.Exec(ctx, `UPDATE users SET pending_email = $2, updated_at = now() WHERE id = $1 AND pending_email IS DISTINCT FROM $2`, user, email); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM account_tokens WHERE user_id = $1 AND purpose = 'VERIFY' AND email IS DISTINCT FROM $2
		AND email <> (SELECT email FROM users WHERE id = $1)`, user, email)
	return err
}

// moveTo gives a locked account another address.
func moveTo(ctx context.Context, tx pgx.Tx, vault *Vault, u *User, email string, proved bool) error {
	_, err := tx.Exec(ctx, `UPDATE users SET email = $2, pending_email = NULL, email_verified_at = CASE WHEN $3 THEN now() END, updated_at = now() WHERE id = $1`, u.ID, email, proved)
	if IsUnique(err, "users_email_key") {
		return ErrEmailTaken
	}
	if err != nil {
		return err
	}
	if err := endTokens(ctx, tx, u.ID); err != nil {
		return err
	}
	ok, err := withinQuota(ctx, tx, LetterEmailChanged+" "+u.Email, lettersAsked)
	if err != nil || !ok {
		return err
	}
	return QueueLetterTo(ctx, tx, vault, u.Email, u.ID, LetterEmailChanged, nil)
}

// VerifyEmail takes the proof of an address: that of the account, or the one that is to take its place.
func VerifyEmail(ctx context.Context, tx pgx.Tx, vault *Vault, user uuid.UUID, secret string) error {
	u, email, err := byToken(ctx, tx, user, TokenVerify, secret)
	switch {
	case err != nil:
		return err
	case u.PendingEmail != nil && *u.PendingEmail == email:
		return moveTo(ctx, tx, vault, u, email, true)
	case u.Email != email:
		return ErrMailedToken
	}
	if _, err := tx.Exec(ctx, `UPDATE users SET email_verified_at = coalesce(email_verified_at, now()), updated_at = now() WHERE id = $1`, user); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM account_tokens WHERE user_id = $1 AND purpose = 'VERIFY' AND email = $2`, user, email)
	return err
}

// LockAdministrators makes those wait who would take away an administrator, so that each of them sees how many the others have
// left. The user in question is locked before.
func LockAdministrators(ctx context.Context, q Querier) error {
	_, err := q.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('administrators', 0))`)
	return err
}

// OtherAdministrators says whether there is an active administrator besides a user, and one who can log in: whose address has to be
// proved first can't.
func OtherAdministrators(ctx context.Context, q Querier, besides uuid.UUID) (there bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE role = 'ADMINISTRATOR' AND is_active AND id <> $1
		AND (NOT must_verify_email OR email_verified_at IS NOT NULL))`, besides).Scan(&there)
	return there, err
}

// KindCloseAccount is the kind of the jobs that remove what a closed account leaves.
const KindCloseAccount = "account:close"

// Closing are their parameters.
type Closing struct {
	User uuid.UUID `json:"user"`
}

// CloseAccount ends an account: from here on no credential of it is good, its address is free, and its row names nobody. The job
// that it adds removes the rest, and at last the row.
func CloseAccount(ctx context.Context, tx pgx.Tx, user uuid.UUID) (job uuid.UUID, err error) {
	u, err := lockAnyAccount(ctx, tx, user)
	if err != nil {
		return job, err
	}
	if u.Role == RoleAdministrator && u.IsActive {
		if err := keepAdministrator(ctx, tx, user); err != nil {
			return job, err
		}
	}
	for _, statement := range []string{
		`UPDATE users SET is_active = false, closed_at = now(), updated_at = now(), token_version = token_version + 1, email = id || '@closed.invalid',
			name = 'Closed account', password_hash = '', pending_email = NULL, email_verified_at = NULL, last_login_at = NULL WHERE id = $1`,
		`UPDATE api_keys SET is_active = false, deactivated_at = now() WHERE user_id = $1 AND is_active`,
		`UPDATE sessions SET suspended_at = NULL WHERE user_id = $1 AND suspended_at IS NOT NULL`,
		`DELETE FROM account_tokens WHERE user_id = $1`,
		`DELETE FROM stream_tickets WHERE user_id = $1`,
	} {
		if _, err := tx.Exec(ctx, statement, user); err != nil {
			return job, err
		}
	}
	job = NewID()
	return job, AddNotice(ctx, tx, job, KindCloseAccount, Closing{User: user})
}

// lockAnyAccount locks an account that is not closed, deactivated ones too.
func lockAnyAccount(ctx context.Context, tx pgx.Tx, id uuid.UUID) (*User, error) {
	u := &User{ID: id}
	err := tx.QueryRow(ctx, `SELECT role, is_active FROM users WHERE id = $1 AND closed_at IS NULL FOR NO KEY UPDATE`, id).Scan(&u.Role, &u.IsActive)
	if ok, err := Found(err); err != nil || ok {
		return u, err
	}
	return nil, ErrAccountChanged
}
