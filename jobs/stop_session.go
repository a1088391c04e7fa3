package jobs

import (
	"context"
	"fmt"

	"kurir/models"
)

// KindStopSession has a session's worker let go of it: the sends in hand are finished, the credentials stay, and the
// worker's room is free. It runs after POST /sessions/{id}/stop.
const KindStopSession = models.KindStopSession

// endedSession is the result of a stop or a logout.
type endedSession struct {
	SessionID string `json:"sessionId"`
	Status    string `json:"status"`
	Reason    string `json:"reason"`
	Unlinked  *bool  `json:"unlinked,omitempty"` // of a logout: false if the phone still shows the device
}

var superseded = map[string]string{"skipped": "the session was started or deleted meanwhile"}

// stopSession is level-triggered. A worker that cannot be reached is asked until its lease is over: then it holds nothing.
func (r *Runner) stopSession(ctx context.Context, j *models.Job) (any, error) {
	s, w, err := r.subject(ctx, j)
	if err != nil {
		return nil, err
	}
	switch {
	case s.Desired == models.DesiredLoggedOut: // which is more than stopped, and has a job of its own
		return endedSession{SessionID: s.ID, Status: "disconnected", Reason: "logged_out"}, nil
	case s.Desired != models.DesiredStopped:
		return superseded, nil
	case s.Ended():
		return endedSession{SessionID: s.ID, Status: "disconnected", Reason: "stopped"}, nil
	case w.ID != "":
		worker := r.workers.client(w)
		err := worker.control(ctx, releaseTimeout, func(ctx context.Context) error { return worker.Release(ctx, s.UID.String(), s.Epoch) })
		if _, err := r.gone(ctx, s, w, err); err != nil {
			return nil, err
		}
	}
	return r.ended(ctx, s, endedSession{SessionID: s.ID, Status: "disconnected", Reason: "stopped"})
}

// gone judges an error of a call that ends a worker's hold on a session: true if the worker did not do it and holds nothing,
// since its lease is over. While it may hold the session, the error is returned.
func (r *Runner) gone(ctx context.Context, s *models.Session, w *models.Worker, err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	alive, liveErr := models.LeaseLive(ctx, r.db, w.ID, w.Term)
	if liveErr != nil {
		return false, fmt.Errorf("read lease of %s: %w", w.ID, liveErr)
	}
	if alive {
		return false, ErrWorkerUnavailable.WithCause(fmt.Errorf("let go of session %s on %s: %w", s.UID, w.ID, err))
	}
	return true, nil
}

// ended writes down that nobody holds the session any more.
func (r *Runner) ended(ctx context.Context, s *models.Session, result endedSession) (any, error) {
	ended, webhooks, err := models.EndSession(ctx, r.db, s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("end session %s: %w", s.UID, err)
	case !ended:
		return superseded, nil
	}
	r.waker.Webhooks(webhooks...)
	return result, nil
}
