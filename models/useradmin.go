package models

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/fault"
)

// ErrNoUser says that there is no such user.
var ErrNoUser = fault.New(fault.NotFound, "user_not_found", "There is no such user.")

// UserFilter chooses users; what is left out does not restrict.
type UserFilter struct {
	Search string // words, each by how it begins, in name or mail address
	Tier   string
	Role   string
	Active *bool
	Sort   string // a field of UserOrders, with "-" before it for the reverse; the newest first if empty
	Limit  int
	Offset int
}

// UserOrders are the fields by which users can be sorted.
var UserOrders = map[string]string{"createdAt": "id", "name": "lower(name)", "email": "email", "lastLoginAt": "last_login_at"}

// ListedUser is a user with what is counted.
type ListedUser struct {
	User         `bun:",extend"`
	SessionCount int
}

const (
	countSessions = `(SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.deleted_at IS NULL) AS session_count`

	// As the index users_words has it.
	userWords = `to_tsvector('simple', kurir_fold(translate(u.name || ' ' || u.email, '@._+-/\:&''', '          ')))`
)

// Users lists users, and counts all that fit.
func Users(ctx context.Context, db bun.IDB, f UserFilter) (list []ListedUser, total int, err error) {
	q := db.NewSelect().Model((*User)(nil)).ColumnExpr("u.*")
	if f.Search != "" {
		words := prefixQuery(f.Search)
		if words == "" {
			return nil, 0, nil
		}
		q = q.Where(userWords+` @@ to_tsquery('simple', kurir_fold(?))`, words)
	}
	q = q.Where("u.closed_at IS NULL")
	if f.Tier != "" {
		q = q.Where("u.tier = ?", f.Tier)
	}
	if f.Role != "" {
		q = q.Where("u.role = ?", f.Role)
	}
	if f.Active != nil {
		q = q.Where("u.is_active = ?", *f.Active)
	}
	n, err := q.Count(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("count users: %w", err)
	}
	order := userOrder(f.Sort)
	page := q.OrderExpr(order).Limit(int64(f.Limit)).Offset(int64(f.Offset))
	// Sessions are counted of those on the page alone, not of all whom it skips.
	err = db.NewSelect().Model(&list).ModelTableExpr("(?) AS u", page).ColumnExpr("u.*").ColumnExpr(countSessions).OrderExpr(order).Scan(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("list users: %w", err)
	}
	return list, int(n), nil
}

// userOrder makes the order total, so that pages neither repeat nor miss anybody.
func userOrder(sort string) string {
	field, direction := strings.TrimPrefix(sort, "-"), "ASC"
	if sort == "" || strings.HasPrefix(sort, "-") {
		direction = "DESC"
	}
	column, known := UserOrders[field]
	if !known || column == "id" {
		return "u.id " + direction
	}
	nulls := ""
	if column == "last_login_at" { // who never came, came before all others
		nulls = map[string]string{"ASC": " NULLS FIRST", "DESC": " NULLS LAST"}[direction]
	}
	return strings.Replace(column, "(name)", "(u.name)", 1) + " " + direction + nulls + ", u.id " + direction
}

// prefixQuery makes of a text the tsquery of all its words, each by how it begins; "" if it has none. Nothing in it can be
// taken for an operator or a wildcard: only letters and digits are left, with the marks on them. Marks alone are no word: folding
// takes them away, and an empty word is no tsquery.
func prefixQuery(text string) string {
	letter := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	var words []string
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !letter(r) && !unicode.IsMark(r) }) {
		if strings.ContainsFunc(word, letter) {
			words = append(words, "'"+word+"':*")
		}
	}
	return strings.Join(words, " & ")
}

// UserWithCount finds a user for an administrator.
func UserWithCount(ctx context.Context, db bun.IDB, id uuid.UUID) (*ListedUser, error) {
	u := new(ListedUser)
	err := db.NewSelect().Model(u).ColumnExpr("u.*").ColumnExpr(countSessions).Where("u.id = ?", id).Where("u.closed_at IS NULL").Scan(ctx)
	return u, err
}

// Override is a limit of a user's own. Set with a nil Value takes it away: his tier's holds again.
type Override struct {
	Set   bool
	Value *int
}

// UserChange is what an administrator changes of a user; what is left out stays.
type UserChange struct {
	Name     *string
	Tier     *string
	Role     *string
	Active   *bool
	Sessions Override
	Messages Override // per hour
}

// ChangeUser changes a user. One who is deactivated loses his tokens for good, and his sessions stop; when he is activated, those
// that ran run again. Sessions beyond a lower tier stay.
func ChangeUser(ctx context.Context, tx pgx.Tx, id uuid.UUID, c UserChange) error {
	var role string
	var active bool
	err := tx.QueryRow(ctx, `SELECT role, is_active FROM users WHERE id = $1 AND closed_at IS NULL FOR NO KEY UPDATE`, id).Scan(&role, &active)
	if ok, err := Found(err); err != nil {
		return fmt.Errorf("change user %s: %w", id, err)
	} else if !ok {
		return ErrNoUser
	}
	leaves := c.Role != nil && *c.Role != RoleAdministrator || c.Active != nil && !*c.Active
	if role == RoleAdministrator && active && leaves {
		if err := keepAdministrator(ctx, tx, id); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, `UPDATE users SET name = coalesce($2, name), tier = coalesce($3, tier), role = coalesce($4, role), is_active = coalesce($5, is_active),
			token_version = token_version + CASE WHEN is_active AND NOT coalesce($5, true) THEN 1 ELSE 0 END,
			max_sessions = CASE WHEN $6 THEN $7 ELSE max_sessions END,
			max_messages_per_hour = CASE WHEN $8 THEN $9 ELSE max_messages_per_hour END, updated_at = now() WHERE id = $1`,
		id, c.Name, c.Tier, c.Role, c.Active, c.Sessions.Set, c.Sessions.Value, c.Messages.Set, c.Messages.Value)
	switch {
	case err != nil:
		return fmt.Errorf("change user %s: %w", id, err)
	case c.Active != nil && active && !*c.Active:
		_, err = suspend(ctx, tx, `user_id = $1`, id)
	case c.Active != nil && !active && *c.Active:
		return unsuspend(ctx, tx, id)
	}
	return err
}

// keepAdministrator makes sure that there is an active administrator without the given one, until the transaction has ended: two
// who take the office from each other come one after the other.
func keepAdministrator(ctx context.Context, tx pgx.Tx, without uuid.UUID) error {
	if err := LockAdministrators(ctx, tx); err != nil {
		return err
	}
	others, err := OtherAdministrators(ctx, tx, without)
	if err == nil && !others {
		return ErrLastAdministrator
	}
	return err
}

// GivePassword replaces a user's password hash, and with it all his tokens, mailed ones too.
func GivePassword(ctx context.Context, tx pgx.Tx, id uuid.UUID, hash string) error {
	if _, err := lockAnyAccount(ctx, tx, id); errors.Is(err, ErrAccountChanged) {
		return ErrNoUser
	} else if err != nil {
		return err
	}
	_, err := setPassword(ctx, tx, id, hash, AboutPassword{})
	return err
}
