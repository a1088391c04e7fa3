package models

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
)

// ErrLastAdministrator keeps the platform from being without anybody who administers it.
var ErrLastAdministrator = fault.New(fault.Conflict, "last_administrator", "This is the last active administrator. Make another one first.")

// LockAdministrators makes those wait who would take away an administrator, so that each of them sees how many the others have
// left. The user in question is locked before.
func LockAdministrators(ctx context.Context, q Querier) error {
	_, err := q.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('administrators', 0))`)
	return err
}

// OtherAdministrators says whether there is an active administrator besides a user.
func OtherAdministrators(ctx context.Context, q Querier, besides uuid.UUID) (there bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE role = 'ADMINISTRATOR' AND is_active AND id <> $1)`, besides).Scan(&there)
	return there, err
}

// KindCloseAccount is the kind of the jobs that remove what a closed account leaves.
const KindCloseAccount = "account:close"

// CloseAccount ends an account: from here on no credential of it is good, its address is free, and its row names nobody. It
// returns the job that removes the rest, uuid.Nil if there is none.
func CloseAccount(ctx context.Context, tx pgx.Tx, user uuid.UUID) (job uuid.UUID, err error) {
	off, role := false, RoleUser
	if err := ChangeUser(ctx, tx, user, UserChange{Active: &off, Role: &role}); err != nil {
		return job, err
	}
	for _, statement := range []string{
		`UPDATE users SET email = id || '@closed.invalid', name = 'Closed account', password_hash = '', email_verified_at = NULL, last_login_at = NULL WHERE id = $1`,
		`UPDATE api_keys SET is_active = false, deactivated_at = now() WHERE user_id = $1 AND is_active`,
		`UPDATE sessions SET suspended_at = NULL WHERE user_id = $1 AND suspended_at IS NOT NULL`,
	} {
		if _, err := tx.Exec(ctx, statement, user); err != nil {
			return job, err
		}
	}
	return job, nil
}
