package jobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"kurir/fault"
	"kurir/media"
	"kurir/message"
	"kurir/models"
	"kurir/tracing"
)

// KindFetchMedia fetches the medium of a message that names a URL, before the message may go to a worker. The lane starts it when
// it meets such a message, and the sweep a minute before a scheduled one is due. The message is held meanwhile. The hold is
// short, and renewed by whoever fetches: if the task gets lost, or its runner dies, it ends soon and the lane meets the
// message anew.
const KindFetchMedia = "media:fetch"

// FetchMedia is its payload.
type FetchMedia struct {
	MessageID uuid.UUID `json:"messageId"`
}

func (FetchMedia) kind() string { return KindFetchMedia }
func (FetchMedia) options() []asynq.Option {
	return []asynq.Option{asynq.Queue(QueueMedia), asynq.Timeout(fetchTimeout), asynq.MaxRetry(0)}
}

// MediaFetcher puts what a URL leads to into the gateway's store. A fault that trying again cannot help (see permanent) fails the
// message, with its code.
type MediaFetcher interface {
	Fetch(ctx context.Context, user uuid.UUID, url, kind string) (message.Media, error)
}

// storeFetcher is a media.Fetcher as messages need it.
type storeFetcher struct{ *media.Fetcher }

// Fetch implements MediaFetcher.
func (f storeFetcher) Fetch(ctx context.Context, user uuid.UUID, url, kind string) (message.Media, error) {
	m, err := f.Fetcher.Fetch(ctx, user, url, kind)
	if err != nil {
		return message.Media{}, err
	}
	return *m.Message(), nil
}

// fetcherOf keeps a nil from becoming an interface that is not.
func fetcherOf(f *media.Fetcher) MediaFetcher {
	if f == nil {
		return nil
	}
	return storeFetcher{f}
}

const (
	fetchTimeout     = 100 * time.Second
	fetchHold        = 10 * time.Second // of the message, renewed three times as often
	fetchQueued      = 30 * time.Second // of messages whose fetches are stuck in a queue: they are not lost
	fetchTries       = 5
	fetchBackoff     = 5 * time.Minute
	fetchRest        = 2 * time.Minute // longest hold after an outage of ours
	fetchAhead       = time.Minute     // of a scheduled message's time
	fetchBatch       = 200
	mediaConcurrency = 16 // fetches at once, in one runner
)

// fetcher runs the fetches.
type fetcher struct {
	*sender
}

// run fetches one medium. Two at once are harmless: the first to end gives the message its medium, and the second finds it there.
func (f *fetcher) run(ctx context.Context, p FetchMedia) error {
	m, user, ok, err := models.BeginFetch(ctx, f.db.Pool, p.MessageID, fetchHold)
	if err != nil || !ok {
		return err
	}
	_, span := f.traces.Continue(ctx, tracing.Client, KindFetchMedia, text(m.Trace), tracing.Span{})
	defer span.End()
	span.ID("kurir.message", m.ID)
	item, id, err := f.fetchHeld(ctx, user, m)
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	if err != nil {
		span.Failed(fault.Code(err))
		return f.failed(settle, m, err)
	}
	ok, err = models.Fetched(settle, f.db, m, id, item)
	if err != nil {
		return fmt.Errorf("store medium of message %s: %w", m.ID, err)
	}
	if ok && (m.SendAt == nil || m.SendAt.Before(time.Now())) {
		f.waker.Messages(models.Woken{Lane: m.SessionUID})
	}
	return nil
}

// fetchHeld fetches while it renews the hold. If there is nothing to hold any more, since the message was cancelled or has
// its medium, the fetch is given up. When it returns, nobody renews.
func (f *fetcher) fetchHeld(ctx context.Context, user uuid.UUID, m *models.Message) (message.Media, uuid.UUID, error) {
	ctx, stop := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer stop()
	renewing.Go(func() {
		tick := time.NewTicker(fetchHold / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// Without PostgreSQL the hold may end, and another fetch begin: harmless.
			if _, _, held, err := models.BeginFetch(ctx, f.db.Pool, m.ID, fetchHold); err == nil && !held {
				stop()
			}
		}
	})
	return f.fetch(ctx, user, m)
}

func (f *fetcher) fetch(ctx context.Context, user uuid.UUID, m *models.Message) (message.Media, uuid.UUID, error) {
	if f.media == nil {
		return message.Media{}, uuid.Nil, errNoMedia
	}
	item, err := f.media.Fetch(ctx, user, *m.MediaURL, strings.ToLower(m.MessageType))
	if err != nil {
		return item, uuid.Nil, err
	}
	id, err := uuid.Parse(item.ID)
	return item, id, err
}

var errNoMedia = fault.New(fault.Invalid, "media_unsupported", "This installation has no store for media.")

// failed puts a fetch off, or fails the message. What is not the doing of the URL's server counts for nothing: only the
// message's expiry ends that.
func (f *fetcher) failed(ctx context.Context, m *models.Message, cause error) error {
	var known *fault.Error
	if !errors.As(cause, &known) || ours(cause) {
		return f.outage(ctx, m, cause)
	}
	f.log.Info("medium not fetched", "message", m.ID, "session", m.SessionUID, "code", known.Code, "error", cause)
	failed, woken, err := models.FetchFailed(ctx, f.db, m, known.Code, known.Sentence, func(tries int) time.Duration {
		if permanent(cause) || tries >= fetchTries {
			return 0
		}
		return untilExpiry(m, max(backoff(2*tries+1, fetchBackoff), known.RetryAfter)) // 4 s, 16 s, 64 s, 4 min
	})
	if err != nil {
		return fmt.Errorf("note failed fetch of message %s: %w", m.ID, err)
	}
	if failed {
		f.metrics.Messages("failed", 1)
		f.waker.Webhooks(woken...)
		f.waker.Messages(models.Woken{Lane: m.SessionUID})
	}
	return nil
}

// ours reports whether a fetch failed for a reason of this installation: a part that is down, a fetch that was ended from
// here, or places that others took.
func ours(err error) bool {
	return errors.Is(err, media.ErrShare) || errors.Is(err, context.Canceled) || !permanent(err) && fault.Code(err) != media.CodeUnreachable
}

// outage holds a message on after a fetch that came to nothing through us.
func (f *fetcher) outage(ctx context.Context, m *models.Message, cause error) error {
	pause := untilExpiry(m, backoff(f.carries.again(m.ID)+2, fetchRest))
	f.log.Warn("medium not fetched for now", "message", m.ID, "session", m.SessionUID, "again", pause, "error", cause)
	why := errNotFetched
	switch {
	case errors.Is(cause, context.Canceled): // this process ends: that was no try
		why = new(fault.Error)
	case errors.Is(cause, media.ErrShare): // its server is slow
		_ = errors.As(cause, &why)
	}
	return models.PutOffFetch(ctx, f.db.Pool, m, pause, why.Code, why.Sentence)
}

// errNotFetched is told of a message whose medium is not here through us.
var errNotFetched = fault.New(fault.Unavailable, media.ErrStore.Code, "The medium could not be fetched or stored at this moment, through no fault of its server.")

// untilExpiry shortens a hold to the time that the message has: at its end the lane sees that it has expired.
func untilExpiry(m *models.Message, hold time.Duration) time.Duration {
	if m.ExpiresAt != nil {
		hold = min(hold, time.Until(*m.ExpiresAt))
	}
	return max(hold, time.Second)
}

// awaitMedium holds a message until its medium is here; where none can be fetched, it has failed.
func (r *sendRoundState) awaitMedium(m *models.Claimed, now time.Time) {
	if r.media == nil {
		r.metrics.Messages("failed", 1)
		r.add(models.Outcome{Message: &m.Message, Status: models.MessageFailed, Code: errNoMedia.Code, Error: errNoMedia.Sentence, At: now})
		return
	}
	r.fetch = append(r.fetch, m.ID)
	r.holdFor(m, r.clock().Add(fetchHold), now, nil)
}

// startFetches enqueues fetches of messages that are held for them. If Redis does not take one, the end of the hold will make it
// anew.
func (s *sender) startFetches(ctx context.Context, messages []uuid.UUID) {
	for _, id := range messages {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
		if err := s.queue.enqueue(ctx, FetchMedia{MessageID: id}); err != nil {
			s.log.Warn("fetch not enqueued, left to the end of the hold", "message", id, "error", err)
		}
		cancel()
	}
}

// endHolds lets go of messages whose hold is over, and has media fetched that are needed soon. It is a part of the sweep.
func (r *Runner) endHolds(ctx context.Context) error {
	for r.backlogged(QueueMedia) {
		n, err := models.ProlongFetches(ctx, r.db.Pool, fetchQueued, sweepLimit)
		if err != nil {
			return err
		}
		if n < sweepLimit {
			break
		}
	}
	for {
		lanes, err := models.EndHolds(ctx, r.db.Pool, sweepLimit)
		if err != nil {
			return err
		}
		if len(lanes) == 0 {
			break
		}
	}
	if r.sender.media == nil {
		return nil
	}
	for {
		soon, err := models.HoldUnfetched(ctx, r.db.Pool, fetchAhead, fetchHold, fetchBatch)
		if err != nil {
			return err
		}
		r.sender.startFetches(ctx, soon)
		if len(soon) < fetchBatch {
			return nil
		}
	}
}
