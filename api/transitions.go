package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/models"
)

// TransitionInput starts, stops, restarts or logs out a session.
type TransitionInput struct {
	SessionPath
	Prefer string `header:"Prefer" doc:"wait=N, up to 30: answer when it is done. A start is done when there is a QR code, or the session is connected" example:"wait=10"`
}

// Transition is a session on its way to what should be.
type Transition struct {
	JobID string `json:"jobId" format:"uuid"`
	SessionResource
}

func (a *API) startSession(ctx context.Context, in *TransitionInput) (*Started[Transition], error) {
	return a.transition(ctx, in, models.KindStartSession, func(tx pgx.Tx, uid uuid.UUID) (uuid.UUID, []models.Woken, error) {
		return models.StartSession(ctx, tx, uid, false)
	})
}

func (a *API) restartSession(ctx context.Context, in *TransitionInput) (*Started[Transition], error) {
	return a.transition(ctx, in, models.KindStartSession, func(tx pgx.Tx, uid uuid.UUID) (uuid.UUID, []models.Woken, error) {
		return models.StartSession(ctx, tx, uid, true)
	})
}

func (a *API) stopSession(ctx context.Context, in *TransitionInput) (*Started[Transition], error) {
	return a.transition(ctx, in, models.KindStopSession, func(tx pgx.Tx, uid uuid.UUID) (uuid.UUID, []models.Woken, error) {
		job, err := models.StopSession(ctx, tx, uid)
		return job, nil, err
	})
}

func (a *API) logoutSession(ctx context.Context, in *TransitionInput) (*Started[Transition], error) {
	return a.transition(ctx, in, models.KindLogoutSession, func(tx pgx.Tx, uid uuid.UUID) (uuid.UUID, []models.Woken, error) {
		return models.LogOutSession(ctx, tx, uid)
	})
}

// transition changes what should be of a session, and starts the job that makes it so.
func (a *API) transition(ctx context.Context, in *TransitionInput, kind string, change func(pgx.Tx, uuid.UUID) (uuid.UUID, []models.Woken, error)) (*Started[Transition], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	var job uuid.UUID
	var webhooks []models.Woken
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		job, webhooks, err = change(tx, s.UID)
		return err
	})
	if err != nil {
		return nil, stored(err)
	}
	a.waker.Webhooks(webhooks...)
	a.queue.StartJob(ctx, kind, job)
	answer, wait := Transition{JobID: job.String()}, waitOf(in.Prefer)
	done, err := a.waitForTransition(ctx, s.UID, wait, kind, &answer.SessionResource)
	if err != nil {
		return nil, databaseFault(err)
	}
	status := http.StatusAccepted
	if done && wait > 0 {
		status = http.StatusOK
	}
	return started(status, job, applied(wait), answer), nil
}

// waitForTransition reads the session, and as often as it takes where the client waits.
func (a *API) waitForTransition(ctx context.Context, uid uuid.UUID, wait time.Duration, kind string, into *SessionResource) (bool, error) {
	if kind == models.KindStartSession && wait > 0 {
		return a.waitForSession(ctx, uid, wait, into)
	}
	look := func() (bool, error) {
		s, err := models.SessionByUID(ctx, a.db, uid)
		if err != nil {
			return false, err
		}
		*into = a.sessionResource(s)
		return s.Ended(), nil
	}
	if wait == 0 {
		return look()
	}
	return a.waiter.until(ctx, callerOf(ctx).user.ID, wait, look)
}

// notRunning refuses what needs a session that runs.
func notRunning(s *models.Session) error {
	if s.Desired == models.DesiredRunning {
		return nil
	}
	refusal := *models.ErrNotLinked
	refusal.Sentence = "The session is " + strings.ReplaceAll(strings.ToLower(s.Desired), "_", " ") + ". Start it first."
	return &refusal
}
