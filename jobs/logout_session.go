package jobs

import (
	"context"
	"errors"

	"kurir/models"
	"kurir/wire"
)

// KindLogoutSession unlinks a session's device from its phone, has the worker forget it and frees the worker's room. It
// runs after POST /sessions/{id}/logout.
const KindLogoutSession = models.KindLogoutSession

// logoutSession ends logged out in any case. Where the phone could not be told, because the worker that was connected has
// died or nobody has room to connect once more, the result says so: the device has to be removed on the phone.
func (r *Runner) logoutSession(ctx context.Context, j *models.Job) (any, error) {
	s, w, err := r.subject(ctx, j)
	if err != nil {
		return nil, err
	}
	result := endedSession{SessionID: s.ID, Status: "disconnected", Reason: "logged_out"}
	switch {
	case s.Desired != models.DesiredLoggedOut:
		return superseded, nil
	case s.Ended():
		return result, nil
	}
	unlinked, err := r.unlink(ctx, j, s, w)
	if err != nil {
		return nil, err
	}
	result.Unlinked = &unlinked
	return r.ended(ctx, s, result)
}

// unlinkTries is how often a session that nobody holds is connected once more to unlink its device.
const unlinkTries = 10

// unlink has the phone of a session that was deleted or logged out forget the device, and its worker forget the session. It
// returns without an error only when nobody holds the session any more; false says that the phone may still show the device.
func (r *Runner) unlink(ctx context.Context, j *models.Job, s *models.Session, w *models.Worker) (bool, error) {
	again := s.LinkedAt != nil && j.Attempts <= unlinkTries
	if w.ID == "" {
		if !again {
			return r.unlinked(s, w, s.LinkedAt == nil), nil
		}
		placed, err := models.PlaceToUnlink(ctx, r.db, s)
		switch {
		case err != nil:
			return false, err
		case placed:
			return false, later{}
		}
		return false, later{moveWait}
	}
	worker := r.workers.client(w)
	err := worker.control(ctx, deleteTimeout, func(ctx context.Context) error { return worker.Delete(ctx, s.UID.String(), s.Epoch, true) })
	if wire.Code(err) == wire.CodeSessionNotFound {
		if again {
			if err = r.holdToUnlink(ctx, s, w); errors.Is(err, errHeldToUnlink) {
				return false, err
			}
		} else {
			return r.unlinked(s, w, s.LinkedAt == nil), nil
		}
	}
	over, err := r.gone(ctx, s, w, err)
	if err != nil {
		return false, err
	}
	return r.unlinked(s, w, !over || s.LinkedAt == nil), nil
}

// unlinked logs what the phone still shows.
func (r *Runner) unlinked(s *models.Session, w *models.Worker, ok bool) bool {
	if !ok {
		r.log.Warn("session ended without its phone being told: that may still show the device", "session", s.UID, "worker", w.ID)
	}
	return ok
}

// holdToUnlink has a worker hold a session that was deleted while it moved, or while its worker was away: only who is
// connected can unlink the device. It always fails, so that the job comes again and unlinks.
func (r *Runner) holdToUnlink(ctx context.Context, s *models.Session, w *models.Worker) error {
	if _, err := r.create(ctx, s, w, false); err != nil {
		return err
	}
	return errHeldToUnlink
}

var errHeldToUnlink = errors.New("the session was held by nobody; it is connected now, to be unlinked")
