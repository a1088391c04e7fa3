package jobs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// TestFleetModel lets everything happen to a fleet in random order and at once: workers that crash, freeze, lapse, come
// back and leave; calls that get lost before or after they took effect, or arrive late; runners killed in the middle of a
// job; moves, drains and rebalancing; outages of our own. At no moment may two workers hold one session, and nobody may
// be overfilled. When all is well again, everyone holds what is theirs.
func TestFleetModel(t *testing.T) {
	for range fleetRuns {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runFleet(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}

const (
	fleetRuns  = 4
	fleetSteps = 120
)

func runFleet(t *testing.T, luck *rand.Rand) {
	f := newFleet(t, 4)
	uids := f.sessions(12)
	for step := range fleetSteps {
		var group sync.WaitGroup
		for range 1 + luck.IntN(3) {
			group.Go(f.something(luck, uids))
		}
		group.Wait()
		f.check(step)
	}
	f.recover(uids)
}

// something returns one thing that may happen. Luck is drawn before it runs, so that a seed repeats as far as it can.
func (f *fleet) something(luck *rand.Rand, uids []uuid.UUID) func() {
	ctx := context.Background()
	n, uid := f.workers[luck.IntN(len(f.workers))], uids[luck.IntN(len(uids))]
	dice, crash := luck.IntN(100), luck.IntN(2) == 0
	how := mood(luck.IntN(int(slow) + 1))
	switch {
	case dice < 30:
		due := f.due()
		if len(due) == 0 {
			return func() {}
		}
		d, killed := due[luck.IntN(len(due))], luck.IntN(4) == 0
		return func() { f.runJob(ctx, d, killed) }
	case dice < 45:
		return func() { n.heartbeat() }
	case dice < 55:
		return func() { f.takesHeartbeats(); f.tick(f.runner.expireLeases) }
	case dice < 60:
		return func() { f.tick(f.runner.reconcile) }
	case dice < 66:
		return func() { n.lapse(crash) }
	case dice < 74:
		return func() { n.register("") }
	case dice < 80:
		return func() { n.is(how) }
	case dice < 84:
		return n.arrive
	case dice < 91:
		return func() { f.move(uid) }
	case dice < 94:
		return func() { f.drain(n.id) }
	case dice < 96:
		return func() { f.tick(f.runner.rebalanceTick) }
	case dice < 98:
		return func() { f.exec(`UPDATE intake SET since = now()`) }
	}
	return func() { // its engine lost all sessions, and it says so
		n.mu.Lock()
		for session := range n.held {
			f.leave(session, n.id)
		}
		n.held = map[string]int64{}
		n.mu.Unlock()
		f.exec(`UPDATE sessions SET held_at = now() - interval '1 minute' WHERE worker_id = $1`, n.id)
		n.heartbeat()
	}
}

func (f *fleet) tick(job func(context.Context, tick) error) {
	require.NoError(f.t, job(context.Background(), tick{At: time.Now()}))
}

func (f *fleet) move(uid uuid.UUID) {
	s, err := models.SessionByUID(context.Background(), f.db, uid)
	require.NoError(f.t, err)
	_ = f.db.InPgxTx(context.Background(), func(tx pgx.Tx) error { // nobody has room, or it moves already
		if s.WorkerID == nil {
			return nil
		}
		_, err := models.MoveSession(context.Background(), tx, models.NewID(), s, "", models.MoveAdmin, nil)
		return err
	})
}

func (f *fleet) drain(worker string) {
	require.NoError(f.t, f.db.InPgxTx(context.Background(), func(tx pgx.Tx) error {
		_, err := models.StartDrain(context.Background(), tx, worker, models.MoveDrain, nil)
		return err
	}))
	f.exec(`UPDATE workers SET maintenance = true, status = CASE status WHEN 'ONLINE' THEN 'MAINTENANCE' ELSE status END WHERE id = $1`, worker)
}

func (f *fleet) check(step int) {
	f.t.Helper()
	f.mu.Lock()
	require.Empty(f.t, f.doubles, "step %d", step)
	f.mu.Unlock()
	require.Zero(f.t, modelstest.Scalar[int64](f.t, f.db, `SELECT count(*) FROM workers w WHERE w.max_sessions <
		(SELECT count(*) FROM sessions s WHERE s.worker_id = w.id) + (SELECT count(*) FROM sessions s WHERE s.moving_to = w.id AND s.worker_id <> w.id)`), "overfilled at step %d", step)
}

// recover ends all trouble and waits, in rounds of what the schedulers would do, until all is as it should be.
func (f *fleet) recover(uids []uuid.UUID) {
	f.exec(`UPDATE workers SET maintenance = false, resting_until = NULL, status = CASE status WHEN 'MAINTENANCE' THEN 'ONLINE' ELSE status END`)
	for _, n := range f.workers {
		n.is(well)
		n.arrive()
	}
	saw := ""
	for round := range 40 {
		for _, n := range f.workers {
			if !n.leased { // a late heartbeat may have renewed what it had given up
				n.lapse(false)
			}
			n.register("")
			n.heartbeat()
		}
		f.takesHeartbeats()
		f.tick(f.runner.expireLeases)
		f.tick(f.runner.reconcile)
		for _, d := range f.due() {
			f.runJob(context.Background(), d, false)
		}
		f.check(fleetSteps + round)
		if saw = f.wrong(uids); saw == "" {
			return
		}
	}
	f.t.Fatalf("not as it should be: %s", saw)
}

// wrong tells what is not as it should be.
func (f *fleet) wrong(uids []uuid.UUID) string {
	if open := modelstest.Scalar[string](f.t, f.db, `SELECT coalesce(string_agg(concat_ws(' ', j.kind, j.status, j.attempts, j.params, j.progress, j.error, s.desired, s.epoch, s.worker_id), '; '), '')
		FROM jobs j LEFT JOIN sessions s ON s.uid = j.session_uid WHERE j.status IN ('QUEUED', 'RUNNING')`); open != "" {
		return "open jobs: " + open
	}
	if n := modelstest.Scalar[int64](f.t, f.db, `SELECT count(*) FROM sessions WHERE moving_to IS NOT NULL OR moved_from IS NOT NULL`); n > 0 {
		return fmt.Sprintf("%d sessions on the move", n)
	}
	for _, uid := range uids {
		s, err := models.SessionWithWorker(context.Background(), f.db, uid)
		require.NoError(f.t, err)
		f.mu.Lock()
		holder := f.holders[uid.String()]
		f.mu.Unlock()
		if s.Worker == nil {
			return fmt.Sprintf("%s: assigned to nobody", uid)
		}
		if holder != s.Worker.ID || s.HeldTerm != s.Worker.Term {
			return fmt.Sprintf("%s: assigned to %q at epoch %d, term %d of %d confirmed; held by %q", uid, s.Worker.ID, s.Epoch, s.HeldTerm, s.Worker.Term, holder)
		}
	}
	return ""
}
