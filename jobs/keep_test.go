package jobs

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
)

// keeping is a runner that keeps the lane of one session, in whose rounds everything is done at once.
type keeping struct {
	*testing.T
	db     *models.DB
	lane   uuid.UUID
	lanes  *Lanes
	waker  *Waker
	rounds chan int64 // the lane's number as each round has read it
	left   bool       // rounds leave something that only the next holder can take up
	end    func()     // stops the runner, and waits for it

	mu    sync.Mutex
	wakes []models.Woken // whom drains have asked to wake
}

func newKeeping(t *testing.T, keeps time.Duration) *keeping {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	client := embeddedtest.RedisClient(t)
	waker := NewWaker(NewQueue(client, quiet), quiet, monitoring.New("test"))
	t.Cleanup(waker.Close)
	x := &keeping{T: t, db: db, lane: s.UID, lanes: alive(t, db), waker: waker, rounds: make(chan int64, 100)}
	k := keeper{lanes: x.lanes, redis: client, log: quiet, keeps: keeps, run: func(ctx context.Context, kind string, lane uuid.UUID) { x.drain(ctx) }}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { k.keep(ctx) })
	x.end = sync.OnceFunc(func() {
		stop()
		running.Wait()
	})
	t.Cleanup(x.end)
	require.Eventually(t, func() bool { return x.lanes.keepsFor() > 0 }, 20*time.Second, time.Millisecond)
	return x
}

func (x *keeping) drain(ctx context.Context) {
	wake, err := x.lanes.drain(ctx, x.lane, models.LaneMessages, func(ctx context.Context, h *models.Hold) (step, error) {
		claim, err := models.ClaimMessages(ctx, x.db.Pool, h, 1)
		if err != nil {
			return step{}, err
		}
		x.rounds <- h.NextSeq
		return step{idle: true, ended: true, keep: true, lost: !claim.Held, left: x.left}, nil
	})
	if err != nil {
		x.Error(err)
	}
	x.mu.Lock()
	x.wakes = append(x.wakes, wake...)
	x.mu.Unlock()
}

func (x *keeping) woken() []models.Woken {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.wakes
}

// comes makes as if a message had come, of which nothing is left to do.
func (x *keeping) comes() models.Woken {
	w := models.Woken{Lane: x.lane, Holder: &x.lanes.runner}
	require.NoError(x, x.db.Pool.QueryRow(x.Context(), `UPDATE lanes SET next_seq = next_seq + 1, next_due_at = now() WHERE id = $1 RETURNING next_seq`, x.lane).Scan(&w.NextSeq))
	return w
}

func (x *keeping) generation() int64 {
	return modelstest.Scalar[int64](x.T, x.db, `SELECT generation FROM lanes WHERE id = $1`, x.lane)
}

func (x *keeping) free() bool {
	return modelstest.Scalar[bool](x.T, x.db, `SELECT holder IS NULL FROM lanes WHERE id = $1`, x.lane)
}

func (x *keeping) holdsNothing() bool {
	x.lanes.mu.Lock()
	defer x.lanes.mu.Unlock()
	return len(x.lanes.held) == 0
}

func TestALaneIsKeptForWhatComesNext(t *testing.T) {
	x := newKeeping(t, time.Hour)
	x.drain(t.Context())
	first := <-x.rounds
	generation := x.generation()
	for i := range int64(3) {
		w := x.comes()
		x.waker.Messages(w)
		require.Equal(t, first+1+i, <-x.rounds)
		x.waker.Messages(w) // a call for what was seen is none
	}
	require.Equal(t, generation, x.generation(), "it was taken once")
	require.False(t, x.free())
	x.end()
	require.True(t, x.free(), "who ends keeps nothing")
	require.Empty(t, x.rounds, "nobody looked without reason")
	require.Empty(t, x.lanes.held)
}

// Of two hints about a lane, the one of the later row knows whether somebody has it by now, in whatever order they come.
func TestTheLaterHintCounts(t *testing.T) {
	lane, runner := uuid.New(), uuid.New()
	for _, hints := range [][]models.Woken{
		{{Lane: lane, NextSeq: 5}, {Lane: lane, Holder: &runner, NextSeq: 6}},
		{{Lane: lane, Holder: &runner, NextSeq: 5}, {Lane: lane, NextSeq: 6}},
	} {
		for range 2 {
			w := &Waker{signal: make(chan struct{}, 1), waiting: map[uuid.UUID]wakeUp{}}
			w.Messages(hints[0])
			w.Messages(hints[1])
			later := hints[0]
			if hints[1].NextSeq > later.NextSeq {
				later = hints[1]
			}
			require.Equal(t, wakeUp{later, models.LaneMessages}, w.waiting[lane])
			hints[0], hints[1] = hints[1], hints[0]
		}
	}
}

func TestALostCallIsMadeGood(t *testing.T) {
	x := newKeeping(t, 500*time.Millisecond)
	x.drain(t.Context())
	first := <-x.rounds
	x.comes()
	require.Equal(t, first+1, <-x.rounds)
	require.Eventually(t, x.free, 20*time.Second, 5*time.Millisecond)
	require.Eventually(t, x.holdsNothing, 20*time.Second, time.Millisecond)
}

// What came when the runner was about to end stays due, for the others.
func TestWhatComesAtTheEndStaysDue(t *testing.T) {
	x := newKeeping(t, time.Hour)
	x.drain(t.Context())
	<-x.rounds
	x.comes()
	x.end()
	require.True(t, x.free())
	require.True(t, sweepFinds(t, x.db, models.LaneMessages, x.lane))
	require.Empty(t, x.lanes.held)
}

// A runner that was frozen finds that others have what it kept.
func TestAKeptLaneThatAnotherRunnerHas(t *testing.T) {
	x := newKeeping(t, time.Hour)
	x.drain(t.Context())
	<-x.rounds
	require.NoError(t, models.RenewRunner(t.Context(), x.db.Pool, x.lanes.runner, "test", 1, -time.Second))
	other := alive(t, x.db)
	h, ok, err := models.TakeLane(t.Context(), x.db.Pool, x.lane, other.runner)
	require.NoError(t, err)
	require.True(t, ok)
	x.waker.Messages(x.comes())
	require.Eventually(t, x.holdsNothing, 20*time.Second, time.Millisecond)
	require.Equal(t, h.Generation, x.generation())
	require.False(t, x.free())
}

// What a round leaves under its generation is for the next holder, and what is behind it in its chat has to wait for that.
func TestALaneWithSomethingLeftIsNotKept(t *testing.T) {
	x := newKeeping(t, time.Hour)
	x.left = true
	x.drain(t.Context())
	require.True(t, x.free())
	require.True(t, x.holdsNothing())
	require.Equal(t, models.Unheld(x.lane), x.woken())
}

// A runner that is full gives back what it has kept, and whom others are waiting for.
func TestAFullRunner(t *testing.T) {
	full := func(x *keeping) {
		x.lanes.bound(1)
		x.lanes.places[models.LaneMessages] <- struct{}{}
	}
	t.Run("what it has kept for long enough needs no place", func(t *testing.T) {
		x := newKeeping(t, 100*time.Millisecond)
		x.drain(t.Context())
		full(x)
		require.Eventually(t, x.free, 20*time.Second, time.Millisecond)
		require.Eventually(t, x.holdsNothing, 20*time.Second, time.Millisecond)
		require.Empty(t, x.woken())
	})
	t.Run("what it is called for is for others", func(t *testing.T) {
		x := newKeeping(t, time.Hour)
		x.drain(t.Context())
		<-x.rounds
		full(x)
		x.waker.Messages(x.comes())
		require.Eventually(t, x.holdsNothing, 20*time.Second, time.Millisecond)
		require.Equal(t, models.Unheld(x.lane), x.woken())
		require.True(t, x.free())
		require.True(t, sweepFinds(t, x.db, models.LaneMessages, x.lane))
		require.Empty(t, x.rounds)
	})
}

// A task that another runner has taken, of a lane that is kept, reaches the one that keeps it.
func TestAWakeUpIsPassedOnToTheHolder(t *testing.T) {
	x := newKeeping(t, time.Hour)
	x.drain(t.Context())
	first := <-x.rounds
	wake, err := alive(t, x.db).drain(t.Context(), x.lane, models.LaneMessages, idle)
	require.NoError(t, err)
	x.waker.Messages(wake...)
	require.Equal(t, first, <-x.rounds, "it looks, though no row has come")
	require.False(t, x.free())
}

// A hint that came without number behind a call is not lost: the call has its holder look in any case.
func TestAHintBehindACall(t *testing.T) {
	lane, runner := uuid.New(), uuid.New()
	w := &Waker{signal: make(chan struct{}, 1), waiting: map[uuid.UUID]wakeUp{}}
	w.Messages(models.Woken{Lane: lane, Holder: &runner, NextSeq: 5})
	w.Messages(models.Unheld(lane)...)
	require.Equal(t, wakeUp{models.Woken{Lane: lane, Holder: &runner}, models.LaneMessages}, w.waiting[lane])
}
