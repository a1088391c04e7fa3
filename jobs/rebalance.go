package jobs

import (
	"context"
	"fmt"

	"kurir/models"
)

// KindRebalance moves sessions away from workers that have too much to do, as placement.Rebalance decides: when an
// administrator asks for it, and at each tick of KindRebalanceTick.
const (
	KindRebalance     = "sessions:rebalance"
	KindRebalanceTick = "sessions:rebalance-tick"
)

// rebalanced is the job's result.
type rebalanced struct {
	Planned int      `json:"planned"` // moves that the figures ask for
	Moves   int      `json:"moves"`   // of those, started: a session that moved lately stays where it is
	Jobs    []string `json:"jobs"`
}

func (r *Runner) rebalance(ctx context.Context, _ *models.Job) (any, error) {
	moves, jobs, err := models.Rebalance(ctx, r.db)
	if err != nil {
		return nil, fmt.Errorf("rebalance: %w", err)
	}
	result := rebalanced{Planned: len(moves), Moves: len(jobs), Jobs: []string{}}
	for _, id := range jobs {
		result.Jobs = append(result.Jobs, id.String())
	}
	if len(moves) > 0 {
		r.log.Info("rebalancing", "planned", len(moves), "moves", len(jobs))
		r.audit(ctx, models.Audit{Message: "sessions.rebalanced", Details: map[string]int{"planned": len(moves), "moves": len(jobs)}})
	}
	r.start(ctx, KindMigrateSession, jobs...)
	return result, nil
}

func (r *Runner) rebalanceTick(ctx context.Context, _ tick) error {
	_, err := r.rebalance(ctx, nil)
	return err
}
