package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"kurir/models"
)

const (
	replayPage  = 500              // deliveries in one transaction
	replaySlice = 20 * time.Second // of one attempt, then the job comes again
)

// replayWebhook makes a range of a webhook's deliveries due again, page by page. The progress says where it stands, so that
// an attempt goes on where the one before was killed, at most a page too early: to replay twice is harmless. The lane
// does the rest.
func (r *Runner) replayWebhook(ctx context.Context, j *models.Job) (any, error) {
	var params models.Replay
	if err := json.Unmarshal(j.Params, &params); err != nil {
		return nil, fmt.Errorf("parameters of %s: %w", j.ID, err)
	}
	var at models.ReplayProgress
	if j.Progress != nil {
		if err := json.Unmarshal(j.Progress, &at); err != nil {
			return nil, fmt.Errorf("progress of %s: %w", j.ID, err)
		}
	} else {
		var err error
		if at, err = models.StartReplay(ctx, r.db, params); err != nil {
			return nil, err
		}
	}
	for end := time.Now().Add(replaySlice); at.Next < at.End; {
		before := at.Replayed
		var err error
		if at, err = models.ReplayPage(ctx, r.db, params, at, replayPage); err != nil {
			return nil, err
		}
		r.progress(ctx, j, at)
		if at.Replayed > before {
			r.waker.Webhooks(models.Woken{Lane: params.WebhookID})
		}
		if at.Next < at.End && time.Now().After(end) {
			return nil, later{after: 0}
		}
	}
	return map[string]int64{"replayed": at.Replayed}, nil
}
