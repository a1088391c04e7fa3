package jobs

import "context"

// KindMediaUpkeep drops media that nobody needs any more. Its one part that matters stands in models.Media: how it does no
// harm to an upload, or a message, that takes up the same content at the same moment. A failure costs disk until the next
// tick; what was begun is gone on with.
const KindMediaUpkeep = "media:upkeep"

func (r *Runner) mediaUpkeep(ctx context.Context, _ tick) error {
	if r.cfg.Media == nil {
		return nil
	}
	dropped, err := r.cfg.Media.Upkeep(ctx)
	if dropped > 0 {
		r.log.Info("media dropped", "count", dropped)
	}
	return err
}
