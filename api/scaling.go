package api

import (
	"context"
	"time"

	"kurir/models"
	"kurir/placement"
)

// ScalingResource is how many workers there should be.
type ScalingResource struct {
	Action       string     `json:"action" enum:"scale_up,scale_down,none" doc:"What to do to follow the recommendation"`
	Workers      int        `json:"workers" doc:"Online now" example:"4"`
	Recommended  int        `json:"recommended" doc:"That there should be" example:"5"`
	Since        *time.Time `json:"since" doc:"When that was recommended first; null before there was a recommendation"`
	Candidate    *int       `json:"candidate" doc:"What will be recommended if the figures stay as they are; null: no change is in sight" example:"6"`
	PendingSince *time.Time `json:"pendingSince" doc:"Since when the figures ask for the candidate, without a pause"`
	Utilization  float64    `json:"utilization" doc:"Sessions per room of the workers online" example:"0.82"`
	Reason       string     `json:"reason" doc:"For people" example:"Sessions would fill 4 workers to 82.0 %: 5 instead of 4."`
	UpdatedAt    *time.Time `json:"updatedAt" doc:"When it was worked out"`
}

func (a *API) getScaling(ctx context.Context, _ *struct{}) (*Reply[ScalingResource], error) {
	s, err := models.ScalingOf(ctx, a.db.Pool)
	if err != nil {
		return nil, databaseFault(err)
	}
	if s.Recommended == 0 {
		return a.firstScaling(ctx)
	}
	updated, err := models.ScalingUpdated(ctx, a.db.Pool)
	if err != nil {
		return nil, databaseFault(err)
	}
	answer := ScalingResource{Action: s.Action(), Workers: s.Workers, Recommended: s.Recommended, Since: utc(&s.Since), Utilization: s.Utilization,
		Reason: s.Reason, UpdatedAt: utc(&updated)}
	if s.Candidate > 0 {
		answer.Candidate, answer.PendingSince = &s.Candidate, utc(&s.Pending)
	}
	return reply(answer), nil
}

// firstScaling answers before anything was worked out: what is, is right.
func (a *API) firstScaling(ctx context.Context) (*Reply[ScalingResource], error) {
	workers, err := models.Workers(ctx, a.db)
	if err != nil {
		return nil, databaseFault(err)
	}
	var f placement.Fleet
	for i := range workers {
		if w := &workers[i]; w.LeaseLive {
			f.Workers = append(f.Workers, placement.Worker{ID: w.ID, Online: w.Status == models.WorkerOnline, Sessions: w.SessionCount, MaxSessions: w.Room()})
		}
	}
	s := placement.Recommend(placement.Scaling{}, f, time.Now())
	return reply(ScalingResource{Action: "none", Workers: s.Workers, Recommended: s.Workers, Utilization: s.Utilization,
		Reason: "Nothing was recommended yet: the figures are looked at every 15 seconds."}), nil
}
