package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"kurir/address"
	"kurir/fault"
	"kurir/jobs"
	"kurir/models"
)

// ContactPath names a person or group.
type ContactPath struct {
	Address string `path:"address" maxLength:"128" doc:"Phone number with country code, or a WhatsApp address" example:"6281234567890"`
}

// SessionContactPath names one within a session.
type SessionContactPath struct {
	SessionPath
	ContactPath
}

// ForgottenContact answers a deletion of a contact's data.
type ForgottenContact struct {
	JobID  string    `json:"jobId" format:"uuid"`
	Status string    `json:"status" enum:"deleting"`
	Before time.Time `json:"before" doc:"What was written before this time goes, what comes later stays"`
}

func (a *API) forgetSessionContact(ctx context.Context, in *SessionContactPath) (*Started[ForgottenContact], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.forgetContact(ctx, in.ContactPath, s)
}

func (a *API) forgetAccountContact(ctx context.Context, in *ContactPath) (*Started[ForgottenContact], error) {
	return a.forgetContact(ctx, *in, nil)
}

// forgetContact starts the deletion in one session, or in all of the caller's.
func (a *API) forgetContact(ctx context.Context, in ContactPath, s *models.Session) (*Started[ForgottenContact], error) {
	jid, err := address.Parse(in.Address)
	if err != nil {
		return nil, errAddress
	}
	user := callerOf(ctx).user.ID
	before := time.Now().UTC().Truncate(time.Millisecond).Add(time.Millisecond) // what has an ID of this millisecond is from before
	job := &models.Job{ID: models.NewID(), Kind: jobs.KindForgetContact, UserID: &user}
	if s != nil {
		job.SessionUID = &s.UID
	}
	tell(ctx, func(line *models.Audit) { line.Details = map[string]any{"job": job.ID, "contact": masked(jid)} })
	if job.Params, err = jobs.ForgetContactParams(jid, before); err != nil {
		return nil, err
	}
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) error { return models.InsertJob(ctx, tx, job) })
	if err != nil {
		return nil, stored(err)
	}
	a.queue.StartJob(ctx, job.Kind, job.ID)
	return started(http.StatusAccepted, job.ID, "", ForgottenContact{JobID: job.ID.String(), Status: "deleting", Before: before}), nil
}

var errAddress = fault.Field("address", "expected a phone number with country code, or a WhatsApp address")

// masked is an address as the audit trail may hold it.
func masked(jid string) string {
	user, server, _ := strings.Cut(jid, "@")
	return "…" + user[max(len(user)-3, 0):] + "@" + server
}

// RetentionInput changes how long messages are kept.
type RetentionInput struct {
	Body struct {
		MessageDays *int `json:"messageDays" nullable:"true" minimum:"1" maximum:"36500" doc:"After how many days messages and events are dropped; null: when the installation does" example:"90"`
	}
}

// Retention is how long an account's data are kept.
type Retention struct {
	MessageDays   *int `json:"messageDays" doc:"What the account wants; null: what the installation does"`
	MaximumDays   *int `json:"maximumDays" doc:"After how many days the installation drops messages, by whole months; null: never"`
	DeliveryDays  *int `json:"deliveryDays" doc:"After how many days events and webhook deliveries are dropped; null: never"`
	EffectiveDays *int `json:"effectiveDays" doc:"What holds for messages; null: they are kept"`
}

func (a *API) getRetention(ctx context.Context, _ *struct{}) (*Reply[Retention], error) {
	own, err := models.RetentionOf(ctx, a.db, callerOf(ctx).user.ID)
	if err != nil {
		return nil, databaseFault(err)
	}
	r := Retention{MessageDays: own, MaximumDays: someDays(a.cfg.KeepMessagesDays), DeliveryDays: someDays(a.cfg.KeepDeliveriesDays)}
	r.EffectiveDays = r.MaximumDays
	if own != nil && (r.MaximumDays == nil || *own < *r.MaximumDays) {
		r.EffectiveDays = own
	}
	return reply(r), nil
}

func someDays(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func (a *API) putRetention(ctx context.Context, in *RetentionInput) (*Reply[Retention], error) {
	days := in.Body.MessageDays
	if most := a.cfg.KeepMessagesDays; days != nil && most > 0 && *days > most {
		return nil, fault.Field("messageDays", "longer than this installation keeps messages")
	}
	user := callerOf(ctx).user.ID
	tell(ctx, func(line *models.Audit) { line.Details = map[string]any{"messageDays": days} })
	if err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error { return models.SetRetention(ctx, tx, user, days) }); err != nil {
		return nil, databaseFault(err)
	}
	return a.getRetention(ctx, nil)
}
