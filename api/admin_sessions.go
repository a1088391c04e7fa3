package api

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/jobs"
	"kurir/models"
)

// AdminSession is a session with whose it is.
type AdminSession struct {
	SessionResource
	SendingPausedAt *time.Time   `json:"sendingPausedAt" doc:"Since then an administrator has nothing of it sent; sending tells of all pauses"`
	Owner           SessionOwner `json:"owner"`
}

// SessionOwner is whose a session is.
type SessionOwner struct {
	UserID string `json:"userId" format:"uuid"`
	Name   string `json:"name" example:"Sari"`
	Email  string `json:"email" example:"sari@example.com"`
	Tier   string `json:"tier" enum:"basic,pro,max"`
}

// AdminSessionsInput asks for sessions of all tenants.
type AdminSessionsInput struct {
	Page
	Status string `query:"status" enum:"initializing,qr_required,connected,disconnected,reconnecting,error" doc:"Those with this status"`
	Worker string `query:"worker" maxLength:"64" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" doc:"Held by this worker" example:"worker-001"`
	User   string `query:"user" maxLength:"36" format:"uuid" doc:"Of this user"`
	Search string `query:"search" maxLength:"200" doc:"Words of ID, name or number, each by how it begins: all of them have to be there" example:"shop"`
}

// AdminSessionList is a page of sessions, newest first.
type AdminSessionList struct {
	Sessions   []AdminSession `json:"sessions"`
	NextCursor *string        `json:"nextCursor"`
}

func (a *API) listAllSessions(ctx context.Context, in *AdminSessionsInput) (*Reply[AdminSessionList], error) {
	before, err := in.after()
	if err != nil {
		return nil, err
	}
	if err := checkSearch(in.Search); err != nil {
		return nil, err
	}
	user, _ := uuid.Parse(in.User) // the schema has looked at it
	rows, err := models.SessionsOfAll(ctx, a.db, models.SessionFilter{Status: statusNamed(in.Status), Worker: in.Worker, User: user, Search: in.Search, Before: before, Limit: in.Limit + 1})
	if err != nil {
		return nil, databaseFault(err)
	}
	page := first(rows, in.Limit)
	list := AdminSessionList{Sessions: make([]AdminSession, 0, len(page))}
	for i := range page {
		s := &page[i]
		list.Sessions = append(list.Sessions, AdminSession{SessionResource: a.sessionResource(&s.Session), SendingPausedAt: utc(s.SendingPausedAt),
			Owner: SessionOwner{UserID: s.UserID.String(), Name: s.OwnerName, Email: s.OwnerEmail, Tier: strings.ToLower(s.OwnerTier)}})
	}
	if len(page) > 0 {
		list.NextCursor = in.next(len(rows), page[len(page)-1].UID)
	}
	return reply(list), nil
}

// statusNamed is the reverse of models.SessionStatusName.
func statusNamed(name string) string {
	if name == models.SessionStatusName(models.SessionInit) {
		return models.SessionInit
	}
	return strings.ToUpper(name)
}

// PauseFields say why. The body may be left out.
type PauseFields struct {
	Reason string `json:"reason,omitempty" maxLength:"200" doc:"For the audit trail" example:"Complaints about spam"`
}

// Pause is whether something is sent.
type Pause struct {
	Paused bool       `json:"paused"`
	Since  *time.Time `json:"since" doc:"Null: it is not paused"`
}

func pause(since *time.Time) *Reply[Pause] {
	return reply(Pause{Paused: since != nil, Since: utc(since)})
}

// tellWhy puts the reason of a pause into the audit line.
func tellWhy(ctx context.Context, f *PauseFields) {
	if f != nil && f.Reason != "" {
		tell(ctx, func(line *models.Audit) { line.Details = map[string]string{"reason": f.Reason} })
	}
}

// PauseSessionInput pauses or resumes the sending of a session.
type PauseSessionInput struct {
	SessionPath
	Body *PauseFields
}

func (a *API) pauseSession(ctx context.Context, in *PauseSessionInput) (*Reply[Pause], error) {
	return a.setSessionPause(ctx, in, true)
}

func (a *API) resumeSession(ctx context.Context, in *PauseSessionInput) (*Reply[Pause], error) {
	return a.setSessionPause(ctx, in, false)
}

func (a *API) setSessionPause(ctx context.Context, in *PauseSessionInput, paused bool) (*Reply[Pause], error) {
	s, err := models.SessionByName(ctx, a.db, in.ID)
	if err := found(err, models.ErrGone); err != nil {
		return nil, err
	}
	tellWhy(ctx, in.Body)
	tell(ctx, func(line *models.Audit) { line.Target = s.UserID })
	var since *time.Time
	if err := a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		since, err = models.PauseSession(ctx, tx, s.UID, paused)
		return err
	}); err != nil {
		return nil, stored(err)
	}
	if !paused {
		a.waker.Messages(models.Woken{Lane: s.UID})
	}
	return pause(since), nil
}

// PauseUserInput pauses or resumes the sending of a user's sessions.
type PauseUserInput struct {
	UserPath
	Body *PauseFields
}

func (a *API) pauseUser(ctx context.Context, in *PauseUserInput) (*Reply[Pause], error) {
	return a.setUserPause(ctx, in, true)
}

func (a *API) resumeUser(ctx context.Context, in *PauseUserInput) (*Reply[Pause], error) {
	return a.setUserPause(ctx, in, false)
}

func (a *API) setUserPause(ctx context.Context, in *PauseUserInput, paused bool) (*Reply[Pause], error) {
	id, err := in.user()
	if err != nil {
		return nil, err
	}
	tellWhy(ctx, in.Body)
	var since *time.Time
	var lanes []uuid.UUID
	if err := a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		since, lanes, err = models.PauseUser(ctx, tx, id, paused)
		return err
	}); err != nil {
		return nil, stored(err)
	}
	a.waker.Messages(models.Unheld(lanes...)...)
	return pause(since), nil
}

// PausePlatformInput pauses or resumes all sending.
type PausePlatformInput struct{ Body *PauseFields }

func (a *API) pausePlatform(ctx context.Context, in *PausePlatformInput) (*Reply[Pause], error) {
	return a.setPlatformPause(ctx, in, true)
}

func (a *API) resumePlatform(ctx context.Context, in *PausePlatformInput) (*Reply[Pause], error) {
	return a.setPlatformPause(ctx, in, false)
}

func (a *API) setPlatformPause(ctx context.Context, in *PausePlatformInput, paused bool) (*Reply[Pause], error) {
	tellWhy(ctx, in.Body)
	var since *time.Time
	if err := a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		since, err = models.PausePlatform(ctx, tx, paused)
		return err
	}); err != nil {
		return nil, stored(err)
	}
	if !paused {
		a.tick(ctx, jobs.KindSweep)
	}
	return pause(since), nil
}
