package jobs

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"kurir/models"
)

// KindCreateSession has the worker of a session hold it. It runs after POST /sessions, and when reconcile finds that a
// worker does not hold what is assigned to it: it came back, or an earlier attempt failed.
const KindCreateSession = models.KindCreateSession

// createSession is level-triggered: it does what the rows say now, however old the job is.
func (r *Runner) createSession(ctx context.Context, j *models.Job) (any, error) {
	for {
		s, w, err := r.subject(ctx, j)
		if err != nil {
			return nil, err
		}
		if s.Desired != models.DesiredRunning {
			return skipped, nil
		}
		if w.ID == "" {
			return nil, models.ErrNoWorker
		}
		state, err := r.hold(ctx, s, w)
		switch {
		case errors.Is(err, errMovedOn):
			continue
		case cannotHold(err) && r.moveOn(ctx, s):
			return map[string]string{"sessionId": s.ID, "workerId": w.ID, "status": "moving", "reason": models.MoveRefused}, nil
		case err != nil:
			return nil, err
		}
		return map[string]string{"sessionId": s.ID, "workerId": w.ID, "status": state.Status}, nil
	}
}

// moveOn has a session move that its worker cannot hold, and says whether somebody else can.
func (r *Runner) moveOn(ctx context.Context, s *models.Session) bool {
	job := models.NewID()
	err := r.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		_, err := models.MoveSession(ctx, tx, job, s, "", models.MoveRefused, nil)
		return err
	})
	if err != nil {
		r.log.Warn("session cannot be held by its worker, and has to stay", "session", s.UID, "worker", s.WorkerID, "error", err)
		return false
	}
	r.start(ctx, KindMigrateSession, job)
	return true
}
