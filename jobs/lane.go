package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/google/uuid"

	"kurir/models"
)

// Times of lanes. A runner that dies is noticed when its lease is over, and its lanes are woken by the next sweep.
const (
	runnerLease  = 5 * time.Second
	runnerRenew  = time.Second
	laneSlice    = 3 * time.Second  // then the lane is given back, so that others get their turn
	laneTimeout  = 60 * time.Second // of a lane's task: a slice, and what was under way at its end
	settleWithin = 10 * time.Second // to write outcomes and releases, also when the task's time is over
	placeWithin  = time.Second      // to find a place for a lane that was kept: until then no other runner can take it
)

// Lanes lets this process drain lanes. The right to a lane lies in PostgreSQL: a holder's name, which counts while the
// runner's lease lives, and a generation, on which everything that the holder does is conditional.
type Lanes struct {
	db     *models.DB
	runner uuid.UUID
	log    *slog.Logger
	groups laneGroups

	places map[string]chan struct{} // bound how many lanes of a kind are drained at once; nil: nothing does

	mu     sync.Mutex
	held   map[uuid.UUID]*heldLane
	keeps  time.Duration             // for how long lanes are kept, see keep.go
	strays map[uuid.UUID]models.Hold // lanes whose take or release failed: PostgreSQL may believe that we hold them
	alive  chan struct{}             // closed when the runner has its first lease
}

// NewLanes makes the Lanes of one runner.
func NewLanes(db *models.DB, runner uuid.UUID, log *slog.Logger) *Lanes {
	return &Lanes{db: db, runner: runner, log: log, groups: newLaneGroups(db, runner), held: map[uuid.UUID]*heldLane{}, strays: map[uuid.UUID]models.Hold{},
		alive: make(chan struct{})}
}

// Keep renews the runner's lease until ctx ends, then ends it.
func (l *Lanes) Keep(ctx context.Context) {
	host, _ := os.Hostname()
	first := sync.OnceFunc(func() { close(l.alive) })
	ticker := time.NewTicker(runnerRenew)
	defer ticker.Stop()
	for {
		renew, cancel := context.WithTimeout(ctx, runnerLease/2)
		err := models.RenewRunner(renew, l.db.Pool, l.runner, host, os.Getpid(), runnerLease)
		if err == nil {
			first()
		} else if ctx.Err() == nil {
			l.log.Warn("runner lease not renewed", "error", err)
		}
		l.releaseStrays(renew)
		cancel()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), runnerLease/2)
			defer cancel()
			if err := models.EndRunner(end, l.db.Pool, l.runner); err != nil {
				l.log.Warn("runner lease not ended, it lapses by itself", "error", err)
			}
			return
		}
	}
}

// step is one round of a lane's holder: look for work, do it, write the outcomes back.
type step struct {
	idle  bool          // there is nothing to do
	ended bool          // with idle: that is not known, but all that was found is done
	keep  bool          // with ended: nothing of it comes again, so that the lane may be kept
	lost  bool          // another runner has the lane
	left  bool          // work stays under this generation that only the next one can take up
	pause time.Duration // what the lane leads to does not answer: give it back and come again after this
}

// drain takes a lane and works until it has nothing due, its slice is over, or work says to pause. It returns whom to wake, since
// work is left: the lane, or the runner that has it.
func (l *Lanes) drain(ctx context.Context, lane uuid.UUID, kind string, work func(ctx context.Context, h *models.Hold) (step, error)) (wake []models.Woken, err error) {
	again := models.Unheld(lane)
	former, entered := l.enter(lane)
	if !entered {
		return nil, nil
	}
	gone := false
	defer func() {
		if !gone {
			l.leave(lane)
		}
	}()
	leave, ok := l.place(ctx, kind, former.kept)
	if !ok {
		if former.kept {
			l.yield(ctx, former.hold, 0)
		}
		return again, nil
	}
	defer leave()
	h, since := former.hold, former.since
	if !former.kept {
		taken, err := l.take(ctx, kind, lane)
		if err != nil {
			// Whether it was taken is not known. If it was, nobody else gets it as long as we live.
			l.stray(models.Hold{Lane: lane})
			return nil, fmt.Errorf("take lane %s: %w", lane, err)
		}
		if taken == nil {
			return l.tellHolder(ctx, lane)
		}
		h, since = *taken, time.Now()
	}
	defer func() {
		if p := recover(); p != nil {
			l.yield(ctx, h, time.Second)
			panic(p)
		}
	}()
	if ctx.Err() != nil { // while it waited for the lane
		l.yield(ctx, h, 0)
		return again, nil
	}
	sliceEnd := time.Now().Add(laneSlice)
	for {
		l.looks(lane)
		s, err := work(ctx, &h)
		switch {
		case err != nil:
			l.yield(ctx, h, time.Second)
			return nil, err
		case s.lost:
			return nil, nil
		case s.pause > 0:
			l.yield(ctx, h, s.pause)
			return nil, nil
		case s.left:
			l.yield(ctx, h, 0)
			return again, nil
		}
		if s.idle && s.keep {
			kept, more := l.keep(kind, h, since)
			if gone = kept; kept {
				return nil, nil
			}
			s.idle = !more
		}
		if s.idle {
			released, err := l.release(ctx, kind, models.Release{Hold: h, UnlessDue: s.ended})
			if err != nil {
				l.yield(ctx, h, 0)
				return nil, fmt.Errorf("release lane %s: %w", lane, err)
			}
			if released { // whoever woke it since then was told that it is held: what came may have come after the release
				gone = true
				if l.leave(lane) {
					return again, nil
				}
				return nil, nil
			}
			// Something came since we looked: look again.
		}
		if time.Now().After(sliceEnd) || ctx.Err() != nil {
			l.yield(ctx, h, 0)
			return again, nil
		}
	}
}

// tellHolder passes on to another runner that has a lane what was to wake it here.
func (l *Lanes) tellHolder(ctx context.Context, lane uuid.UUID) ([]models.Woken, error) {
	holder, err := models.LaneHolder(ctx, l.db.Pool, lane)
	if err != nil || holder == nil || *holder == l.runner {
		return nil, err
	}
	return []models.Woken{{Lane: lane, Holder: holder}}, nil
}

// bound sets how many lanes of each kind are drained at once.
func (l *Lanes) bound(n int) {
	if n < 1 { // as many as asynq runs tasks
		n = runtime.NumCPU()
	}
	l.places = map[string]chan struct{}{models.LaneMessages: make(chan struct{}, n), models.LaneWebhook: make(chan struct{}, n)}
}

// place waits for a place among those that drain, for a lane that was kept not long.
func (l *Lanes) place(ctx context.Context, kind string, kept bool) (leave func(), ok bool) {
	places := l.places[kind]
	if places == nil {
		return func() {}, true
	}
	if kept {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, placeWithin)
		defer cancel()
	}
	leave = func() { <-places }
	select {
	case places <- struct{}{}:
		return leave, true
	case <-ctx.Done():
		return nil, false
	}
}

// enter answers the lane as it was kept, if it was.
func (l *Lanes) enter(lane uuid.UUID) (former heldLane, entered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.held[lane]
	if e != nil && !e.kept {
		e.woken = true
		return former, false
	}
	if e != nil {
		former = *e
	}
	l.held[lane] = &heldLane{seq: former.seq}
	return former, true
}

// looks notes that the holder is about to look for work: it sees what it was woken for until now.
func (l *Lanes) looks(lane uuid.UUID) {
	l.mu.Lock()
	l.held[lane].woken = false
	l.mu.Unlock()
}

// leave says whether the lane was woken since its holder looked last.
func (l *Lanes) leave(lane uuid.UUID) (woken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	woken = l.held[lane].woken
	delete(l.held, lane)
	return woken
}

// yield gives a lane back with work left. If PostgreSQL does not take that, the lane would look held for as long as we
// live: it becomes a stray, and Keep tries again.
func (l *Lanes) yield(ctx context.Context, h models.Hold, pause time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	if err := models.YieldLane(ctx, l.db.Pool, h, pause); err != nil {
		l.log.Warn("lane not released, trying again", "lane", h.Lane, "error", err)
		l.stray(h)
	}
}

func (l *Lanes) stray(h models.Hold) {
	l.mu.Lock()
	l.strays[h.Lane] = h
	l.mu.Unlock()
}

func (l *Lanes) releaseStrays(ctx context.Context) {
	l.mu.Lock()
	strays := make([]models.Hold, 0, len(l.strays))
	for _, h := range l.strays {
		if _, held := l.held[h.Lane]; !held { // else it was taken again, and is given back when that is done
			strays = append(strays, h)
		}
	}
	l.mu.Unlock()
	for _, h := range strays {
		var err error
		if h.Generation > 0 {
			err = models.YieldLane(ctx, l.db.Pool, h, 0)
		} else {
			err = models.AbandonLane(ctx, l.db.Pool, h.Lane, l.runner)
		}
		if err != nil {
			return
		}
		l.mu.Lock()
		if l.strays[h.Lane] == h {
			delete(l.strays, h.Lane)
		}
		l.mu.Unlock()
	}
}
