package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"kurir/fault"
	"kurir/mail"
	"kurir/models"
)

// KindLetter mails a letter. Its row says which, about what and to whom; what the letter says is read when it is sent, so that nobody is
// told of what is over. Tokens are made then too and stand nowhere but in the mail. A mail that may have left is sent again under
// the same Message-ID.
const KindLetter = models.KindLetter

var (
	errMailLater   = fault.New(fault.Unavailable, "mail_not_sent", "The mail server did not take the mail.")
	errMailRefused = fault.New(fault.Invalid, "mail_refused", "The mail server refused the mail.")
)

// letter is one that is about to be written.
type letter struct {
	job  *models.Job
	ask  models.Letter
	user *models.User
	to   string
}

// wording is what a letter says.
type wording interface{ Letter() (mail.Letter, error) }

// letters is every letter. A writer answers nil if there is nothing to say any more.
func (r *Runner) letters() map[string]func(context.Context, *letter) (wording, error) {
	return map[string]func(context.Context, *letter) (wording, error){
		models.LetterReset: r.letterReset, models.LetterVerify: r.letterVerify, models.LetterPasswordChanged: letterPasswordChanged,
		models.LetterEmailChanged: letterEmailChanged, models.LetterWebhookDisabled: r.letterWebhookDisabled,
		models.LetterSessionLoggedOut: r.letterSessionLoggedOut, models.LetterKeyExpiring: r.letterKeyExpiring, models.LetterLimitReached: letterLimitReached,
	}
}

func (r *Runner) mailLetter(ctx context.Context, j *models.Job) (any, error) {
	l := &letter{job: j}
	if err := json.Unmarshal(j.Params, &l.ask); err != nil {
		return nil, errMailRefused.WithCause(fmt.Errorf("parameters of %s: %w", j.ID, err))
	}
	write, ok := r.letters()[l.ask.Letter]
	if !ok {
		return nil, errMailRefused.WithCause(fmt.Errorf("no letter %q", l.ask.Letter))
	}
	sent, err := r.writeLetter(ctx, l, write)
	if err != nil {
		return nil, err
	}
	return mailed(sent), models.EndLetter(ctx, r.db.Pool, j.ID)
}

func (r *Runner) writeLetter(ctx context.Context, l *letter, write func(context.Context, *letter) (wording, error)) (sent bool, err error) {
	if there, err := r.recipient(ctx, l); err != nil || !there {
		return false, err
	}
	says, err := write(ctx, l)
	if ok, err := models.Found(err); err != nil || !ok || says == nil {
		return false, err
	}
	written, err := says.Letter()
	if err != nil {
		return false, err
	}
	sent, err = r.cfg.Mailer.Send(ctx, l.job.ID.String(), l.to, written)
	switch {
	case mail.Refused(err):
		return false, errMailRefused.WithCause(err)
	case err != nil:
		return false, errMailLater.WithCause(err)
	}
	return sent, nil
}

func mailed(sent bool) map[string]bool { return map[string]bool{"sent": sent} }

// letterFailed is for a letter that is given up: its row is kept, the address is not.
func (r *Runner) letterFailed(ctx context.Context, j *models.Job, _ error) {
	if err := models.EndLetter(ctx, r.db.Pool, j.ID); err != nil {
		r.log.Error("address not removed from a job", "job", j.ID, "error", err)
	}
}

// recipient finds the user and the address that a letter goes to. False: there is nobody, or nobody any more.
func (r *Runner) recipient(ctx context.Context, l *letter) (there bool, err error) {
	if len(l.ask.To) > 0 {
		address, err := r.vault.Open(models.LetterAddress, l.ask.To)
		if err != nil {
			return false, errMailRefused.WithCause(err)
		}
		l.to = string(address)
	}
	if l.ask.User != nil {
		l.user, err = models.UserByID(ctx, r.db, *l.ask.User)
	} else {
		l.user, err = models.UserByEmail(ctx, r.db, l.to)
	}
	if ok, err := models.Found(err); err != nil || !ok || !l.user.IsActive {
		return false, err
	}
	if l.to == "" {
		l.to = l.user.Email
	}
	return true, nil
}

// age is how long ago a letter was asked for. One that leads somewhere for a time only is not sent later than that.
func (l *letter) age() time.Duration { return time.Since(l.job.CreatedAt) }

// page is the address of a page of ours, "" if nobody has said how we are reached.
func (r *Runner) page(path string) string {
	if r.cfg.PublicURL == "" {
		return ""
	}
	return r.cfg.PublicURL + path
}

func (r *Runner) letterReset(ctx context.Context, l *letter) (wording, error) {
	changed := l.user.PasswordChangedAt
	if l.age() > models.ResetLifetime || changed != nil && changed.After(l.job.CreatedAt) {
		return nil, nil
	}
	token, err := models.NewMailedToken(ctx, r.db.Pool, l.user.ID, models.TokenReset, l.to)
	if err != nil {
		return nil, notMailed(err)
	}
	return mail.Reset{Page: r.page(models.ResetPage), Token: token}, nil
}

// letterVerify goes to the address that is to be proved, whichever of the user's it was asked for under.
func (r *Runner) letterVerify(ctx context.Context, l *letter) (wording, error) {
	address := l.user.Email
	switch {
	case l.user.PendingEmail != nil:
		address = *l.user.PendingEmail
	case l.user.EmailVerifiedAt != nil:
		return nil, nil
	}
	if l.age() > models.VerifyLifetime {
		return nil, nil
	}
	if len(l.ask.To) > 0 && l.to != address && l.job.Attempts == 1 {
		if ok, err := models.ProofWithinQuota(ctx, r.db.Pool, address); err != nil || !ok {
			return nil, err
		}
	}
	l.to = address
	token, err := models.NewMailedToken(ctx, r.db.Pool, l.user.ID, models.TokenVerify, address)
	if err != nil {
		return nil, notMailed(err)
	}
	return mail.Verify{Page: r.page(models.VerifyPage), Token: token}, nil
}

// notMailed takes for nothing to say that the account has changed at this moment.
func notMailed(err error) error {
	if errors.Is(err, models.ErrMailedToken) {
		return nil
	}
	return err
}

func letterPasswordChanged(_ context.Context, l *letter) (wording, error) {
	var about models.AboutPassword
	if err := l.about(&about); err != nil {
		return nil, err
	}
	return mail.PasswordChanged{ByReset: about.ByReset, Ended: about.KeysEnded, At: l.job.CreatedAt}, nil
}

func letterEmailChanged(_ context.Context, l *letter) (wording, error) {
	return mail.EmailChanged{At: l.job.CreatedAt}, nil
}

// letterWebhookDisabled tells the owner of a webhook that it was switched off, unless he has switched it on again.
func (r *Runner) letterWebhookDisabled(ctx context.Context, l *letter) (wording, error) {
	var p models.WebhookMail
	if err := l.about(&p); err != nil {
		return nil, err
	}
	w, err := models.WebhookByID(ctx, r.db, p.WebhookID)
	if err != nil || w.IsActive || w.UserID != l.user.ID {
		return nil, err
	}
	about := mail.WebhookDisabled{Reason: p.Reason, Since: w.FailingSince}
	if at, err := url.Parse(w.URL); err == nil {
		about.Host = at.Hostname()
	}
	if w.SessionUID != nil {
		s, err := models.SessionByUID(ctx, r.db, *w.SessionUID)
		if err != nil {
			return nil, err
		}
		about.Session = s.ID
	}
	return about, nil
}

// letterSessionLoggedOut tells an owner that his session was unlinked on the phone, unless it is linked again.
func (r *Runner) letterSessionLoggedOut(ctx context.Context, l *letter) (wording, error) {
	var about models.AboutSession
	if err := l.about(&about); err != nil {
		return nil, err
	}
	s, err := models.SessionByUID(ctx, r.db, about.Session)
	if err != nil || s.LinkedAt != nil || s.DeletedAt != nil {
		return nil, err
	}
	return mail.SessionLoggedOut{Session: s.ID, At: l.job.CreatedAt}, nil
}

// letterKeyExpiring tells the owner of a key that it ends soon, if it still does.
func (r *Runner) letterKeyExpiring(ctx context.Context, l *letter) (wording, error) {
	var about models.AboutKey
	if err := l.about(&about); err != nil {
		return nil, err
	}
	k, err := models.APIKeyByID(ctx, r.db, about.Key)
	if err != nil || !k.IsActive || k.ExpiresAt == nil || time.Until(*k.ExpiresAt) > expiryWarning || time.Now().After(*k.ExpiresAt) {
		return nil, err
	}
	says := mail.KeyExpiring{Name: k.Name, Prefix: k.Prefix, At: *k.ExpiresAt}
	if k.SessionUID != nil {
		s, err := models.SessionByUID(ctx, r.db, *k.SessionUID)
		if err != nil {
			return nil, err
		}
		says.Session = s.ID
	}
	return says, nil
}

func letterLimitReached(_ context.Context, l *letter) (wording, error) {
	var about models.AboutLimit
	if err := l.about(&about); err != nil || l.age() > time.Hour {
		return nil, err
	}
	own := l.user.MaxMessagesPerHour
	if about.Limit == models.LimitSessions {
		own = l.user.MaxSessions
	}
	return mail.LimitReached{Tier: l.user.Tier, Limit: about.Limit, Own: own != nil}, nil
}

func (l *letter) about(into any) error {
	if err := json.Unmarshal(l.ask.About, into); err != nil {
		return errMailRefused.WithCause(fmt.Errorf("what %s is about: %w", l.job.ID, err))
	}
	return nil
}
