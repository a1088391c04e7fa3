package api

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"kurir/fault"
	"kurir/jobs"
	"kurir/models"
	"kurir/webhook"
)

// WebhookFields is a webhook as its owner sets it.
type WebhookFields struct {
	URL     string            `json:"url" minLength:"1" maxLength:"2048" example:"https://shop.example.com/kurir"`
	Events  []string          `json:"events,omitempty" maxItems:"50" doc:"Names of events, or * for all. Left out: all" example:"[\"message.received\",\"message.read\"]"`
	Secret  *string           `json:"secret,omitempty" maxLength:"200" doc:"whsec_ and base64, or 24 to 64 characters of your own. Left out: we make one, or keep the one that is there"`
	Headers map[string]string `json:"headers,omitempty" doc:"Headers to add to each delivery. Left out: those that there are stay, while url leads to the same host; an empty object takes them away"`
	Ordered bool              `json:"ordered,omitempty" doc:"Deliver one by one, in the order of sequence"`
	// With Ordered: what is done with a delivery that does not get through.
	OnFailure string `json:"onFailure,omitempty" enum:"block,skip" doc:"With ordered: wait for a delivery that fails, which is the default, or give it up after skipAfter attempts and go on"`
	SkipAfter int    `json:"skipAfter,omitempty" minimum:"1" maximum:"50" doc:"With onFailure skip. Default: 5"`
	IsActive  *bool  `json:"isActive,omitempty" doc:"Default: true. Switched off, events are kept, and go out when it is switched on again"`
}

// WebhookResource is a webhook as its owner sees it.
type WebhookResource struct {
	ID             string     `json:"id" format:"uuid"`
	SessionID      *string    `json:"sessionId" doc:"Null: it hears of all sessions of the account"`
	URL            string     `json:"url"`
	Events         []string   `json:"events"`
	Secret         string     `json:"secret,omitempty" doc:"Shown this once, when it is new. Verify signatures with it, see Standard Webhooks" example:"whsec_…"`
	PreviousUntil  *time.Time `json:"previousSecretUntil" doc:"Until then deliveries are signed with the former secret too"`
	HeaderNames    []string   `json:"headerNames" doc:"Names of the added headers; their values are not shown again"`
	Ordered        bool       `json:"ordered"`
	OnFailure      string     `json:"onFailure" enum:"block,skip"`
	SkipAfter      int        `json:"skipAfter"`
	IsActive       bool       `json:"isActive"`
	DisabledReason *string    `json:"disabledReason" doc:"Why we switched it off: gone (status 410) or failing (for days)" example:"gone"`
	LastDelivery   *time.Time `json:"lastDelivery"`
	FailureCount   int        `json:"failureCount" doc:"Failed attempts since the last success"`
	FailingSince   *time.Time `json:"failingSince" doc:"Since when nothing has got through"`
	Waiting        int        `json:"waiting" doc:"Deliveries that have not ended; 10,000 stands for that many or more" example:"0"`
	WaitingSince   *time.Time `json:"waitingSince" doc:"When the first of them happened"`
	CreatedAt      time.Time  `json:"createdAt"`
	UpdatedAt      time.Time  `json:"updatedAt"`
}

// webhookResource shows a webhook; session is the public name, "" for the account's.
func webhookResource(w *models.Webhook, session, secret string) WebhookResource {
	r := WebhookResource{ID: w.ID.String(), URL: w.URL, Events: w.Events, Secret: secret, HeaderNames: w.HeaderNames,
		Ordered: w.Ordered, OnFailure: strings.ToLower(w.OnFailure), SkipAfter: w.SkipAfter, IsActive: w.IsActive, DisabledReason: w.DisabledReason,
		LastDelivery: utc(w.LastDelivery), FailureCount: w.FailureCount, FailingSince: utc(w.FailingSince), CreatedAt: w.CreatedAt.UTC(), UpdatedAt: w.UpdatedAt.UTC()}
	if session != "" {
		r.SessionID = &session
	}
	if w.PreviousUntil != nil && w.PreviousUntil.After(time.Now()) {
		r.PreviousUntil = utc(w.PreviousUntil)
	}
	return r
}

// shown is webhookResource with what waits.
func (a *API) shown(ctx context.Context, w *models.Webhook, session, secret string) (*Reply[WebhookResource], error) {
	waiting, err := models.WaitingOf(ctx, a.db.Pool, w.ID)
	if err != nil {
		return nil, databaseFault(err)
	}
	r := webhookResource(w, session, secret)
	r.Waiting, r.WaitingSince = waiting.Count, utc(waiting.Since)
	return reply(r), nil
}

// hookOwner is whose webhook a call is about: that of the session of its path or, where the path has none, the account's.
func (a *API) hookOwner(ctx context.Context, session string) (models.HookOwner, error) {
	o := models.HookOwner{User: callerOf(ctx).user.ID}
	if session == "" {
		return o, nil
	}
	s, err := a.ownSession(ctx, session)
	if err != nil {
		return o, err
	}
	o.Session = s.UID
	return o, nil
}

var errNoWebhook = fault.New(fault.NotFound, "webhook_not_found", "There is no webhook.")

// ownWebhook finds a webhook of the caller.
func (a *API) ownWebhook(ctx context.Context, session string) (*models.Webhook, error) {
	o, err := a.hookOwner(ctx, session)
	if err != nil {
		return nil, err
	}
	w, err := models.WebhookOf(ctx, a.db, o)
	return w, found(err, errNoWebhook)
}

// PutWebhookInput sets a session's webhook.
type PutWebhookInput struct {
	SessionPath
	Body WebhookFields
}

func (a *API) putWebhook(ctx context.Context, in *PutWebhookInput) (*Reply[WebhookResource], error) {
	return a.changeWebhook(ctx, in.ID, func(ctx context.Context, tx models.Tx, o models.HookOwner) (*models.Webhook, string, error) {
		return a.saveWebhook(ctx, tx, o, &in.Body)
	})
}

// changeWebhook stores a change of a webhook and wakes its lane.
func (a *API) changeWebhook(ctx context.Context, session string, change func(context.Context, models.Tx, models.HookOwner) (*models.Webhook, string, error)) (*Reply[WebhookResource], error) {
	o, err := a.hookOwner(ctx, session)
	if err != nil {
		return nil, err
	}
	var w *models.Webhook
	var secret string
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) (err error) {
		w, secret, err = change(ctx, tx, o)
		return err
	})
	if ok, other := models.Found(err); !ok && other == nil {
		return nil, models.ErrGone // deleted since we looked
	}
	if err != nil {
		return nil, stored(err)
	}
	a.waker.Webhooks(models.Woken{Lane: w.ID})
	return a.shown(ctx, w, session, secret)
}

// saveWebhook checks and stores a webhook. The secret is returned only when it is new.
func (a *API) saveWebhook(ctx context.Context, tx models.Tx, o models.HookOwner, f *WebhookFields) (*models.Webhook, string, error) {
	if err := a.checkWebhook(f); err != nil {
		return nil, "", err
	}
	secret := ""
	if f.Secret != nil {
		secret = *f.Secret
	}
	w, err := models.PutWebhook(ctx, tx, o, func(former *models.Webhook) (*models.Webhook, error) {
		now := time.Now().Truncate(time.Microsecond) // as PostgreSQL keeps it
		w := &models.Webhook{CreatedAt: now}
		if former != nil {
			w = former
		} else if secret == "" {
			secret = webhook.NewSecret()
		}
		keepHeaders := f.Headers == nil && sameHost(w.URL, f.URL)
		w.URL, w.Events, w.UpdatedAt = f.URL, f.Events, now
		w.Ordered, w.OnFailure, w.SkipAfter = f.Ordered, strings.ToUpper(f.OnFailure), f.SkipAfter
		w.IsActive = f.IsActive == nil || *f.IsActive
		w.DisabledReason, w.FailingSince = nil, nil
		if secret != "" {
			a.setSecret(w, secret, now)
		}
		if keepHeaders {
			return w, nil
		}
		return w, a.sealHeaders(w, f.Headers)
	})
	return w, secret, err
}

// sameHost reports whether two addresses lead to one host: headers that are kept may hold what is for nobody else, not even for
// whoever has a key of the account and names another address.
func sameHost(a, b string) bool {
	one, err := url.Parse(a)
	if err != nil {
		return false
	}
	two, err := url.Parse(b)
	return err == nil && one.Scheme == two.Scheme && strings.EqualFold(one.Host, two.Host)
}

// secretOverlap is for how long a replaced secret signs beside its successor.
const secretOverlap = 24 * time.Hour

// setSecret gives a webhook a secret. The former one signs beside it for a while, and what was before that no longer does:
// there are never more than two. The secret that it has already changes nothing.
func (a *API) setSecret(w *models.Webhook, secret string, now time.Time) {
	if w.Secret != nil {
		if former, err := a.vault.Open(jobs.SealSecret, w.Secret); err == nil {
			if subtle.ConstantTimeCompare(former, []byte(secret)) == 1 {
				return
			}
			until := now.Add(secretOverlap)
			w.PreviousSecret, w.PreviousUntil = w.Secret, &until
		}
	}
	w.Secret = a.vault.Seal(jobs.SealSecret, []byte(secret))
}

// RotateSecretInput replaces the secret of a session's webhook.
type RotateSecretInput struct {
	SessionPath
	Body *RotateSecretFields
}

// RotateSecretFields name the next secret. The body may be left out.
type RotateSecretFields struct {
	Secret *string `json:"secret,omitempty" maxLength:"200" doc:"whsec_ and base64, or 24 to 64 characters of your own. Left out: we make one" example:"whsec_dGhpcy1pcy1vbmx5LWFuLWV4YW1wbGUh"`
	Force  bool    `json:"force,omitempty" doc:"Make another one although the former secret still signs: that one ends now, as when a secret has become known" example:"false"`
}

// errSecretRotating keeps a repeated call from ending the secret that receivers hold: the two that signed would be one that nobody
// has seen, and the newest.
var errSecretRotating = fault.New(fault.Conflict, "rotation_in_progress", "The secret has just been replaced, and the former one still signs, until previousSecretUntil. To replace it again, name the next secret, or say force.")

func (a *API) rotateSecret(ctx context.Context, in *RotateSecretInput) (*Reply[WebhookResource], error) {
	secret, meant := webhook.NewSecret(), in.Body != nil && (in.Body.Secret != nil || in.Body.Force)
	if in.Body != nil && in.Body.Secret != nil {
		given, err := webhook.ParseSecret(*in.Body.Secret)
		if err != nil {
			return nil, fault.Field("secret", err.Error())
		}
		secret = given
	}
	return a.changeWebhook(ctx, in.ID, func(ctx context.Context, tx models.Tx, o models.HookOwner) (*models.Webhook, string, error) {
		w, err := models.PutWebhook(ctx, tx, o, func(w *models.Webhook) (*models.Webhook, error) {
			if w == nil {
				return nil, errNoWebhook
			}
			w.UpdatedAt = time.Now().Truncate(time.Microsecond)
			if !meant && w.PreviousUntil != nil && w.PreviousUntil.After(w.UpdatedAt) {
				return nil, errSecretRotating
			}
			a.setSecret(w, secret, w.UpdatedAt)
			return w, nil
		})
		return w, secret, err
	})
}

func (a *API) sealHeaders(w *models.Webhook, headers map[string]string) error {
	w.Headers, w.HeaderNames = nil, []string{}
	if len(headers) == 0 {
		return nil
	}
	plain, err := json.Marshal(headers)
	if err != nil {
		return err
	}
	w.Headers = a.vault.Seal(jobs.SealHeaders, plain)
	w.HeaderNames = slices.Sorted(maps.Keys(headers))
	return nil
}

const defaultSkipAfter = 5 // attempts: three minutes on the default schedule

// checkWebhook checks what an owner set, fills in what he left out, and wraps a secret that he chose.
func (a *API) checkWebhook(f *WebhookFields) error {
	if err := a.guard.CheckURL(f.URL); err != nil {
		return fault.Field("url", err.Error())
	}
	if f.Events == nil {
		f.Events = []string{webhook.All}
	}
	if err := webhook.ValidEvents(f.Events); err != nil {
		return fault.Field("events", short(err.Error()))
	}
	if err := webhook.CheckHeaders(f.Headers); err != nil {
		return fault.Field("headers", short(strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	if f.OnFailure == "" {
		f.OnFailure = "block"
	}
	if f.SkipAfter == 0 {
		f.SkipAfter = defaultSkipAfter
	}
	if f.Secret != nil {
		secret, err := webhook.ParseSecret(*f.Secret)
		if err != nil {
			return fault.Field("secret", err.Error())
		}
		f.Secret = &secret
	}
	return nil
}

func (a *API) getWebhook(ctx context.Context, in *SessionPath) (*Reply[WebhookResource], error) {
	w, err := a.ownWebhook(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.shown(ctx, w, in.ID, "")
}

func (a *API) deleteWebhook(ctx context.Context, in *SessionPath) (*Reply[Done], error) {
	o, err := a.hookOwner(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	removed := false
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) (err error) {
		if removed, err = models.DeleteWebhook(ctx, tx, o); err == nil && !removed {
			err = errNoWebhook
		}
		return err
	})
	if err != nil {
		return nil, stored(err)
	}
	return reply(Done{Message: "The webhook is removed, with its deliveries."}), nil
}
