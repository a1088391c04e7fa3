package media

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A server that a tenant chose may take as long as it likes, and all tenants share the places to fetch in. So a fetch that takes
// long may stay while its user has no more than a quarter of the places with such, or while there are places left. Else it
// is given up, and tried again as after any other trouble on the way.

// ErrShare is why a fetch was given up that may well have come to an end: others needed its place, or had it.
var ErrShare = errors.New("slow, while others wait")

// shares counts, by user, the fetches that take long.
type shares struct {
	patience time.Duration // from when on a fetch takes long
	most     int           // of a user
	full     func() bool   // no place is left

	mu   sync.Mutex
	slow map[uuid.UUID]int
}

// watch gives a user's fetch up when it has to be, until end is called.
func (s *shares) watch(user uuid.UUID, giveUp context.CancelCauseFunc) (end func()) {
	done := make(chan struct{})
	go func() {
		look := time.NewTimer(s.patience)
		defer look.Stop()
		for {
			select {
			case <-done:
				return
			case <-look.C:
			}
			switch {
			case s.count(user):
				<-done
				s.uncount(user)
				return
			case s.full():
				giveUp(ErrShare)
				return
			}
			look.Reset(s.patience / 5)
		}
	}()
	return func() { close(done) }
}

// count takes one of the user's places for slow fetches, and says whether there was one.
func (s *shares) count(user uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slow[user] >= s.most {
		return false
	}
	s.slow[user]++
	return true
}

func (s *shares) uncount(user uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slow[user]--; s.slow[user] == 0 {
		delete(s.slow, user)
	}
}
