package api

import (
	"context"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/models"
)

// ProfileData is the caller's account.
type ProfileData struct {
	User UserResource `json:"user"`
}

func (a *API) profile(ctx context.Context, _ *struct{}) (*Reply[ProfileData], error) {
	return a.readProfile(ctx, callerOf(ctx).user.ID)
}

// readProfile reads what may have changed a moment ago.
func (a *API) readProfile(ctx context.Context, user uuid.UUID) (*Reply[ProfileData], error) {
	u, err := models.UserByID(ctx, a.db, user)
	if err := found(err, errBadToken); err != nil {
		return nil, err
	}
	return reply(ProfileData{User: userResource(u)}), nil
}

// ProfileInput changes the account.
type ProfileInput struct {
	Body struct {
		Name            *string `json:"name,omitempty" minLength:"1" maxLength:"200" example:"Sari Dewi"`
		Email           *string `json:"email,omitempty" minLength:"3" maxLength:"254" doc:"Takes your password. Where addresses are to be proved, it takes effect with the code that is mailed to it" example:"sari.dewi@example.com"`
		CurrentPassword string  `json:"currentPassword,omitempty" maxLength:"1000" doc:"With email" example:"my present password"`
	}
}

var errPassword = fault.New(fault.Forbidden, "wrong_password", "The current password is wrong.")

func (a *API) updateProfile(ctx context.Context, in *ProfileInput) (*Reply[ProfileData], error) {
	user := callerOf(ctx).user.ID
	change := models.ProfileChange{Prove: a.cfg.RequireEmailVerification}
	if in.Body.Name == nil && in.Body.Email == nil {
		return nil, fault.Field("body", "expected name, email or both")
	}
	if in.Body.Name != nil {
		name := strings.TrimSpace(*in.Body.Name)
		if name == "" || utf8.RuneCountInString(name) > maxName {
			return nil, fault.Field("name", "expected 1 to 200 characters")
		}
		change.Name = &name
	}
	if in.Body.Email != nil {
		email, err := parseEmail(*in.Body.Email)
		if err != nil {
			return nil, err
		}
		if in.Body.CurrentPassword == "" {
			return nil, fault.Field("currentPassword", "expected the current password, since the mail address changes")
		}
		if _, err := a.provePassword(ctx, user, in.Body.CurrentPassword); err != nil {
			return nil, err
		}
		if err := models.MayChangeAddress(ctx, a.db.Pool, user); err != nil {
			return nil, stored(err)
		}
		change.Email = &email
	}
	err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if err := models.ChangeProfile(ctx, tx, a.vault, user, change); err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "account.updated", Details: map[string]bool{"name": change.Name != nil, "email": change.Email != nil}})
	})
	if err != nil {
		return nil, stored(err)
	}
	a.credentials.changed(user)
	return a.readProfile(ctx, user)
}

// provePassword compares with the present password of the caller, for what a token alone may not do. It returns the hash that it
// has compared with. Who holds a token guesses no faster than who logs in.
func (a *API) provePassword(ctx context.Context, user uuid.UUID, plain string) (hash string, err error) {
	u, err := models.UserByID(ctx, a.db, user) // what we remember of him may be a moment old
	if err := found(err, errBadToken); err != nil {
		return "", err
	}
	attempt := a.attemptOf(ctx, u.Email)
	delay, err := attempt.may(ctx)
	if err != nil {
		return "", err
	}
	a.pause(ctx, delay)
	right, err := a.compare(ctx, attempt, u.Email, u, plain)
	if err != nil {
		return "", err
	}
	if !right {
		return "", errPassword
	}
	return u.PasswordHash, nil
}

// CloseInput closes the account.
type CloseInput struct {
	Body struct {
		CurrentPassword string `json:"currentPassword" minLength:"1" maxLength:"1000" example:"my present password"`
	}
}

// ClosedAccount answers the closing of an account.
type ClosedAccount struct {
	Message string `json:"message"`
	JobID   string `json:"jobId" format:"uuid" doc:"Of the removal. No credential of the account reads it any more, but an administrator does"`
}

func (a *API) closeAccount(ctx context.Context, in *CloseInput) (*Started[ClosedAccount], error) {
	user := callerOf(ctx).user.ID
	if _, err := a.provePassword(ctx, user, in.Body.CurrentPassword); err != nil {
		return nil, err
	}
	var job uuid.UUID
	err := a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		if job, err = models.CloseAccount(ctx, tx, user); err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "account.closed"})
	})
	if err != nil {
		return nil, stored(err)
	}
	a.credentials.changed(user)
	a.hub.credentialsChanged()
	a.queue.StartJob(ctx, models.KindCloseAccount, job)
	return started(http.StatusAccepted, job, "", ClosedAccount{JobID: job.String(),
		Message: "The account is closed. Its sessions are being unlinked, and what it holds is being removed."}), nil
}
