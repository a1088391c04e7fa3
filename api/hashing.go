package api

import (
	"context"
	"time"

	"golang.org/x/crypto/bcrypt"

	"kurir/fault"
	"kurir/models"
)

// Passwords are compared and hashed by few at a time, and of one account by one at a time: so whoever knows a password, and asks
// with it as often as he likes, holds up himself alone.

// hashTime is how long a password waits for its turn.
const hashTime = 10 * time.Second

var errBusy = fault.New(fault.Unavailable, "busy", "Too many people log in right now. Try again.").After(2 * time.Second)

// hashSlot waits until a password of an account may be worked on.
func (a *API) hashSlot(ctx context.Context, account string) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, hashTime)
	defer cancel()
	pass, ok := a.turns.Take(ctx, account)
	if !ok {
		return nil, errBusy
	}
	select {
	case a.hashing <- struct{}{}:
		return func() { <-a.hashing; pass() }, nil
	case <-ctx.Done():
		pass()
		return nil, errBusy
	}
}

// hash makes what is stored of a password of the account with that mail address.
func (a *API) hash(ctx context.Context, email, plain string) (string, error) {
	release, err := a.hashSlot(ctx, accountName(email))
	if err != nil {
		return "", err
	}
	defer release()
	hash, err := bcrypt.GenerateFromPassword([]byte(plain), a.cfg.BcryptRounds)
	return string(hash), err
}

// compare says whether a password is that of a user, who is nil where there is none with that mail address. What is wrong counts
// against the attempt and is written down. All that asks for a password goes through here.
func (a *API) compare(ctx context.Context, attempt attempt, email string, u *models.User, plain string) (bool, error) {
	release, err := a.hashSlot(ctx, attempt.name)
	if err != nil {
		return false, err
	}
	defer release()
	if _, err := attempt.may(ctx); err != nil { // others may have failed while this one waited
		return false, err
	}
	hash := a.noPassword()
	if u != nil {
		hash = []byte(u.PasswordHash)
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(plain)) == nil && len(plain) <= maxPassword && u != nil && u.IsActive {
		return true, nil
	}
	a.loginFailed(ctx, email, u)
	attempt.failed(ctx)
	return false, nil
}
