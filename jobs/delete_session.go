package jobs

import (
	"context"
	"fmt"

	"kurir/models"
	"kurir/wire"
)

// KindDeleteSession unlinks a deleted session's device and has its worker forget it. Then the worker's room and
// the session's name are free.
const KindDeleteSession = "session:delete"

// deleteSession asks the worker while that may hold the session: while its lease lives, in the term that confirmed it
// or before any did. A worker whose lease is over holds nothing.
func (r *Runner) deleteSession(ctx context.Context, j *models.Job) (any, error) {
	s, w, err := r.subject(ctx, j)
	if err != nil {
		return nil, err
	}
	if w.ID != "" {
		err := r.workers.client(w).Delete(ctx, s.UID.String(), s.Epoch, true)
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
