package api

import (
	"context"
	"crypto/rand"
	"net/mail"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"kurir/fault"
	"kurir/limits"
	"kurir/models"
	"kurir/password"
)

// UserResource is an account as its owner sees it.
type UserResource struct {
	ID          string     `json:"id" format:"uuid"`
	Email       string     `json:"email" example:"sari@example.com"`
	Name        string     `json:"name" example:"Sari"`
	Role        string     `json:"role" enum:"user,administrator"`
	Tier        string     `json:"tier" enum:"basic,pro,max"`
	IsActive    bool       `json:"isActive"`
	CreatedAt   time.Time  `json:"createdAt"`
	LastLoginAt *time.Time `json:"lastLoginAt"`

	EmailVerified bool    `json:"emailVerified" doc:"Whether it was proved that the address is the account's"`
	PendingEmail  *string `json:"pendingEmail" doc:"Takes the place of email when it is proved"`
}

func userResource(u *models.User) UserResource {
	return UserResource{ID: u.ID.String(), Email: u.Email, Name: u.Name, Role: strings.ToLower(u.Role), Tier: strings.ToLower(u.Tier),
		IsActive: u.IsActive, CreatedAt: u.CreatedAt.UTC(), LastLoginAt: utc(u.LastLoginAt),
		EmailVerified: u.EmailVerifiedAt != nil, PendingEmail: u.PendingEmail}
}

// RegisterInput opens an account.
type RegisterInput struct {
	Body struct {
		Email    string `json:"email" minLength:"3" maxLength:"254" example:"sari@example.com"`
		Password string `json:"password" minLength:"1" maxLength:"72" doc:"8 to 72 bytes" example:"correct horse battery"`
		Name     string `json:"name,omitempty" maxLength:"200" doc:"Default: the mail address up to its @" example:"Sari"`
		Tier     string `json:"tier,omitempty" maxLength:"10" doc:"basic, pro or max, up to what this installation lets one choose" example:"basic"`
	}
}

// RegisterData is a new account with its credentials.
type RegisterData struct {
	User   UserResource `json:"user"`
	Token  string       `json:"token" doc:"Send it as Authorization: Bearer"`
	APIKey string       `json:"apiKey" doc:"The account's API key, shown this once. Send it as X-Api-Key or Authorization: Bearer"`
}

var (
	errEmailTaken   = fault.New(fault.Conflict, models.ErrEmailTaken.Code, "There is an account with this mail address. Log in instead.")
	errNoTier       = fault.Field("tier", "expected basic, pro or max")
	errRegistration = fault.New(fault.Forbidden, "registration_closed", "This installation does not open accounts by itself. Ask its administrator.")
	errTier         = fault.New(fault.Forbidden, "tier_not_allowed", "This tier cannot be chosen at registration. Ask the administrator.")
	errLogin        = fault.New(fault.Unauthenticated, "invalid_credentials", "Mail address or password is wrong.")
)

func (a *API) register(ctx context.Context, in *RegisterInput) (*Reply[RegisterData], error) {
	if a.cfg.Registration != "open" {
		return nil, errRegistration
	}
	email, err := parseEmail(in.Body.Email)
	if err != nil {
		return nil, err
	}
	if err := password.Check("password", in.Body.Password, email); err != nil {
		return nil, err
	}
	tier := limits.Basic
	if in.Body.Tier != "" {
		if tier, err = limits.ParseTier(in.Body.Tier); err != nil {
			return nil, errNoTier
		}
	}
	if !limits.AllowedSelfService(a.cfg.SelfServiceTier, tier) {
		return nil, errTier
	}
	if err := a.countRegistration(ctx); err != nil {
		return nil, err
	}
	name := strings.TrimSpace(in.Body.Name)
	if name == "" {
		name = models.DefaultName(email)
	}
	hash, err := a.hash(ctx, email, in.Body.Password)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	u := &models.User{ID: models.NewID(), Name: name, Email: email, PasswordHash: hash, Role: models.RoleUser, Tier: string(tier),
		IsActive: true, TokenVersion: 1, CreatedAt: now, UpdatedAt: now, MustVerifyEmail: a.cfg.RequireEmailVerification}
	key, row := models.NewAPIKey(u.ID, nil, "Account key", now)
	tell(ctx, func(line *models.Audit) { line.Actor, line.User, line.Target = models.ActorUser, u.ID, u.ID })
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) error {
		if err := models.InsertUser(ctx, tx, u); err != nil {
			if models.IsUnique(err, "users_email_key") {
				return errEmailTaken
			}
			return err
		}
		if u.MustVerifyEmail {
			if err := models.QueueProof(ctx, models.InBun(tx), u.ID, email); err != nil {
				return err
			}
		}
		return models.InsertAPIKey(ctx, tx, row)
	})
	if err != nil {
		return nil, stored(err)
	}
	token, err := a.newToken(u, audienceAPI, a.cfg.JWTLifetime, now)
	if err != nil {
		return nil, err
	}
	return reply(RegisterData{User: userResource(u), Token: token, APIKey: key}), nil
}

// Limits of an account's fields: bcrypt takes no more bytes, and PostgreSQL no more characters.
const (
	maxPassword = password.Max
	maxName     = models.MaxName
)

// parseEmail accepts a bare address in ASCII and brings it to lower case.
func parseEmail(text string) (string, error) {
	text = strings.ToLower(strings.TrimSpace(text))
	address, err := mail.ParseAddress(text)
	if err != nil || address.Address != text || strings.IndexFunc(text, func(r rune) bool { return r > '~' }) >= 0 {
		return "", fault.Field("email", "expected a mail address")
	}
	return text, nil
}

// LoginInput asks for a token.
type LoginInput struct {
	Body struct {
		Email    string `json:"email" minLength:"1" maxLength:"254" example:"sari@example.com"`
		Password string `json:"password" minLength:"1" maxLength:"1000" example:"correct horse battery"`
	}
}

// LoginData is the token.
type LoginData struct {
	User  UserResource `json:"user"`
	Token string       `json:"token" doc:"Send it as Authorization: Bearer"`
}

func (a *API) login(ctx context.Context, in *LoginInput) (*Reply[LoginData], error) {
	u, err := a.checkPassword(ctx, in.Body.Email, in.Body.Password)
	if err != nil {
		return nil, err
	}
	if err := a.proved(u); err != nil {
		return nil, err
	}
	now := time.Now()
	token, err := a.newToken(u, audienceAPI, a.cfg.JWTLifetime, now)
	if err != nil {
		return nil, err
	}
	tell(ctx, func(line *models.Audit) { line.Actor, line.User, line.Target = models.ActorUser, u.ID, u.ID })
	if err := models.TouchLogin(ctx, a.db, u.ID); err != nil {
		return nil, databaseFault(err)
	}
	u.LastLoginAt = &now
	return reply(LoginData{User: userResource(u), Token: token}), nil
}

// hashOfNothing is a hash that no password has.
func hashOfNothing(rounds int) []byte {
	hash, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), rounds)
	if err != nil { // rounds beyond bcrypt's: registering says so
		return nil
	}
	return hash
}

// checkPassword finds the user whose mail address and password these are.
func (a *API) checkPassword(ctx context.Context, email, plain string) (*models.User, error) {
	email = strings.ToLower(strings.TrimSpace(email))
	attempt := a.attemptOf(ctx, email)
	delay, err := attempt.may(ctx)
	if err != nil {
		return nil, err
	}
	a.pause(ctx, delay)
	u, err := models.UserByEmail(ctx, a.db, email)
	ok, err := models.Found(err)
	if err != nil {
		return nil, databaseFault(err)
	}
	if !ok {
		u = nil
	}
	right, err := a.compare(ctx, attempt, email, u, plain)
	if err != nil {
		return nil, err
	}
	if !right {
		return nil, errLogin
	}
	attempt.succeeded(ctx)
	return u, nil
}

// Done says that something was done.
type Done struct {
	Message string `json:"message"`
}

func (a *API) logout(ctx context.Context, _ *struct{}) (*Reply[Done], error) {
	if err := models.RevokeTokens(ctx, a.db, callerOf(ctx).user.ID); err != nil {
		return nil, databaseFault(err)
	}
	a.credentials.changed(callerOf(ctx).user.ID)
	return reply(Done{Message: "All tokens of this account are revoked."}), nil
}

// MeData is who calls.
type MeData struct {
	User UserResource `json:"user"`
}

func (a *API) me(ctx context.Context, _ *struct{}) (*Reply[MeData], error) {
	return reply(MeData{User: userResource(callerOf(ctx).user)}), nil
}
