package jobs

import (
	"context"
	"sync"
	"time"
)

// crowd bounds how many of a runner's slots may be held together by lanes whose endpoints keep us waiting: a quarter.
// However many tenants have endpoints that hang, three quarters of the slots go round quickly. A lane that finds no
// place pauses; that spends no attempt.
type crowd chan struct{}

const (
	crowdShare = 4
	// crowdAfter is when a round counts as waiting: nothing new is begun for a second by then.
	crowdAfter = deliverRound + time.Second
	// crowdPause, and up to as much again, is when a lane that found no place looks again.
	crowdPause = 4 * time.Second
)

func newCrowd(slots int) crowd { return make(crowd, max(slots/crowdShare, 1)) }

// enter takes a place, if there is one.
func (c crowd) enter() bool {
	select {
	case c <- struct{}{}:
		return true
	default:
		return false
	}
}

func (c crowd) leave() { <-c }

// watch runs work, which needs no place at first. If it still waits after a while, it takes one, and where there is none it
// is cut off: its context ends.
func (c crowd) watch(ctx context.Context, after time.Duration, work func(context.Context)) (cut bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-done:
			return
		case <-timer.C:
		}
		if cut = !c.enter(); cut {
			cancel()
			return
		}
		<-done
		c.leave()
	})
	work(ctx)
	close(done)
	watching.Wait()
	return cut
}
