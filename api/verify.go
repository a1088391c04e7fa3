package api

import (
	"context"

	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/models"
)

var errNotVerified = fault.New(fault.Forbidden, "email_not_verified", "The mail address of this account has still to be confirmed. POST /auth/verify/resend sends the mail again.")

// proved refuses an account whose address has still to be proved.
func (a *API) proved(u *models.User) error {
	if a.cfg.RequireEmailVerification && u.MustVerifyEmail && u.EmailVerifiedAt == nil {
		return errNotVerified
	}
	return nil
}

// VerifyInput proves a mail address.
type VerifyInput struct {
	Body struct {
		Token string `json:"token" minLength:"1" maxLength:"200" doc:"The code from the mail" example:"kum_…"`
	}
}

func (a *API) verifyEmail(ctx context.Context, in *VerifyInput) (*Reply[Done], error) {
	if err := a.verify(ctx, in.Body.Token); err != nil {
		return nil, err
	}
	return reply(Done{Message: "The mail address is confirmed."}), nil
}

func (a *API) verify(ctx context.Context, token string) error {
	u, err := models.MailedTokenOwner(ctx, a.db, models.TokenVerify, token)
	if err != nil {
		return stored(err)
	}
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if err := models.VerifyEmail(ctx, tx, a.vault, u.ID, token); err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "email.verified", Actor: models.ActorUser, User: u.ID, Target: u.ID})
	})
	if err != nil {
		return stored(err)
	}
	a.credentials.changed(u.ID)
	return nil
}

// resendVerification is for whoever lost the mail: he may not be able to log in.
func (a *API) resendVerification(ctx context.Context, in *AddressInput) (*Reply[Done], error) {
	return a.askForLetter(ctx, models.LetterVerify, in.Body.Email)
}
