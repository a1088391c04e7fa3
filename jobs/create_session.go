package jobs

import (
	"context"
	"fmt"

	"kurir/models"
	"kurir/wire"
)

// KindCreateSession has the worker of a session hold it. It runs after POST /sessions, and when reconcile finds that a
// worker does not hold what is assigned to it: it came back, or an earlier attempt failed.
const KindCreateSession = "session:create"

// createSession is level-triggered: it does what the rows say now, however old the job is.
func (r *Runner) createSession(ctx context.Context, j *models.Job) (any, error) {
	s, w, err := r.subject(ctx, j)
	if err != nil {
		return nil, err
	}
	if s.Desired != models.DesiredRunning {
		return map[string]string{"skipped": "the session is no longer wanted"}, nil
	}
	if w.ID == "" {
		return nil, ErrWorkerUnavailable
	}
	state, err := r.workers.client(w).Create(ctx, wire.CreateSession{SessionID: s.UID.String(), UserID: s.UserID.String(),
		SessionName: s.Name, Epoch: s.Epoch})
	if err != nil {
		return nil, ErrWorkerUnavailable.WithCause(fmt.Errorf("create session %s on %s: %w", s.UID, w.ID, err))
	}
	wanted, err := models.ConfirmHeld(ctx, r.db, s.UID, w.ID, w.Term, s.Epoch)
	if err != nil {
		return nil, fmt.Errorf("confirm session %s: %w", s.UID, err)
	}
	if !wanted { // deleted or moved meanwhile: the heartbeat's answer has the worker drop it
		return map[string]string{"skipped": "the session is no longer wanted"}, nil
	}
	return map[string]string{"sessionId": s.ID, "workerId": w.ID, "status": state.Status}, nil
}
