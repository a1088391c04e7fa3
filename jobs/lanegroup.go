package jobs

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"kurir/grouped"
	"kurir/models"
	"kurir/recent"
)

const (
	groupLanes = 64 // that share a statement
	groupSides = 1  // statements of a kind at a time
	groupGap   = 5 * time.Millisecond
	slowLane   = time.Second // of one statement for one lane, after which it has its own for a while
	slowFor    = time.Minute
)

// laneGroups lets lanes that need the same of PostgreSQL at the same time share a statement and a commit: most have a message or
// two at a time, and a statement costs more than a message does. A group that PostgreSQL refuses, since it waits for a lock or takes too
// long, was rolled back, and is done lane by lane. A lane that was slow then, or that nobody can read, keeps to itself for a while.
type laneGroups struct {
	takes    map[string]*grouped.Calls[uuid.UUID, *models.Hold] // by kind of lane, as releases
	claims   *grouped.Calls[models.Want, *models.Claim]
	settles  *grouped.Calls[models.Settlement, models.Settled]
	releases map[string]*grouped.Calls[models.Release, bool]
	slow     *recent.Values[uuid.UUID, struct{}]
}

func newLaneGroups(db *models.DB, runner uuid.UUID) laneGroups {
	g := laneGroups{takes: map[string]*grouped.Calls[uuid.UUID, *models.Hold]{}, releases: map[string]*grouped.Calls[models.Release, bool]{},
		slow: recent.New[uuid.UUID, struct{}](10_000, slowFor)}
	g.claims = together(g.slow, func(w models.Want) uuid.UUID { return w.Hold.Lane }, func(ctx context.Context, wants []models.Want) ([]*models.Claim, error) {
		return models.ClaimPlain(ctx, db.Pool, wants)
	})
	g.settles = together(g.slow, func(s models.Settlement) uuid.UUID { return s.Hold.Lane }, func(ctx context.Context, list []models.Settlement) ([]models.Settled, error) {
		return models.SettlePlain(ctx, db, list)
	})
	for _, kind := range []string{models.LaneMessages, models.LaneWebhook} {
		g.takes[kind] = together(g.slow, func(lane uuid.UUID) uuid.UUID { return lane }, func(ctx context.Context, lanes []uuid.UUID) ([]*models.Hold, error) {
			return models.TakeLanes(ctx, db.Pool, lanes, runner)
		})
		g.releases[kind] = together(g.slow, func(r models.Release) uuid.UUID { return r.Lane }, func(ctx context.Context, list []models.Release) ([]bool, error) {
			return models.ReleaseLanes(ctx, db.Pool, kind, list)
		})
	}
	return g
}

// together makes the calls of one kind. An error that PostgreSQL did not answer with leaves open what was done, so it is everybody's: a claim
// that was made, repeated under the same generation, would pass over what it has claimed.
func together[Q, A any](slow *recent.Values[uuid.UUID, struct{}], lane func(Q) uuid.UUID, run func(context.Context, []Q) ([]A, error)) *grouped.Calls[Q, A] {
	return &grouped.Calls[Q, A]{Size: groupLanes, Side: groupSides, Gap: groupGap, Timeout: settleWithin, Alone: models.IsRolledBack,
		Run: func(ctx context.Context, group []Q) ([]A, error) {
			began := time.Now()
			answers, err := run(ctx, group)
			var one *models.LaneError
			switch {
			case errors.As(err, &one):
				slow.Add(one.Lane, struct{}{})
			case len(group) == 1 && time.Since(began) > slowLane:
				slow.Add(lane(group[0]), struct{}{})
			}
			return answers, err
		}}
}

// do makes a call of a lane, by itself where the lane was slow.
func do[Q, A any](ctx context.Context, g *laneGroups, calls *grouped.Calls[Q, A], lane uuid.UUID, ask Q) (answer A, err error) {
	if _, alone := g.slow.Get(lane); !alone {
		return calls.Do(ask)
	}
	answers, err := calls.Run(ctx, []Q{ask})
	if err != nil {
		return answer, err
	}
	return answers[0], nil
}

func (l *Lanes) take(ctx context.Context, kind string, lane uuid.UUID) (*models.Hold, error) {
	return do(ctx, &l.groups, l.groups.takes[kind], lane, lane)
}

// claim claims messages of a lane. One that is guarded is claimed from by itself.
func (l *Lanes) claim(ctx context.Context, h *models.Hold, limit int) (*models.Claim, error) {
	if !h.Guarded {
		c, err := do(ctx, &l.groups, l.groups.claims, h.Lane, models.Want{Hold: h, Limit: limit})
		if err != nil || !c.Anew(h) {
			return c, err
		}
	}
	return models.ClaimMessages(ctx, l.db.Pool, h, limit)
}

// settle writes what a round came to. Messages about others take effect in a transaction of their own.
func (l *Lanes) settle(ctx context.Context, s models.Settlement) (models.Settled, error) {
	if s.Plain() {
		return do(ctx, &l.groups, l.groups.settles, s.Hold.Lane, s)
	}
	return models.Settle(ctx, l.db, s)
}

// release gives a lane back, see models.ReleaseLanes.
func (l *Lanes) release(ctx context.Context, kind string, r models.Release) (bool, error) {
	if r.Guarded {
		return models.ReleaseLane(ctx, l.db.Pool, kind, r.Hold)
	}
	return do(ctx, &l.groups, l.groups.releases[kind], r.Lane, r)
}
