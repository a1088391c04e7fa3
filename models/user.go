package models

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// Roles of users.
const (
	RoleUser          = "USER"
	RoleAdministrator = "ADMINISTRATOR"
)

// User is a tenant, or an administrator of the platform.
type User struct {
	bun.BaseModel `bun:"table:users,alias:u"`

	ID           uuid.UUID `bun:",pk,type:uuid"`
	Name         string
	Email        string // lower case
	PasswordHash string
	Role         string
	Tier         string
	IsActive     bool
	TokenVersion int // raising it revokes every token
	LastLoginAt  *time.Time
	CreatedAt    time.Time
	UpdatedAt    time.Time

	EmailVerifiedAt    *time.Time
	MaxSessions        *int       // instead of the tier's
	MaxMessagesPerHour *int       // instead of the tier's
	SendingPausedAt    *time.Time // since then an administrator has nothing of this user sent

	MustVerifyEmail   bool       // sends nothing and does not log in before EmailVerifiedAt, where that is demanded
	PendingEmail      *string    // takes the place of Email when it is proved
	PasswordChangedAt *time.Time // nil: never
	ClosedAt          *time.Time // the account is being closed: the row names nobody any more
}

// InsertUser adds a user. A mail address that is taken breaks "users_email_key".
func InsertUser(ctx context.Context, db bun.IDB, u *User) error {
	_, err := db.NewInsert().Model(u).Exec(ctx)
	return err
}

// UserByEmail finds a user by mail address, which must be lower case.
func UserByEmail(ctx context.Context, db bun.IDB, email string) (*User, error) {
	u := new(User)
	err := db.NewSelect().Model(u).Where("email = ?", email).Scan(ctx)
	return u, err
}

// UserByID finds a user.
func UserByID(ctx context.Context, db bun.IDB, id uuid.UUID) (*User, error) {
	u := new(User)
	err := db.NewSelect().Model(u).Where("id = ?", id).Scan(ctx)
	return u, err
}

// LockUser reads a user and holds the row until the end of the transaction: whoever counts what a user has, and adds to
// it, does so under this lock.
func LockUser(ctx context.Context, tx bun.Tx, id uuid.UUID) (*User, error) {
	u := new(User)
	err := tx.NewSelect().Model(u).Where("id = ?", id).For("NO KEY UPDATE").Scan(ctx)
	return u, err
}

// TouchLogin remembers when a user logged in.
func TouchLogin(ctx context.Context, db bun.IDB, id uuid.UUID) error {
	_, err := db.NewUpdate().Model((*User)(nil)).Set("last_login_at = now()").Where("id = ?", id).Exec(ctx)
	return err
}

// RevokeTokens makes every token of a user invalid, on all API processes.
func RevokeTokens(ctx context.Context, db bun.IDB, id uuid.UUID) error {
	_, err := db.NewUpdate().Model((*User)(nil)).
		Set("token_version = token_version + 1, updated_at = now()").Where("id = ?", id).Exec(ctx)
	return err
}

// HasAdministrator reports whether there is an active administrator.
func HasAdministrator(ctx context.Context, db bun.IDB) (bool, error) {
	return db.NewSelect().Model((*User)(nil)).Where("role = ?", RoleAdministrator).Where("is_active").Exists(ctx)
}

// MaxName is how many characters a user's name has at most.
const MaxName = 200

// DefaultName is what a user is called who gives no name: his mail address up to its @.
func DefaultName(email string) string {
	name, _, _ := strings.Cut(email, "@")
	return name[:min(len(name), MaxName)]
}
