package jobs

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"kurir/models"
)

// flights are the sends that wait for a worker's answer. One that hangs at a worker which has lost the session is ended, so
// that its lane can go on at the next worker: the message is sent again there under the same WhatsApp ID.
type flights struct {
	mu   sync.Mutex
	lane map[uuid.UUID]flight
}

type flight struct {
	epoch int64
	since time.Time
	end   context.CancelFunc
}

const (
	flightLook = time.Second
	flightLong = 1500 * time.Millisecond // most sends take milliseconds
)

// begin notes a send of a lane, which has one at a time. The caller calls land when it is over.
func (f *flights) begin(lane uuid.UUID, epoch int64, end context.CancelFunc) (land func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lane == nil {
		f.lane = map[uuid.UUID]flight{}
	}
	f.lane[lane] = flight{epoch: epoch, since: time.Now(), end: end}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.lane, lane)
	}
}

// long lists the sends that have been under way for long.
func (f *flights) long() (lanes []uuid.UUID, epochs []int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for lane, one := range f.lane {
		if time.Since(one.since) > flightLong {
			lanes, epochs = append(lanes, lane), append(epochs, one.epoch)
		}
	}
	return lanes, epochs
}

// end ends the sends of lanes whose sessions have moved on.
func (f *flights) end(lanes []uuid.UUID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, lane := range lanes {
		if one, ok := f.lane[lane]; ok {
			one.end()
		}
	}
}

// watch looks after long sends until ctx ends.
func (s *sender) watch(ctx context.Context) {
	every := time.NewTicker(flightLook)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
		lanes, epochs := s.flights.long()
		if len(lanes) == 0 {
			continue
		}
		moved, err := models.MovedOn(ctx, s.db.Pool, lanes, epochs)
		if err != nil {
			s.log.Warn("long sends not looked after", "sends", len(lanes), "error", err)
			continue
		}
		if len(moved) > 0 {
			s.log.Info("sends ended whose sessions have moved", "sends", len(moved))
			s.flights.end(moved)
		}
	}
}
