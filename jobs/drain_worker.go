package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"kurir/fault"
	"kurir/models"
)

// KindDrainWorker moves every session of a worker away: for maintenance, before its removal, or because it is told to
// stop. The moves are jobs of their own; this one starts them, a few at a time, and watches.
const KindDrainWorker = models.KindDrainWorker

const (
	drainAtOnce = 64          // sessions on their way; each is out of service for its own move only
	drainLook   = time.Second // between two looks
	drainTime   = 15 * time.Minute
)

// drainProgress is the job's progress and, at the end, its result.
type drainProgress struct {
	WorkerID string `json:"workerId"`
	Reason   string `json:"reason"`
	Total    int    `json:"total"` // sessions at the beginning
	Moved    int    `json:"moved"` // that have left since, in whatever way
	models.Drained
}

var errDrainTime = fault.New(fault.Conflict, "drain_incomplete", "Not all sessions could be moved away in time: nobody has room, or the worker does not let go of them.")

// drainWorker looks once; it is run until the worker is empty.
func (r *Runner) drainWorker(ctx context.Context, j *models.Job) (any, error) {
	if j.WorkerID == nil {
		return nil, errNoSubject
	}
	var p models.DrainParams
	if err := json.Unmarshal(j.Params, &p); err != nil {
		return nil, errNoSubject.WithCause(err)
	}
	w, err := models.WorkerByID(ctx, r.db, *j.WorkerID)
	if err != nil {
		return nil, fmt.Errorf("read worker %s: %w", *j.WorkerID, err)
	}
	progress := drainProgress{}
	_ = json.Unmarshal(j.Progress, &progress) // none: the first look
	first := progress.WorkerID == ""
	progress.WorkerID, progress.Reason = w.ID, p.Reason
	if p.Reason == models.MoveShutdown && w.Status == models.WorkerOnline || p.Reason != models.MoveShutdown && !w.Maintenance {
		return map[string]string{"skipped": "the worker is wanted again"}, nil
	}
	drained, moves, err := models.Drain(ctx, r.db, w.ID, p.Reason, drainAtOnce)
	if err != nil {
		return nil, fmt.Errorf("drain %s: %w", w.ID, err)
	}
	r.start(ctx, KindMigrateSession, moves...)
	if first {
		progress.Total = drained.Remaining
	}
	progress.Drained, progress.Moved = drained, max(progress.Total-drained.Remaining, 0)
	r.progress(ctx, j, progress)
	switch {
	case drained.Remaining > 0 && time.Since(j.CreatedAt) > drainTime:
		return nil, errDrainTime
	case drained.Remaining > 0:
		return nil, later{drainLook}
	}
	if p.Reason == models.MoveRemoved {
		removed, err := models.RemoveEmptied(ctx, r.db, w.ID)
		if err != nil {
			return nil, fmt.Errorf("remove %s: %w", w.ID, err)
		}
		if !removed {
			return nil, later{drainLook} // it is wanted again, or a session has come
		}
	}
	r.audit(ctx, models.Audit{Message: "worker.drained", Worker: w.ID, Details: progress})
	return progress, nil
}
