package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"kurir/models"
	"kurir/monitoring"
)

// Waker tells the runners that a lane has work. It is a hint: sent in the background, dropped when Redis does not answer,
// and made good by the sweep.
type Waker struct {
	queue   *Queue
	log     *slog.Logger
	metrics *monitoring.Metrics
	signal  chan struct{}
	stop    chan struct{}
	done    sync.WaitGroup

	mu      sync.Mutex
	waiting map[uuid.UUID]wakeUp
	timed   map[uuid.UUID]*time.Timer // wake-ups to come
}

// wakeUp is a hint that waits to be sent.
type wakeUp struct {
	models.Woken
	kind string
}

func (w wakeUp) task() payload {
	if w.kind == models.LaneMessages {
		return SendMessages{SessionUID: w.Lane}
	}
	return DeliverWebhook{WebhookID: w.Lane}
}

// wakeKept is for how long a wake-up that was not taken stands in for further ones.
const wakeKept = time.Second

// wakeWaiting bounds the hints in hand while Redis is slow.
const wakeWaiting = 10_000

func wakeKey(lane uuid.UUID) string { return "kurir:lane:wake:" + lane.String() }

// NewWaker starts a Waker.
func NewWaker(queue *Queue, log *slog.Logger, metrics *monitoring.Metrics) *Waker {
	w := &Waker{queue: queue, log: log, metrics: metrics, signal: make(chan struct{}, 1), stop: make(chan struct{}),
		waiting: map[uuid.UUID]wakeUp{}, timed: map[uuid.UUID]*time.Timer{}}
	w.done.Go(w.loop)
	return w
}

// Close sends what is in hand and ends.
func (w *Waker) Close() {
	w.mu.Lock()
	for _, t := range w.timed { // the sweep will wake these
		t.Stop()
	}
	w.mu.Unlock()
	close(w.stop)
	w.done.Wait()
}

// Messages wakes the lanes of sessions.
func (w *Waker) Messages(sessions ...models.Woken) { w.add(models.LaneMessages, sessions) }

// MessagesIn wakes a session's lane after a while, once, however often it is asked for meanwhile.
func (w *Waker) MessagesIn(wait time.Duration, session uuid.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timed[session] != nil || len(w.timed) >= wakeWaiting {
		return
	}
	w.timed[session] = time.AfterFunc(wait, func() {
		w.mu.Lock()
		delete(w.timed, session)
		w.mu.Unlock()
		w.Messages(models.Woken{Lane: session})
	})
}

// Webhooks wakes the lanes of webhooks.
func (w *Waker) Webhooks(webhooks ...models.Woken) { w.add(models.LaneWebhook, webhooks) }

func (w *Waker) add(kind string, lanes []models.Woken) {
	if len(lanes) == 0 {
		return
	}
	w.mu.Lock()
	for _, lane := range lanes {
		former, waits := w.waiting[lane.Lane]
		switch {
		case !waits && len(w.waiting) >= wakeWaiting:
		case lane.NextSeq == 0 && former.Holder != nil: // it is of the same moment, so that one still has it
			former.NextSeq = 0
			w.waiting[lane.Lane] = former
		case !waits || lane.NextSeq >= former.NextSeq: // the later one knows who has the lane
			w.waiting[lane.Lane] = wakeUp{lane, kind}
		}
	}
	w.mu.Unlock()
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

func (w *Waker) loop() {
	for {
		select {
		case <-w.signal:
			w.send()
		case <-w.stop:
			w.send()
			return
		}
	}
}

// send asks for all waiting lanes in one round trip who is the first to wake them, and enqueues those. Of lanes that a runner has, it tells
// that one.
func (w *Waker) send() {
	w.mu.Lock()
	lanes := w.waiting
	w.waiting = map[uuid.UUID]wakeUp{}
	w.mu.Unlock()
	if len(lanes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	first := make(map[uuid.UUID]*redis.BoolCmd, len(lanes))
	calls, heard := map[uuid.UUID]call{}, map[uuid.UUID]*redis.IntCmd{}
	_, err := w.queue.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for lane, up := range lanes {
			if up.Holder == nil {
				first[lane] = p.SetNX(ctx, wakeKey(lane), 1, wakeKept)
			} else {
				calls[*up.Holder] = append(calls[*up.Holder], called{up.kind, lane, up.NextSeq})
			}
		}
		for runner, list := range calls {
			body, err := json.Marshal(list)
			if err != nil {
				return err
			}
			heard[runner] = p.Publish(ctx, callChannel(runner), body)
		}
		return nil
	})
	for runner, list := range calls {
		outcome := monitoring.WakeCalled
		if err != nil || heard[runner].Val() == 0 { // nobody listens: the lane is found when it is given back, or its runner's lease is over
			outcome = monitoring.WakeFailed
		}
		for range list {
			w.metrics.Wake(outcome)
		}
	}
	var group errgroup.Group
	group.SetLimit(enqueueWidth)
	for lane, won := range first {
		switch {
		case won.Err() != nil:
			w.metrics.Wake("failed")
		case !won.Val():
			w.metrics.Wake("suppressed")
		default:
			group.Go(func() error {
				err := w.queue.enqueue(ctx, lanes[lane].task())
				if err != nil {
					w.metrics.Wake("failed")
					return err
				}
				w.metrics.Wake("enqueued")
				return nil
			})
		}
	}
	if failed := group.Wait(); err == nil {
		err = failed
	}
	if err != nil {
		w.log.Warn("wake-ups not sent, left to the sweep", "lanes", len(lanes), "error", err)
	}
}

// taken lets the next wake-up through; it is the first act of a lane's task.
func (q *Queue) taken(ctx context.Context, lane uuid.UUID) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := q.redis.Del(ctx, wakeKey(lane)).Err(); err != nil {
		q.log.Debug("wake key not deleted, it ends by itself", "lane", lane, "error", err)
	}
}

// laneOptions are those of both lane tasks: a lane's work is bounded by its slice, a failed task is not run again
// (the sweep wakes the lane), and nothing is kept of it.
func laneOptions(queue string) []asynq.Option {
	return []asynq.Option{asynq.Queue(queue), asynq.Timeout(laneTimeout), asynq.MaxRetry(0)}
}
