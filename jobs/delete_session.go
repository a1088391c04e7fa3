package jobs

import (
	"context"
	"fmt"
	"time"

	"kurir/models"
)

// KindDeleteSession unlinks a deleted session's device and has its worker forget it. Then the worker's room and
// the session's name are free.
const KindDeleteSession = "session:delete"

const deleteTimeout = 45 * time.Second // a worker gives the unlinking 30 s

// deleteSession asks the worker while that may hold the session: while its lease lives, in the term that confirmed it
// or before any did. A worker whose lease is over holds nothing.
func (r *Runner) deleteSession(ctx context.Context, j *models.Job) (any, error) {
	s, w, err := r.subject(ctx, j)
	if err != nil {
		return nil, err
	}
	unlinked, err := r.unlink(ctx, j, s, w)
	if err != nil {
		return nil, err
	}
	if err := models.ReleaseTombstone(ctx, r.db, s.UID); err != nil {
		return nil, fmt.Errorf("release session %s: %w", s.UID, err)
	}
	return map[string]any{"sessionId": s.ID, "unlinked": unlinked}, nil
}
