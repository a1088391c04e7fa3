package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"kurir/models"
	"kurir/wire"
)

// KindDeleteSession unlinks a deleted session's device and has its worker forget it. Then the worker's room and
// the session's name are free.
const KindDeleteSession = "session:delete"

const deleteTimeout = 45 * time.Second // a worker gives the unlinking 30 s

// unlinkTries is how often a session that nobody holds is connected once more to unlink its device.
const unlinkTries = 10

// deleteSession asks the worker while that may hold the session: while its lease lives, in the term that confirmed it
// or before any did. A worker whose lease is over holds nothing.
func (r *Runner) deleteSession(ctx context.Context, j *models.Job) (any, error) {
	s, w, err := r.subject(ctx, j)
	if err != nil {
		return nil, err
	}
	if w.ID != "" {
		worker := r.workers.client(w)
		err := worker.control(ctx, deleteTimeout, func(ctx context.Context) error { return worker.Delete(ctx, s.UID.String(), s.Epoch, true) })
		if wire.Code(err) == wire.CodeSessionNotFound && s.LinkedAt != nil && j.Attempts <= unlinkTries {
			err = r.holdToUnlink(ctx, s, w)
		}
		if err != nil && wire.Code(err) != wire.CodeSessionNotFound {
			alive, liveErr := models.LeaseLive(ctx, r.db, w.ID, w.Term)
			if liveErr != nil {
				return nil, fmt.Errorf("read lease of %s: %w", w.ID, liveErr)
			}
			if alive {
				return nil, ErrWorkerUnavailable.WithCause(fmt.Errorf("delete session %s on %s: %w", s.UID, w.ID, err))
			}
			r.log.Warn("session deleted without its worker: the phone may still show the device", "session", s.UID, "worker", w.ID)
		}
	}
	if err := models.ReleaseTombstone(ctx, r.db, s.UID); err != nil {
		return nil, fmt.Errorf("release session %s: %w", s.UID, err)
	}
	return map[string]string{"sessionId": s.ID}, nil
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
