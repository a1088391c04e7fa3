package api

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"kurir/models"
	"kurir/password"
)

// PasswordInput changes the password.
type PasswordInput struct {
	Body struct {
		CurrentPassword string `json:"currentPassword" minLength:"1" maxLength:"1000" example:"my present password"`
		NewPassword     string `json:"newPassword" minLength:"1" maxLength:"1000" doc:"8 to 72 bytes, neither a common one nor the mail address" example:"staple under the lamp"`
	}
}

func (a *API) changePassword(ctx context.Context, in *PasswordInput) (*Reply[LoginData], error) {
	u := *callerOf(ctx).user
	if err := password.Check("newPassword", in.Body.NewPassword, u.Email); err != nil {
		return nil, err
	}
	former, err := a.provePassword(ctx, u.ID, in.Body.CurrentPassword)
	if err != nil {
		return nil, err
	}
	hash, err := a.hash(ctx, u.Email, in.Body.NewPassword)
	if err != nil {
		return nil, err
	}
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		if u.TokenVersion, err = models.ChangePassword(ctx, tx, u.ID, former, hash); err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "password.changed"})
	})
	if err != nil {
		return nil, stored(err)
	}
	a.credentials.changed(u.ID)
	a.hub.credentialsChanged()
	token, err := a.newToken(&u, audienceAPI, a.cfg.JWTLifetime, time.Now())
	if err != nil {
		return nil, err
	}
	return reply(LoginData{User: userResource(&u), Token: token}), nil
}

// AddressInput names an account by its mail address.
type AddressInput struct {
	Body struct {
		Email string `json:"email" minLength:"3" maxLength:"254" example:"sari@example.com"`
	}
}

// forgotPassword has a token mailed. Whether there is such an account is found out by the job of the letter: the answer and what it
// takes are the same.
func (a *API) forgotPassword(ctx context.Context, in *AddressInput) (*Reply[Done], error) {
	return a.askForLetter(ctx, models.LetterReset, in.Body.Email)
}

func (a *API) askForLetter(ctx context.Context, letter, address string) (*Reply[Done], error) {
	email, err := parseEmail(address)
	if err != nil {
		return nil, err
	}
	if err := models.AskForLetter(ctx, a.db, a.vault, letter, email); err != nil {
		return nil, stored(err)
	}
	return reply(Done{Message: "If there is an account for which this can be done, a mail is on its way."}), nil
}

// ResetInput chooses a new password with a mailed token.
type ResetInput struct {
	Body struct {
		Token       string `json:"token" minLength:"1" maxLength:"200" doc:"The code from the mail" example:"kum_…"`
		NewPassword string `json:"newPassword" minLength:"1" maxLength:"1000" doc:"8 to 72 bytes, neither a common one nor the mail address" example:"staple under the lamp"`
	}
}

func (a *API) resetPassword(ctx context.Context, in *ResetInput) (*Reply[Done], error) {
	if err := a.reset(ctx, in.Body.Token, "newPassword", in.Body.NewPassword); err != nil {
		return nil, err
	}
	return reply(Done{Message: "The password is changed. Log in with it."}), nil
}

// reset chooses a new password. Only for a token that is good so far anything is hashed.
func (a *API) reset(ctx context.Context, token, field, chosen string) error {
	u, err := models.MailedTokenOwner(ctx, a.db, models.TokenReset, token)
	if err != nil {
		return stored(err)
	}
	if err := password.Check(field, chosen, u.Email); err != nil {
		return err
	}
	hash, err := a.hash(ctx, u.Email, chosen)
	if err != nil {
		return err
	}
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		keysEnded, err := models.ResetPassword(ctx, tx, u.ID, token, hash)
		if err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "password.reset", Actor: models.ActorUser, User: u.ID, Target: u.ID, Details: map[string]bool{"keysEnded": keysEnded}})
	})
	if err != nil {
		return stored(err)
	}
	a.credentials.changed(u.ID)
	a.hub.credentialsChanged()
	return nil
}
