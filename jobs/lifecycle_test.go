package jobs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// order has a session's owner want something; the job is left to whoever runs it.
func (f *fleet) order(what string, uid uuid.UUID) (job uuid.UUID, err error) {
	ctx := context.Background()
	return job, f.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		switch what {
		case "start":
			job, _, err = models.StartSession(ctx, tx, uid, false)
		case "restart":
			job, _, err = models.StartSession(ctx, tx, uid, true)
		case "stop":
			job, err = models.StopSession(ctx, tx, uid)
		case "logout":
			job, _, err = models.LogOutSession(ctx, tx, uid)
		}
		return err
	})
}

func (f *fleet) mustOrder(what string, uid uuid.UUID) uuid.UUID {
	f.t.Helper()
	job, err := f.order(what, uid)
	require.NoError(f.t, err, what)
	return job
}

func (f *fleet) session(uid uuid.UUID) *models.Session {
	f.t.Helper()
	s, err := models.SessionByUID(context.Background(), f.db, uid)
	require.NoError(f.t, err)
	return s
}

func (f *fleet) job(id uuid.UUID) string {
	f.t.Helper()
	return modelstest.Scalar[string](f.t, f.db, `SELECT concat_ws(' ', kind, status, result) FROM jobs WHERE id = $1`, id)
}

func (f *fleet) holder(uid uuid.UUID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.holders[uid.String()]
}

// ended checks that a session is, and that nobody holds it who should not.
func (f *fleet) ended(uid uuid.UUID, reason string) {
	f.t.Helper()
	s := f.session(uid)
	require.Equal(f.t, []string{"DISCONNECTED", reason}, []string{s.Status, *s.Reason})
	require.Nil(f.t, s.WorkerID, "the worker's room is not free")
	require.Nil(f.t, s.MovingTo)
	require.Empty(f.t, f.holder(uid))
}

// running is a fleet with one session that is held, linked and connected, on the first of its workers.
func running(t *testing.T, workers int) (*fleet, uuid.UUID) {
	f := newFleet(t, workers)
	uid := f.sessions(1)[0]
	f.tick(f.runner.reconcile)
	f.settle()
	modelstest.SetStatus(t, f.db, uid, models.SessionConnected)
	f.exec(`UPDATE lanes SET open = true WHERE id = $1`, uid)
	return f, uid
}

// unlinkers has nodes unlink devices, and counts that.
func (f *fleet) unlinkers() (nodes []*picky) {
	for _, n := range f.workers {
		p := &picky{node: n}
		f.serve(n, wire.Server(p, wire.ServerOptions{Logger: quiet}))
		nodes = append(nodes, p)
	}
	return nodes
}

func TestStopAndStart(t *testing.T) {
	f, uid := running(t, 2)
	hook := addHook(t, f.db, f.session(uid))
	epoch := f.session(uid).Epoch
	job := f.mustOrder("stop", uid)
	require.Equal(t, job, f.mustOrder("stop", uid), "one at a time")
	require.False(t, modelstest.Scalar[bool](t, f.db, `SELECT open FROM lanes WHERE id = $1`, uid), "messages are taken")
	f.settle()
	f.ended(uid, "stopped")
	require.Equal(t, `session:stop SUCCEEDED {"reason": "stopped", "status": "disconnected", "sessionId": "s0"}`, f.job(job))
	require.NotNil(t, f.session(uid).LinkedAt, "the credentials are kept")
	require.Equal(t, epoch+1, f.session(uid).Epoch)
	f.tick(f.runner.expireLeases)
	f.tick(f.runner.reconcile)
	f.settle()
	f.ended(uid, "stopped")
	require.NotEqual(t, job, f.mustOrder("stop", uid), "a stop of what is stopped")
	f.settle()
	require.Equal(t, epoch+1, f.session(uid).Epoch, "nothing to do")

	f.mustOrder("start", uid)
	require.Equal(t, []string{"RECONNECTING", "starting"}, []string{f.session(uid).Status, *f.session(uid).Reason})
	require.True(t, modelstest.Scalar[bool](t, f.db, `SELECT open FROM lanes WHERE id = $1`, uid), "it is linked, so messages are taken")
	f.settle()
	s := f.session(uid)
	require.Equal(t, f.holder(uid), *s.WorkerID)
	require.Equal(t, epoch+2, s.Epoch)
	require.NotZero(t, s.HeldTerm)
	require.Equal(t, []string{`disconnected stopped`, `reconnecting starting`}, f.told(hook))

	f.mustOrder("start", uid)
	f.settle()
	require.Equal(t, epoch+2, f.session(uid).Epoch, "a start of what runs")
	f.mustOrder("restart", uid)
	f.settle()
	require.Equal(t, []any{epoch + 3, *s.WorkerID, f.holder(uid)}, []any{f.session(uid).Epoch, *f.session(uid).WorkerID, *s.WorkerID}, "on the same worker")
	require.Empty(t, f.doubles)
}

// told lists what the webhook's owner hears of statuses.
func (f *fleet) told(hook uuid.UUID) (list []string) {
	rows, err := f.db.Pool.Query(context.Background(), `SELECT concat_ws(' ', e.data->>'status', e.data->>'reason') FROM webhook_deliveries d JOIN events e ON e.id = d.event_id
		WHERE d.webhook_id = $1 AND e.type <> 'message.cancelled' ORDER BY d.sequence`, hook)
	require.NoError(f.t, err)
	list, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(f.t, err)
	return list
}

// What the network has ended, a start begins anew at its worker.
func TestStartOfWhatTheNetworkHasEnded(t *testing.T) {
	for _, reason := range []string{"qr_timeout", "logged_out", "replaced", "banned"} {
		f, uid := running(t, 1)
		f.exec(`UPDATE sessions SET status = CASE WHEN $2 = 'banned' THEN 'ERROR' ELSE 'DISCONNECTED' END, reason = $2,
			linked_at = CASE WHEN $2 IN ('qr_timeout', 'logged_out') THEN NULL ELSE linked_at END WHERE uid = $1`, uid, reason)
		epoch := f.session(uid).Epoch
		f.mustOrder("start", uid)
		f.settle()
		s := f.session(uid)
		require.Equal(t, []any{epoch + 1, "w0", "starting"}, []any{s.Epoch, f.holder(uid), *s.Reason}, reason)
		require.Equal(t, map[bool]string{true: "RECONNECTING", false: "INIT"}[s.LinkedAt != nil], s.Status, reason)
		require.Equal(t, epoch+1, f.workers[0].held[uid.String()])
	}
}

func TestStartWithoutRoom(t *testing.T) {
	f, uid := running(t, 1)
	f.mustOrder("stop", uid)
	f.settle()
	f.exec(`UPDATE workers SET max_sessions = 0`)
	before := *f.session(uid)
	_, err := f.order("start", uid)
	require.Equal(t, "no_worker_available", fault.Code(err))
	require.Equal(t, before, *f.session(uid), "nothing changed")
	f.exec(`UPDATE workers SET max_sessions = 1, engine = 'whatsapp'`)
	_, err = f.order("start", uid)
	require.Equal(t, "no_worker_available", fault.Code(err), "of another network")
}

// A start comes before the stop has been carried out, or in the middle of it: after the worker has let go.
func TestStartRightAfterStop(t *testing.T) {
	for _, released := range []bool{false, true} {
		f, uid := running(t, 2)
		stop := f.mustOrder("stop", uid)
		if released {
			f.workers[0].is(mute)
			f.settleOnce()
			require.Empty(t, f.holder(uid))
			f.workers[0].is(well)
		}
		f.mustOrder("start", uid)
		f.settle()
		s := f.session(uid)
		require.Equal(t, []string{"RUNNING", "w0", "w0"}, []string{s.Desired, *s.WorkerID, f.holder(uid)})
		require.Contains(t, f.job(stop), "SUCCEEDED")
		require.Contains(t, f.job(stop), "skipped")
		// The stop's own call arrives late.
		require.Error(t, f.workers[0].Release(t.Context(), uid.String(), s.Epoch-1))
		require.Equal(t, "w0", f.holder(uid))
		require.Empty(t, f.doubles)
	}
}

// settleOnce runs each open job once.
func (f *fleet) settleOnce() {
	for _, d := range f.due() {
		f.runJob(context.Background(), d, false)
	}
}

// A stop at every stage of a move: reserved, released, assigned, and held by the next worker, which has not been heard.
func TestStopDuringAMove(t *testing.T) {
	for _, stage := range []string{"reserved", "released", "assigned", "held"} {
		t.Run(stage, func(t *testing.T) {
			f, uid := running(t, 2)
			f.move(uid)
			require.NotNil(t, f.session(uid).MovingTo)
			if stage != "reserved" {
				require.NoError(t, f.workers[0].Release(t.Context(), uid.String(), 1))
			}
			if stage == "assigned" || stage == "held" {
				_, err := models.FinishMove(t.Context(), f.db, uid, 1, 1, models.MoveAdmin)
				require.NoError(t, err)
			}
			if stage == "held" {
				_, err := f.workers[1].Create(t.Context(), 1, wire.CreateSession{SessionID: uid.String(), Epoch: 2})
				require.NoError(t, err)
			}
			stop := f.mustOrder("stop", uid)
			f.settle()
			f.ended(uid, "stopped")
			require.Contains(t, f.job(stop), "SUCCEEDED")
			require.Empty(t, f.doubles)
			require.Zero(t, modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM sessions WHERE moved_from IS NOT NULL`))
			// A create of the move arrives late.
			_, err := f.workers[1].Create(t.Context(), 1, wire.CreateSession{SessionID: uid.String(), Epoch: 2})
			if stage == "assigned" || stage == "held" {
				require.Equal(t, wire.CodeStaleEpoch, wire.Code(err))
			}
		})
	}
}

// The worker is dead, or does not answer. While its lease lives it may hold the session; then nobody does.
func TestEndsWithADeadWorker(t *testing.T) {
	for what, reason := range map[string]string{"stop": "stopped", "logout": "logged_out"} {
		f, uid := running(t, 2)
		f.exec(`UPDATE workers SET endpoint = 'http://127.0.0.1:1' WHERE id = 'w0'`)
		job := f.mustOrder(what, uid)
		f.settleOnce()
		require.Equal(t, "w0", *f.session(uid).WorkerID, "it may hold the session")
		require.NotContains(t, f.job(job), "SUCCEEDED")
		f.takesHeartbeats()
		f.workers[0].lapse(true)
		f.tick(f.runner.expireLeases)
		require.Equal(t, "w0", *f.session(uid).WorkerID, "nobody else is to hold it")
		f.settle()
		f.ended(uid, reason)
		if what == "logout" {
			require.Contains(t, f.job(job), `"unlinked": false`)
		}
		f.mustOrder("start", uid)
		f.settle()
		require.Equal(t, "w1", f.holder(uid))
	}
}

func TestStopOfASessionThatWaitsForRoom(t *testing.T) {
	f, uid := running(t, 1)
	f.takesHeartbeats()
	f.workers[0].lapse(true)
	f.tick(f.runner.expireLeases)
	require.Nil(t, f.session(uid).WorkerID)
	f.mustOrder("stop", uid)
	f.settle()
	f.ended(uid, "stopped")
	f.workers[0].register("")
	f.tick(f.runner.expireLeases)
	f.settle()
	f.ended(uid, "stopped")
}

func TestLogout(t *testing.T) {
	f, uid := running(t, 2)
	hook := addHook(t, f.db, f.session(uid))
	nodes := f.unlinkers()
	for i, status := range []string{"PENDING", "PENDING", "SENDING", "SENT"} {
		f.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, content, status, whatsapp_id, expires_at)
			VALUES (kurir_uuid_v7(), $1, 'OUTBOUND', $2, 'c', 't', 'TEXT', 'x', $3, $4, now() + interval '1 hour')`, uid, i+1, status, fmt.Sprint("x", i))
	}
	job := f.mustOrder("logout", uid)
	require.Equal(t, job, f.mustOrder("logout", uid))
	_, err := f.order("start", uid)
	require.Equal(t, "session_logging_out", fault.Code(err))
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM messages WHERE status = 'CANCELLED' AND error_code = 'logged_out'`))
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM webhook_deliveries WHERE webhook_id = $1 AND event = 'message.cancelled'`, hook))
	f.workers[0].heartbeat()
	require.Equal(t, "w0", f.holder(uid), "dropped before its device is unlinked")
	f.settle()
	f.ended(uid, "logged_out")
	require.Nil(t, f.session(uid).LinkedAt)
	require.Contains(t, f.job(job), `"unlinked": true`)
	require.EqualValues(t, 1, nodes[0].logouts.Load())
	require.Equal(t, []string{"disconnected logged_out"}, f.told(hook))
	stop := f.mustOrder("stop", uid)
	f.settle()
	f.ended(uid, "logged_out")
	require.Contains(t, f.job(stop), "logged_out")
	f.mustOrder("start", uid)
	f.settle()
	require.Equal(t, []string{"INIT", "starting"}, []string{f.session(uid).Status, *f.session(uid).Reason})
	require.NotEmpty(t, f.holder(uid))
	require.False(t, modelstest.Scalar[bool](t, f.db, `SELECT open FROM lanes WHERE id = $1`, uid), "nobody has scanned yet")
}

// Who is stopped is connected once more to be unlinked, for a logout and for a deletion.
func TestUnlinkingWhatIsStopped(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		f, uid := running(t, 1)
		nodes := f.unlinkers()
		stop := f.mustOrder("stop", uid)
		if deleted {
			f.settle()
			f.delete(uid)
		} else {
			f.settleOnce()
			f.mustOrder("logout", uid)
		}
		f.settle()
		require.EqualValues(t, 1, nodes[0].logouts.Load(), "linked for ever")
		require.Contains(t, f.job(stop), "SUCCEEDED")
		require.Empty(t, f.holder(uid))
		require.Nil(t, f.session(uid).WorkerID)
		if deleted {
			require.NotNil(t, f.session(uid).ReleasedAt)
		}
	}
}

func (f *fleet) delete(uid uuid.UUID) {
	require.NoError(f.t, f.db.InTx(context.Background(), func(ctx context.Context, tx models.Tx) error {
		if ok, err := models.DeleteSession(ctx, tx, uid); err != nil || !ok {
			return err
		}
		return models.InsertJob(ctx, tx, &models.Job{ID: models.NewID(), Kind: KindDeleteSession, SessionUID: &uid})
	}))
}

// Without room, a session that is stopped is logged out all the same, and it is said that the phone was not told.
func TestUnlinkingWithoutRoom(t *testing.T) {
	f, uid := running(t, 1)
	f.mustOrder("stop", uid)
	f.settle()
	f.exec(`UPDATE workers SET max_sessions = 0`)
	job := f.mustOrder("logout", uid)
	for range unlinkTries + 1 {
		f.settleOnce()
	}
	f.ended(uid, "logged_out")
	require.Contains(t, f.job(job), `"unlinked": false`)
}

func TestDeleteDuringStop(t *testing.T) {
	f, uid := running(t, 2)
	nodes := f.unlinkers()
	stop := f.mustOrder("stop", uid)
	f.workers[0].is(mute) // it lets go, and is not heard
	f.settleOnce()
	f.workers[0].is(well)
	f.delete(uid)
	_, err := f.order("start", uid)
	require.Equal(t, "session_not_found", fault.Code(err))
	f.settle()
	require.Contains(t, f.job(stop), "skipped")
	require.EqualValues(t, 1, nodes[0].logouts.Load()+nodes[1].logouts.Load())
	require.NotNil(t, f.session(uid).ReleasedAt)
	require.Empty(t, f.holder(uid))
}

func TestOrdersAtOnce(t *testing.T) {
	f, uid := running(t, 2)
	for _, orders := range [][]string{{"stop", "stop", "stop", "stop"}, {"start", "start", "start", "start"}, {"stop", "start", "restart", "logout"}} {
		var group sync.WaitGroup
		for _, what := range orders {
			group.Go(func() {
				if _, err := f.order(what, uid); err != nil {
					require.Equal(t, fault.Conflict, fault.Of(err), "%s: %v", what, err)
				}
			})
		}
		group.Wait()
		f.settle()
		require.Empty(t, f.doubles)
	}
	f.tick(f.runner.reconcile)
	f.settle()
	s := f.session(uid)
	if s.Desired == models.DesiredRunning {
		require.Equal(t, f.holder(uid), *s.WorkerID)
	} else {
		require.True(t, s.Ended())
		require.Empty(t, f.holder(uid))
	}
}

// A job that found nothing to do and is about to end is found open by the next order: reconcile carries that out.
func TestAnOrderThatItsJobDidNotSee(t *testing.T) {
	for what, reason := range map[string]string{"stop": "stopped", "logout": "logged_out"} {
		f, uid := running(t, 1)
		job := f.mustOrder(what, uid)
		f.exec(`UPDATE jobs SET status = 'SUCCEEDED', finished_at = now() WHERE id = $1`, job)
		f.tick(f.runner.reconcile)
		f.settle()
		f.ended(uid, reason)
	}
}

// TestLifecycleModel is TestFleetModel with owners who start, stop, restart, log out and delete at any moment.
func TestLifecycleModel(t *testing.T) {
	for range 3 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			luck := rand.New(rand.NewPCG(seed, 0))
			f := newFleet(t, 4)
			uids := f.sessions(12)
			orders := []string{"start", "start", "restart", "stop", "stop", "logout"}
			for step := range fleetSteps {
				var group sync.WaitGroup
				for range 1 + luck.IntN(3) {
					do := f.something(luck, uids)
					if luck.IntN(3) == 0 {
						what, uid := orders[luck.IntN(len(orders))], uids[luck.IntN(len(uids))]
						do = func() { _, _ = f.order(what, uid) } // refused, if there is no room
					}
					group.Go(do)
				}
				group.Wait()
				f.check(step)
			}
			// Those that should not run are let go of; then all are started.
			wanted := f.settled(uids)
			for _, uid := range uids {
				s := f.session(uid)
				require.Equal(t, wanted[uid], s.Desired)
				if s.Desired != models.DesiredRunning {
					require.True(t, s.Ended(), "%s: %s %s at %v", s.Desired, s.Status, *s.Reason, s.WorkerID)
					require.Empty(t, f.holder(uid))
				}
				f.mustOrder("start", uid)
			}
			f.recover(uids)
		})
	}
}

// settled ends all trouble and waits until no job is open.
func (f *fleet) settled(uids []uuid.UUID) map[uuid.UUID]string {
	f.exec(`UPDATE workers SET maintenance = false, resting_until = NULL, status = CASE status WHEN 'MAINTENANCE' THEN 'ONLINE' ELSE status END`)
	wanted := map[uuid.UUID]string{}
	for _, uid := range uids {
		wanted[uid] = f.session(uid).Desired
	}
	for range 40 {
		for _, n := range f.workers {
			n.is(well)
			n.arrive()
			if !n.leased {
				n.lapse(false)
			}
			n.register("")
			n.heartbeat()
		}
		f.takesHeartbeats()
		f.tick(f.runner.expireLeases)
		f.tick(f.runner.reconcile)
		f.settleOnce()
		if modelstest.Scalar[int64](f.t, f.db, `SELECT count(*) FROM jobs WHERE status IN ('QUEUED', 'RUNNING')`) == 0 {
			break
		}
	}
	return wanted
}

// Delete lets go of a session, as a node without phones does.
func (n *node) Delete(_ context.Context, session string, epoch int64, _ bool) error {
	return n.call(func() error {
		at, held := n.held[session]
		switch {
		case !held:
			return wire.Refuse(wire.CodeSessionNotFound, "")
		case at > epoch:
			return wire.Refuse(wire.CodeStaleEpoch, "")
		}
		n.released[session] = max(n.released[session], epoch)
		delete(n.held, session)
		n.fleet.leave(session, n.id)
		return nil
	})
}
