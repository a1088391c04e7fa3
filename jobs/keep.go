package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"kurir/models"
)

// To take a lane and to give it back costs more than to send one message, and most lanes that had something to do have so again a
// moment later. So a runner keeps a lane in which all is done until laneKeep after it took it, and whoever has work for it tells that
// runner, by Redis: the statement that brought the work has said who the holder is. A call that is lost is made good when the lane is
// given back, which looks whether anything came.
const laneKeep = 2 * time.Second

// called is a lane whose holder is told that there is work.
type called struct {
	Kind    string    `json:"kind"`
	Lane    uuid.UUID `json:"lane"`
	NextSeq int64     `json:"nextSeq"` // the lane's, with the work in it
}

// call is what Redis carries to a runner.
type call []called

func callChannel(runner uuid.UUID) string { return "kurir:runner:" + runner.String() }

// keeper drains lanes that this runner has kept.
type keeper struct {
	lanes *Lanes
	redis redis.UniversalClient
	log   *slog.Logger
	run   func(ctx context.Context, kind string, lane uuid.UUID) // drains a lane as its task would
	keeps time.Duration                                          // for how long lanes are kept
}

// keep listens until ctx ends, then gives everything back. Nothing is kept before Redis has said that it will pass on calls. Where it
// does not do so later, what a call was to tell is found when the lane is given back.
func (k *keeper) keep(ctx context.Context) {
	calls := k.redis.Subscribe(ctx, callChannel(k.lanes.runner))
	defer func() { _ = calls.Close() }()
	ticker := time.NewTicker(k.keeps / 8)
	defer ticker.Stop()
	var draining sync.WaitGroup
	defer draining.Wait()
	drain := func(kind string, lane uuid.UUID) {
		ctx, cancel := context.WithTimeout(ctx, laneTimeout)
		defer cancel()
		k.run(ctx, kind, lane)
	}
	giveBack := func() {
		for _, e := range k.lanes.over(time.Now()) {
			draining.Go(func() {
				if again := k.lanes.giveBack(ctx, e); again {
					drain(e.kind, e.hold.Lane)
				}
			})
		}
	}
	messages := calls.ChannelWithSubscriptions()
	for {
		select {
		case m, open := <-messages:
			if !open { // who closed the client is about to end us
				messages = nil
			}
			switch m := m.(type) {
			case *redis.Subscription:
				k.lanes.keepFor(k.keeps)
			case *redis.Message:
				var list call
				if err := json.Unmarshal([]byte(m.Payload), &list); err != nil {
					k.log.Warn("call not understood", "error", err)
				}
				for _, c := range list {
					if k.lanes.call(c.Lane, c.NextSeq) {
						draining.Go(func() { drain(c.Kind, c.Lane) })
					}
				}
			}
		case <-ticker.C:
			giveBack()
		case <-ctx.Done():
			k.lanes.keepFor(0)
			giveBack()
			return
		}
	}
}

// heldLane is a lane that this process has: it is being drained, or kept.
type heldLane struct {
	woken bool  // since its holder looked last
	seq   int64 // the highest NextSeq that it was called for

	kept   bool
	called bool // it is kept no longer, and its drain is about to begin
	kind   string
	hold   models.Hold
	since  time.Time // when it was taken
}

// keepFor sets for how long lanes are kept, 0 for not at all.
func (l *Lanes) keepFor(d time.Duration) {
	l.mu.Lock()
	l.keeps = d
	l.mu.Unlock()
}

func (l *Lanes) keepsFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keeps
}

// call notes that a lane has work up to a number, 0 for work that raised none, and says whether it is to be drained now. A lane that is
// given back at this moment, or was, needs no call: what came before made that fail, and what came after has found it without a holder.
func (l *Lanes) call(lane uuid.UUID, seq int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.held[lane]
	if e == nil {
		return false
	}
	e.seq = max(e.seq, seq)
	e.woken = e.woken || seq == 0
	if !e.kept || e.called || seq > 0 && seq <= e.hold.NextSeq {
		return false
	}
	e.called = true
	return true
}

// over lists the lanes that were kept for long enough. They are kept no longer, and each is to be given to giveBack.
func (l *Lanes) over(now time.Time) (list []heldLane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for lane, e := range l.held {
		if e.kept && !e.called && now.Sub(e.since) >= l.keeps {
			list = append(list, *e)
			l.held[lane] = &heldLane{seq: e.seq}
		}
	}
	return list
}

// giveBack gives a lane back that was kept. again says that it is to be drained, since something came.
func (l *Lanes) giveBack(ctx context.Context, e heldLane) (again bool) {
	released, err := l.release(ctx, e.kind, models.Release{Hold: e.hold, UnlessDue: true})
	switch {
	case err != nil:
		l.log.Warn("kept lane not given back", "lane", e.hold.Lane, "error", err)
		l.yield(ctx, e.hold, 0)
		l.leave(e.hold.Lane)
		return false
	case released:
		return l.leave(e.hold.Lane)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.called, e.seq = true, l.held[e.hold.Lane].seq
	l.held[e.hold.Lane] = &e
	return true
}

// keep keeps a lane in which all is done. again says that more came meanwhile.
func (l *Lanes) keep(kind string, h models.Hold, since time.Time) (kept, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.held[h.Lane]
	switch {
	case e.woken || e.seq > h.NextSeq:
		return false, true
	case time.Since(since) >= l.keeps:
		return false, false
	}
	*e = heldLane{seq: e.seq, kept: true, kind: kind, hold: h, since: since}
	return true, false
}
