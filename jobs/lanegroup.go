package jobs

import (
	"context"

	"github.com/google/uuid"

	"kurir/grouped"
	"kurir/models"
)

const (
	groupLanes = 64 // that share a statement
	groupSides = 1  // statements of a kind side by side
)

// laneGroups lets lanes that need the same of PostgreSQL at the same time share a statement and a commit: most have a message or
// two at a time, and a statement costs more than a message does.
type laneGroups struct {
	takes    *grouped.Calls[uuid.UUID, *models.Hold]
	claims   *grouped.Calls[models.Want, *models.Claim]
	settles  *grouped.Calls[models.Settlement, models.Settled]
	releases map[string]*grouped.Calls[models.Hold, bool] // by kind of lane
}

func newLaneGroups(db *models.DB, runner uuid.UUID) laneGroups {
	g := laneGroups{releases: map[string]*grouped.Calls[models.Hold, bool]{}}
	g.takes = together(func(ctx context.Context, lanes []uuid.UUID) ([]*models.Hold, error) {
		return models.TakeLanes(ctx, db.Pool, lanes, runner)
	})
	g.claims = together(func(ctx context.Context, wants []models.Want) ([]*models.Claim, error) {
		return models.ClaimPlain(ctx, db.Pool, wants)
	})
	g.claims.Alone = models.IsLockTimeout
	g.settles = together(func(ctx context.Context, list []models.Settlement) ([]models.Settled, error) {
		return models.SettlePlain(ctx, db, list)
	})
	g.settles.Alone = models.IsBroken // a worker's words are in it
	for _, kind := range []string{models.LaneMessages, models.LaneWebhook} {
		g.releases[kind] = together(func(ctx context.Context, holds []models.Hold) ([]bool, error) {
			return models.ReleaseLanes(ctx, db.Pool, kind, holds)
		})
	}
	return g
}

func together[Q, A any](run func(context.Context, []Q) ([]A, error)) *grouped.Calls[Q, A] {
	return &grouped.Calls[Q, A]{Run: run, Size: groupLanes, Side: groupSides, Timeout: settleWithin}
}

// claim claims messages of a lane. One that is guarded is claimed from by itself.
func (l *Lanes) claim(ctx context.Context, h *models.Hold, limit int) (*models.Claim, error) {
	if !h.Guarded {
		c, err := l.groups.claims.Do(models.Want{Hold: h, Limit: limit})
		if err != nil || !c.Anew(h) {
			return c, err
		}
	}
	return models.ClaimMessages(ctx, l.db.Pool, h, limit)
}

// settle writes what a round came to. Messages about others take effect in a transaction of their own.
func (l *Lanes) settle(ctx context.Context, s models.Settlement) (models.Settled, error) {
	if s.Plain() {
		return l.groups.settles.Do(s)
	}
	return models.Settle(ctx, l.db, s)
}

// release gives a lane back, see models.ReleaseLanes.
func (l *Lanes) release(ctx context.Context, kind string, h models.Hold) (bool, error) {
	if h.Guarded {
		return models.ReleaseLane(ctx, l.db.Pool, kind, h)
	}
	return l.groups.releases[kind].Do(h)
}
