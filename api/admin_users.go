package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/jobs"
	"kurir/limits"
	"kurir/models"
	"kurir/password"
)

// AdminUser is a user as administrators see him.
type AdminUser struct {
	UserResource
	Sessions        int        `json:"sessions" doc:"Sessions that are not deleted" example:"3"`
	Limits          UserLimits `json:"limits" doc:"What holds for him"`
	Overrides       UserLimits `json:"overrides" doc:"What an administrator set instead of his tier's; null: the tier's holds"`
	SendingPausedAt *time.Time `json:"sendingPausedAt" doc:"Since then an administrator has nothing of his sent"`
	UpdatedAt       time.Time  `json:"updatedAt"`
}

// UserLimits are numbers of sessions, and of messages in an hour.
type UserLimits struct {
	Sessions        *int `json:"sessions" example:"5"`
	MessagesPerHour *int `json:"messagesPerHour" example:"1000"`
}

func (a *API) adminUser(u *models.ListedUser) AdminUser {
	tier := a.cfg.Tiers.For(limits.Tier(u.Tier))
	r := AdminUser{UserResource: userResource(&u.User), Sessions: u.SessionCount, SendingPausedAt: utc(u.SendingPausedAt), UpdatedAt: u.UpdatedAt.UTC(),
		Limits: UserLimits{&tier.Sessions, &tier.MessagesPerHour}, Overrides: UserLimits{u.MaxSessions, u.MaxMessagesPerHour}}
	if u.MaxSessions != nil {
		r.Limits.Sessions = u.MaxSessions
	}
	if u.MaxMessagesPerHour != nil {
		r.Limits.MessagesPerHour = u.MaxMessagesPerHour
	}
	return r
}

// UsersInput asks for a page of the users.
type UsersInput struct {
	Page   int    `query:"page" minimum:"1" maximum:"100000" default:"1" doc:"Which page, from 1"`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"20" doc:"How many on a page"`
	Search string `query:"search" maxLength:"200" doc:"Words of name or mail address, each by how it begins: all of them have to be there, without regard to case and accents" example:"john"`
	Tier   string `query:"tier" enum:"basic,pro,max" doc:"Those of this tier"`
	Role   string `query:"role" enum:"user,administrator" doc:"Those with this role"`
	Active string `query:"active" enum:"true,false" doc:"true: those who may log in; false: those who are deactivated"`
	Sort   string `query:"sort" enum:"createdAt,-createdAt,name,-name,email,-email,lastLoginAt,-lastLoginAt" default:"-createdAt" doc:"With - before it: the other way round"`
}

// Pagination says which page of how many this is.
type Pagination struct {
	Total      int `json:"total" doc:"How many fit" example:"150"`
	Page       int `json:"page" example:"1"`
	Limit      int `json:"limit" example:"20"`
	TotalPages int `json:"totalPages" example:"8"`
}

// UserList is a page of users.
type UserList struct {
	Users      []AdminUser `json:"users"`
	Pagination Pagination  `json:"pagination"`
}

func (a *API) listUsers(ctx context.Context, in *UsersInput) (*Reply[UserList], error) {
	if err := checkSearch(in.Search); err != nil {
		return nil, err
	}
	f := models.UserFilter{Search: in.Search, Tier: strings.ToUpper(in.Tier), Role: strings.ToUpper(in.Role), Sort: in.Sort, Limit: in.Limit, Offset: (in.Page - 1) * in.Limit}
	if in.Active != "" {
		active := in.Active == "true"
		f.Active = &active
	}
	rows, total, err := models.Users(ctx, a.db, f)
	if err != nil {
		return nil, databaseFault(err)
	}
	list := UserList{Users: make([]AdminUser, 0, len(rows)), Pagination: Pagination{Total: total, Page: in.Page, Limit: in.Limit, TotalPages: (total + in.Limit - 1) / in.Limit}}
	for i := range rows {
		list.Users = append(list.Users, a.adminUser(&rows[i]))
	}
	return reply(list), nil
}

// checkSearch refuses what PostgreSQL cannot read.
func checkSearch(text string) error {
	if strings.ContainsRune(text, 0) || !utf8.ValidString(text) {
		return fault.Field("search", "expected words")
	}
	return nil
}

// UserPath names a user.
type UserPath struct {
	UserID string `path:"userId" maxLength:"64" format:"uuid" doc:"The user's ID"`
}

// user reads the path; what names nobody is a user who is not there.
func (p UserPath) user() (uuid.UUID, error) { return idOf(p.UserID, models.ErrNoUser) }

// OneUser is one user.
type OneUser struct {
	User AdminUser `json:"user"`
}

func (a *API) getUser(ctx context.Context, in *UserPath) (*Reply[OneUser], error) {
	id, err := in.user()
	if err != nil {
		return nil, err
	}
	u, err := models.UserWithCount(ctx, a.db, id)
	if err := found(err, models.ErrNoUser); err != nil {
		return nil, err
	}
	return reply(OneUser{User: a.adminUser(u)}), nil
}

// CreateUserInput opens an account for somebody.
type CreateUserInput struct {
	Body struct {
		Email    string `json:"email" minLength:"3" maxLength:"254" example:"john@example.com"`
		Name     string `json:"name,omitempty" maxLength:"200" doc:"Default: the mail address up to its @" example:"John"`
		Password string `json:"password,omitempty" minLength:"8" maxLength:"72" doc:"Up to 72 bytes. Left out: we make one, and show it this once" example:"correct horse battery"`
		Tier     string `json:"tier,omitempty" maxLength:"10" doc:"basic, pro or max; default: basic" example:"pro"`
		Role     string `json:"role,omitempty" maxLength:"20" doc:"user or administrator; default: user" example:"user"`
	}
}

// CreatedUser is a new user.
type CreatedUser struct {
	User     AdminUser `json:"user"`
	Password string    `json:"password,omitempty" doc:"Shown this once, if we made it" example:"6QJ4Z5VQ2JXQ7K3A5N2W4D6BRC"`
}

// createUser takes no Idempotency-Key: what is kept of one is a plain hash of the body, from which a password could be guessed.
// The mail address does as well, since a second request finds it taken.
func (a *API) createUser(ctx context.Context, in *CreateUserInput) (*Reply[CreatedUser], error) {
	email, err := parseEmail(in.Body.Email)
	if err != nil {
		return nil, err
	}
	tier, err := tierNamed(cmp.Or(in.Body.Tier, string(limits.Basic)))
	if err != nil {
		return nil, err
	}
	role, err := roleNamed(cmp.Or(in.Body.Role, models.RoleUser))
	if err != nil {
		return nil, err
	}
	name := strings.TrimSpace(in.Body.Name)
	if name == "" {
		name = models.DefaultName(email)
	}
	plain, made, hash, err := a.passwordFor(ctx, in.Body.Password, email)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	u := &models.User{ID: models.NewID(), Name: name, Email: email, PasswordHash: hash, Role: role, Tier: tier, IsActive: true, TokenVersion: 1,
		CreatedAt: now, UpdatedAt: now, EmailVerifiedAt: &now}
	tell(ctx, func(line *models.Audit) {
		line.Target, line.Details = u.ID, map[string]string{"role": strings.ToLower(u.Role), "tier": strings.ToLower(u.Tier)}
	})
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) error {
		err := models.InsertUser(ctx, tx, u)
		if models.IsUnique(err, "users_email_key") {
			return models.ErrEmailTaken
		}
		return err
	})
	if err != nil {
		return nil, stored(err)
	}
	answer := CreatedUser{User: a.adminUser(&models.ListedUser{User: *u})}
	if made {
		answer.Password = plain
	}
	return reply(answer), nil
}

// tierNamed is the tier of a word, in any case.
func tierNamed(word string) (string, error) {
	tier, err := limits.ParseTier(word)
	if err != nil {
		return "", errNoTier
	}
	return string(tier), nil
}

// roleNamed is the role of a word, in any case.
func roleNamed(word string) (string, error) {
	role := strings.ToUpper(word)
	if role != models.RoleUser && role != models.RoleAdministrator {
		return "", fault.Field("role", "expected user or administrator")
	}
	return role, nil
}

// passwordFor checks a password for the account of a mail address, or makes one, and hashes it.
func (a *API) passwordFor(ctx context.Context, given, email string) (plain string, made bool, hash string, err error) {
	if plain = given; plain == "" {
		plain, made = rand.Text(), true
	}
	if err := password.Check("password", plain, email); err != nil {
		return "", false, "", err
	}
	hash, err = a.hash(ctx, email, plain)
	return plain, made, hash, err
}

// LimitPatch is a limit of a user's own: a number, or null for his tier's.
type LimitPatch struct{ models.Override }

// UnmarshalJSON tells null from what is not there.
func (p *LimitPatch) UnmarshalJSON(text []byte) error {
	p.Set = true
	return json.Unmarshal(text, &p.Value)
}

const largestLimit = 1_000_000_000

// Schema documents it.
func (LimitPatch) Schema(huma.Registry) *huma.Schema {
	least, most := 0.0, float64(largestLimit)
	return &huma.Schema{Type: huma.TypeInteger, Nullable: true, Minimum: &least, Maximum: &most, Examples: []any{50},
		Description: "Instead of the tier's; null: the tier's again. 0 lets nothing through."}
}

// UpdateUserInput changes a user.
type UpdateUserInput struct {
	UserPath
	Body struct {
		Name     *string `json:"name,omitempty" minLength:"1" maxLength:"200" example:"John"`
		Tier     *string `json:"tier,omitempty" maxLength:"10" doc:"basic, pro or max. Sessions beyond a lower tier stay; new ones are refused" example:"pro"`
		Role     *string `json:"role,omitempty" maxLength:"20" doc:"user or administrator" example:"user"`
		IsActive *bool   `json:"isActive,omitempty" doc:"false: no credential of his is good any more, and his sessions stop. true: those that ran then run again; tokens have to be had anew" example:"true"`
		Limits   *struct {
			Sessions        LimitPatch `json:"sessions,omitempty"`
			MessagesPerHour LimitPatch `json:"messagesPerHour,omitempty"`
		} `json:"limits,omitempty"`
	}
}

func (a *API) updateUser(ctx context.Context, in *UpdateUserInput) (*Reply[OneUser], error) {
	id, err := in.user()
	if err != nil {
		return nil, err
	}
	b := &in.Body
	if b.Name == nil && b.Tier == nil && b.Role == nil && b.IsActive == nil && b.Limits == nil {
		return nil, fault.Field("body", "expected at least one of name, tier, role, isActive and limits")
	}
	change := models.UserChange{Name: b.Name, Active: b.IsActive}
	said := map[string]any{}
	if b.Name != nil {
		if strings.TrimSpace(*b.Name) == "" {
			return nil, fault.Field("name", "expected a name")
		}
		said["name"] = "changed" // which it is, is nobody's business when the account is closed
	}
	if b.Tier != nil {
		tier, err := tierNamed(*b.Tier)
		if err != nil {
			return nil, err
		}
		change.Tier, said["tier"] = &tier, strings.ToLower(tier)
	}
	if b.Role != nil {
		role, err := roleNamed(*b.Role)
		if err != nil {
			return nil, err
		}
		change.Role, said["role"] = &role, strings.ToLower(role)
	}
	if b.IsActive != nil {
		said["isActive"] = *b.IsActive
	}
	if b.Limits != nil {
		change.Sessions, change.Messages = b.Limits.Sessions.Override, b.Limits.MessagesPerHour.Override
		set := map[string]*int{}
		for name, o := range map[string]models.Override{"sessions": change.Sessions, "messagesPerHour": change.Messages} {
			if o.Set {
				set[name] = o.Value
			}
		}
		said["limits"] = set
	}
	tell(ctx, func(line *models.Audit) { line.Details = said })
	if err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error { return models.ChangeUser(ctx, tx, id, change) }); err != nil {
		return nil, stored(err)
	}
	a.userChanged(ctx, id)
	return a.getUser(ctx, &in.UserPath)
}

// userChanged has what hangs on a user follow at once: what is remembered of him here (other processes hear of it), open streams,
// and sessions that are to stop or to run again.
func (a *API) userChanged(ctx context.Context, id uuid.UUID) {
	a.credentials.changed(id)
	a.hub.credentialsChanged()
	a.tick(ctx, jobs.KindReconcile, jobs.KindLeases)
}

// ResetUserPasswordInput gives a user another password.
type ResetUserPasswordInput struct {
	UserPath
	Body *struct {
		Password string `json:"password,omitempty" minLength:"8" maxLength:"72" doc:"Up to 72 bytes. Left out: we make one, and show it this once" example:"correct horse battery"`
	}
}

// ResetPassword is the result.
type ResetPassword struct {
	UserID   string `json:"userId" format:"uuid"`
	Password string `json:"password,omitempty" doc:"Shown this once, if we made it" example:"6QJ4Z5VQ2JXQ7K3A5N2W4D6BRC"`
}

func (a *API) resetUserPassword(ctx context.Context, in *ResetUserPasswordInput) (*Reply[ResetPassword], error) {
	id, err := in.user()
	if err != nil {
		return nil, err
	}
	given := ""
	if in.Body != nil {
		given = in.Body.Password
	}
	u, err := models.UserByID(ctx, a.db, id)
	if err := found(err, models.ErrNoUser); err != nil {
		return nil, err
	}
	plain, made, hash, err := a.passwordFor(ctx, given, u.Email)
	if err != nil {
		return nil, err
	}
	if err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error { return models.GivePassword(ctx, tx, id, hash) }); err != nil {
		return nil, stored(err)
	}
	a.userChanged(ctx, id)
	answer := ResetPassword{UserID: id.String()}
	if made {
		answer.Password = plain
	}
	return reply(answer), nil
}

// ClosingUser is a user whose account is closed.
type ClosingUser struct {
	UserID string `json:"userId" format:"uuid"`
	JobID  string `json:"jobId" format:"uuid" doc:"Of the removal"`
	Status string `json:"status" enum:"closing" doc:"He is locked out already; what he leaves is removed bit by bit"`
}

// closeUser closes an account, as its owner could.
func (a *API) closeUser(ctx context.Context, in *UserPath) (*Started[ClosingUser], error) {
	id, err := in.user()
	if err != nil {
		return nil, err
	}
	if _, err := models.UserWithCount(ctx, a.db, id); found(err, models.ErrNoUser) != nil {
		return nil, found(err, models.ErrNoUser)
	}
	var job uuid.UUID
	if err := a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		job, err = models.CloseAccount(ctx, tx, id)
		return err
	}); err != nil {
		return nil, stored(err)
	}
	a.userChanged(ctx, id)
	a.queue.StartJob(ctx, models.KindCloseAccount, job)
	return started(http.StatusAccepted, job, "", ClosingUser{UserID: id.String(), JobID: job.String(), Status: "closing"}), nil
}
