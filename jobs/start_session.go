package jobs

import (
	"context"

	"kurir/models"
)

// KindStartSession has the worker of a session that was started or restarted hold it at its new epoch: one that holds an
// older one gives up that connection first. It runs after POST /sessions/{id}/start and /restart.
const KindStartSession = models.KindStartSession

// startSession does what createSession does. If it fails in the end, reconcile goes on trying.
func (r *Runner) startSession(ctx context.Context, j *models.Job) (any, error) {
	return r.createSession(ctx, j)
}
