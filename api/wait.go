package api

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"kurir/models"
)

// maxWait is the longest that Prefer: wait=N may ask for, in seconds.
const maxWait = 30

// waitOf reads Prefer: wait=N; 0 if it is absent or makes no sense: a preference is never an error.
func waitOf(prefer string) time.Duration {
	for part := range strings.SplitSeq(prefer, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(value), `"`))
		if err != nil || n < 1 {
			return 0
		}
		return time.Duration(min(n, maxWait)) * time.Second
	}
	return 0
}

func applied(wait time.Duration) string {
	if wait == 0 {
		return ""
	}
	return "wait=" + strconv.Itoa(int(wait.Seconds()))
}

// waiter lets any number of requests wait for their messages with one query per round for all of them.
type waiter struct {
	db   *models.DB
	stop chan struct{}

	mu      sync.Mutex
	waiting map[uuid.UUID][]chan string
	running bool
	of      map[waits]int // how many wait
}

// waits is who waits for what.
type waits struct {
	user  uuid.UUID
	polls bool
}

// How many of a user's requests may wait at once at this process. Those that poll cost a query each, several times a second; those
// that wait for a message share one.
const (
	pollsPerUser = 5
	waitsPerUser = 500
)

// enter says whether one more may wait. If so, leave it is to be called after it.
func (w *waiter) enter(who waits) (leave func(), ok bool) {
	most := waitsPerUser
	if who.polls {
		most = pollsPerUser
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[who] >= most {
		return nil, false
	}
	w.of[who]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.of[who]--; w.of[who] == 0 {
			delete(w.of, who)
		}
	}, true
}

const waitRound = 25 * time.Millisecond

func newWaiter(db *models.DB) *waiter {
	return &waiter{db: db, stop: make(chan struct{}), waiting: map[uuid.UUID][]chan string{}, of: map[waits]int{}}
}

// message waits until a message of a user is settled and returns its status, or "" when the time is up, or at once where too many
// wait already.
func (w *waiter) message(ctx context.Context, user, id uuid.UUID, wait time.Duration) string {
	leave, ok := w.enter(waits{user: user})
	if !ok {
		return ""
	}
	defer leave()
	settled := make(chan string, 1)
	w.mu.Lock()
	w.waiting[id] = append(w.waiting[id], settled)
	if !w.running {
		w.running = true
		go w.loop()
	}
	w.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case status := <-settled:
		return status
	case <-timer.C:
	case <-ctx.Done():
	case <-w.stop:
	}
	w.leave(id, settled)
	return ""
}

func (w *waiter) leave(id uuid.UUID, settled chan string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.waiting[id]
	for i, c := range list {
		if c == settled {
			w.waiting[id] = append(list[:i:i], list[i+1:]...)
		}
	}
	if len(w.waiting[id]) == 0 {
		delete(w.waiting, id)
	}
}

// loop runs while somebody waits.
func (w *waiter) loop() {
	ticker := time.NewTicker(waitRound)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-w.stop:
			return
		}
		w.mu.Lock()
		if len(w.waiting) == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		ids := make([]uuid.UUID, 0, len(w.waiting))
		for id := range w.waiting {
			ids = append(ids, id)
		}
		w.mu.Unlock()
		w.look(ids)
	}
}

func (w *waiter) look(ids []uuid.UUID) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	states, err := models.MessageStates(ctx, w.db.Pool, ids)
	if err != nil {
		return // the next round asks again
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, status := range states {
		if !models.Final(status) {
			continue
		}
		for _, c := range w.waiting[id] {
			c <- status
		}
		delete(w.waiting, id)
	}
}

// until polls for a user until done says so or the time is up. Where he has too many that poll it asks once.
func (w *waiter) until(ctx context.Context, user uuid.UUID, wait time.Duration, done func() (bool, error)) (bool, error) {
	leave, ok := w.enter(waits{user: user, polls: true})
	if !ok {
		return done()
	}
	defer leave()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	ticker := time.NewTicker(4 * waitRound)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return ok, err
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return false, nil
		case <-w.stop:
			return false, nil
		case <-ctx.Done():
			return false, nil
		}
	}
}
