package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/jobs"
	"kurir/models"
)

// MigrateInput moves a session of whatever tenant.
type MigrateInput struct {
	SessionPath
	OnceHeader
	Body *MigrateFields
}

// MigrateFields say where to. The body may be left out.
type MigrateFields struct {
	WorkerID string `json:"workerId,omitempty" minLength:"1" maxLength:"64" doc:"Where to; left out: where there is most room" example:"worker-002"`
}

// MigratingSession is a session that is about to move.
type MigratingSession struct {
	SessionID string `json:"sessionId" example:"shop"`
	From      string `json:"from" example:"worker-001"`
	To        string `json:"to" doc:"Where room is reserved for it. Should that worker be gone by then, it is another one" example:"worker-002"`
	JobID     string `json:"jobId" format:"uuid"`
	Status    string `json:"status" enum:"migrating"`
}

func (a *API) migrateSession(ctx context.Context, in *MigrateInput) (*Started[MigratingSession], error) {
	s, err := models.SessionByName(ctx, a.db, in.ID)
	if err := found(err, models.ErrGone); err != nil {
		return nil, err
	}
	to := ""
	if in.Body != nil {
		to = in.Body.WorkerID
	}
	job := newResourceID(ctx)
	former, err := models.JobOf(ctx, a.db, callerOf(ctx).user.ID, &s.UID, job)
	if ok, err := models.Found(err); err != nil {
		return nil, databaseFault(err)
	} else if ok { // the first request with this Idempotency-Key died after its commit
		tellNothing(ctx)
		return migrating(s, former), nil
	}
	if to != "" {
		_, err := models.LoadOf(ctx, a.db, to)
		if err := found(err, errNoWorker); err != nil {
			return nil, err
		}
	}
	if to, err = a.startMove(ctx, s, to, job); err != nil {
		return nil, err
	}
	a.queue.StartJob(ctx, models.KindMigrateSession, job)
	return started(http.StatusAccepted, job, "", MigratingSession{SessionID: s.ID, From: *s.WorkerID, To: to, JobID: job.String(), Status: "migrating"}), nil
}

// startMove adds the job that moves a session, and says where to.
func (a *API) startMove(ctx context.Context, s *models.Session, to string, job uuid.UUID) (target string, err error) {
	user := callerOf(ctx).user.ID
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		at, err := models.MoveSession(ctx, tx, job, s, to, models.MoveAdmin, &user)
		if err != nil {
			return err
		}
		target = at
		return a.audit(ctx, tx, models.Audit{Message: "session.migration_requested", Session: s.ID, Worker: *s.WorkerID,
			Details: map[string]string{"from": *s.WorkerID, "to": at, "job": job.String()}})
	})
	if errors.Is(err, models.ErrNotRunning) && s.Desired == models.DesiredRunning && s.WorkerID != nil {
		err = models.ErrMigrating // it has moved on since it was read
	}
	return target, stored(err)
}

// migrating is the answer of a request that is repeated after its job was added.
func migrating(s *models.Session, j *models.Job) *Started[MigratingSession] {
	var p models.MoveParams
	_ = json.Unmarshal(j.Params, &p) // which we have written
	to := s.MovingTo
	if to == nil {
		to = s.WorkerID
	}
	answer := MigratingSession{SessionID: s.ID, From: p.From, JobID: j.ID.String(), Status: "migrating"}
	if to != nil {
		answer.To = *to
	}
	return started(http.StatusAccepted, j.ID, "", answer)
}

// StartedJob is work that was begun.
type StartedJob struct {
	JobID string `json:"jobId" format:"uuid"`
}

func (a *API) rebalance(ctx context.Context, _ *OnceHeader) (*Started[StartedJob], error) {
	job := newResourceID(ctx)
	err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		added, err := models.AskFor(ctx, tx, job, jobs.KindRebalance, callerOf(ctx).user.ID)
		if err != nil || !added { // the first request with this Idempotency-Key died after its commit
			tellNothing(ctx)
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "sessions.rebalance_requested", Details: map[string]string{"job": job.String()}})
	})
	if err != nil {
		return nil, stored(err)
	}
	a.queue.StartJob(ctx, jobs.KindRebalance, job)
	return started(http.StatusAccepted, job, "", StartedJob{JobID: job.String()}), nil
}
