package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"

	"kurir/fault"
	"kurir/mail"
	"kurir/models"
)

var (
	errMailLater   = fault.New(fault.Unavailable, "mail_not_sent", "The mail server did not take the mail.")
	errMailRefused = fault.New(fault.Invalid, "mail_refused", "The mail server refused the mail.")
)

// mailWebhookDisabled tells the owner of a webhook that it was switched off, unless he has switched it on again or is no
// more. A mail that may have left is sent again under the same Message-ID.
func (r *Runner) mailWebhookDisabled(ctx context.Context, j *models.Job) (any, error) {
	var p models.WebhookMail
	if err := json.Unmarshal(j.Params, &p); err != nil {
		return nil, errMailRefused.WithCause(fmt.Errorf("parameters of %s: %w", j.ID, err))
	}
	w, err := models.WebhookByID(ctx, r.db, p.WebhookID)
	if ok, err := models.Found(err); err != nil || !ok || w.IsActive {
		return mailed(false), err
	}
	u, err := models.UserByID(ctx, r.db, w.UserID)
	if ok, err := models.Found(err); err != nil || !ok || !u.IsActive {
		return mailed(false), err
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
	letter, err := about.Letter()
	if err != nil {
		return nil, err
	}
	sent, err := r.cfg.Mailer.Send(ctx, j.ID.String(), u.Email, letter)
	switch {
	case mail.Refused(err):
		return nil, errMailRefused.WithCause(err)
	case err != nil:
		return nil, errMailLater.WithCause(err)
	}
	return mailed(sent), nil
}

func mailed(sent bool) map[string]bool { return map[string]bool{"sent": sent} }
