package jobs

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
	"kurir/webhook"
	"kurir/wire"
)

// waits is how many statements wait for a lock.
func (f *fleet) waits() int64 {
	return modelstest.Scalar[int64](f.t, f.db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}

// goodbye ends a worker's term as its last heartbeat does. A process that is started in its place knows nothing.
func (n *node) goodbye() {
	n.mu.Lock()
	for session := range n.held {
		n.fleet.leave(session, n.id)
	}
	term := n.term
	n.leased, n.held, n.released = false, map[string]int64{}, map[string]int64{}
	n.mu.Unlock()
	said, err := models.RenewLease(context.Background(), n.fleet.db, n.id, wire.Heartbeat{Status: "offline", Term: term}, time.Hour)
	require.NoError(n.fleet.t, err)
	require.True(n.fleet.t, said)
}

// serve puts another handler at a node's endpoint.
func (f *fleet) serve(n *node, h http.Handler) {
	server := httptest.NewServer(h)
	f.t.Cleanup(server.Close)
	f.t.Cleanup(server.CloseClientConnections)
	f.exec(`UPDATE workers SET endpoint = $2 WHERE id = $1`, n.id, server.URL)
}

// hangs is a worker that takes connections and answers nothing until over is closed.
func hangs(over chan struct{}) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	})
}

// A worker leaves, and is started anew while the lease tick gives its sessions away: either the tick is first, and the new
// process gets none of them, or the registration is, and the sessions stay.
func TestAWorkerThatRegistersWhileItsSessionsAreGivenAway(t *testing.T) {
	f := newFleet(t, 2)
	uids := f.sessions(4)
	f.tick(f.runner.reconcile)
	f.settle()
	f.takesHeartbeats()
	n := f.workers[0]
	n.goodbye()

	busy, err := f.db.Pool.Begin(t.Context()) // the tick has chosen, and has to wait before it can write
	require.NoError(t, err)
	defer func() { _ = busy.Rollback(context.Background()) }()
	_, err = busy.Exec(t.Context(), `LOCK TABLE jobs IN SHARE MODE`)
	require.NoError(t, err)
	ticked := make(chan error, 1)
	go func() { ticked <- f.runner.expireLeases(context.Background(), tick{At: time.Now()}) }()
	require.Eventually(t, func() bool { return f.waits() > 0 }, 10*time.Second, 5*time.Millisecond)
	registered := make(chan struct{})
	go func() { n.register(""); close(registered) }()
	require.Eventually(t, func() bool { return f.waits() > 1 }, 10*time.Second, 5*time.Millisecond, "it is let in, and would be asked to hold what is given away")
	require.NoError(t, busy.Rollback(t.Context()))
	require.NoError(t, <-ticked)
	<-registered
	f.settle()
	f.check(0)
	n.heartbeat()
	f.tick(f.runner.reconcile)
	f.settle()
	require.Empty(t, f.wrong(uids))
}

// A worker that takes connections and answers nothing must not keep the control plane from noticing that another one is gone.
func TestAHangingWorkerDoesNotHoldUpFailover(t *testing.T) {
	for name, work := range map[string]func(f *fleet){
		"creates": func(f *fleet) { f.tick(f.runner.reconcile) },
		"moves": func(f *fleet) {
			f.exec(`UPDATE sessions s SET held_term = w.term FROM workers w WHERE w.id = s.worker_id`)
			f.drain("w0")
			_, moves, err := models.Drain(context.Background(), f.db, "w0", models.MoveDrain, drainAtOnce)
			require.NoError(f.t, err)
			require.NotEmpty(f.t, moves)
			f.runner.start(context.Background(), KindMigrateSession, moves...)
		},
		"deletes": func(f *fleet) {
			f.exec(`UPDATE sessions s SET held_term = w.term FROM workers w WHERE w.id = s.worker_id`)
			f.exec(`UPDATE sessions SET desired = 'DELETED', deleted_at = now() WHERE worker_id = 'w0'`)
			f.exec(`INSERT INTO jobs (id, kind, session_uid) SELECT kurir_uuid_v7(), 'session:delete', uid FROM sessions WHERE worker_id = 'w0'`)
			f.tick(f.runner.sweep)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 3)
			uids := f.sessions(3)
			f.exec(`UPDATE workers SET max_sessions = 1000, cpu_usage = CASE id WHEN 'w0' THEN 99 ELSE 0 END`)
			f.exec(`INSERT INTO sessions (uid, id, user_id, worker_id, name, engine) SELECT kurir_uuid_v7(), 'hung' || n, user_id, 'w0', 'x', engine
				FROM sessions, generate_series(1, 400) n WHERE sessions.uid = $1`, uids[0])
			f.takesHeartbeats()
			over := make(chan struct{})
			f.serve(f.workers[0], hangs(over))
			work(f)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			runner := NewRunner(f.runner.cfg, f.db, f.db, f.runner.redis, f.vault, webhook.NewClient(webhook.ClientConfig{}), monitoring.New("test"), quiet)
			go func() { ended <- runner.Run(ctx) }()
			t.Cleanup(func() {
				f.exec(`UPDATE jobs SET status = 'CANCELLED'`)
				close(over)
				cancel()
				require.NoError(t, <-ended)
			})
			require.Eventually(t, func() bool {
				return modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM jobs WHERE status = 'RUNNING'`) > 0
			}, 10*time.Second, 20*time.Millisecond)

			f.workers[1].lapse(true)
			next := time.Now()
			require.Eventually(t, func() bool {
				if time.Now().After(next) { // the scheduler
					next = next.Add(time.Second)
					require.NoError(t, f.runner.queue.Tick(ctx, KindLeases, time.Now()))
				}
				return modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM sessions WHERE uid = ANY($1) AND worker_id = 'w2' AND held_term > 0`, uids) > 1
			}, 8*time.Second, 50*time.Millisecond, "w1 is dead, and its session is not taken over")
		})
	}
}

// An administrator orders the removal of a worker while its drain takes its last look.
func TestARemovalIsNotLostInADrainThatEnds(t *testing.T) {
	f := newFleet(t, 2)
	f.drain("w0")
	due := f.due()
	require.Len(t, due, 1)
	k := f.kinds[KindDrainWorker]
	look := k.run
	k.run = func(ctx context.Context, j *models.Job) (any, error) {
		result, err := look(ctx, j)
		require.NoError(t, f.db.InPgxTx(ctx, func(tx pgx.Tx) error {
			_, err := models.StartDrain(ctx, tx, "w0", models.MoveRemoved, nil)
			return err
		}))
		return result, err
	}
	f.kinds[KindDrainWorker] = k
	f.runJob(t.Context(), due[0], false)
	k.run = look
	f.kinds[KindDrainWorker] = k
	f.settle()
	require.Equal(t, int64(1), modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM workers WHERE removed_at IS NOT NULL`), "the administrator was told that it goes")
}

// picky is a worker that cannot hold some sessions, and remembers which it was told to forget.
type picky struct {
	*node
	refuses atomic.Bool
	logouts atomic.Int64
	deletes atomic.Int64
}

func (p *picky) Create(ctx context.Context, term int64, c wire.CreateSession) (wire.SessionState, error) {
	if p.refuses.Load() {
		return wire.SessionState{}, wire.Refuse(wire.CodeEngineFailed, "no disk")
	}
	return p.node.Create(ctx, term, c)
}

func (p *picky) Delete(_ context.Context, session string, epoch int64, logout bool) error {
	p.deletes.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[session] == 0 && logout { // as worker.Node does
		return wire.Refuse(wire.CodeSessionNotFound, "")
	}
	if logout {
		p.logouts.Add(1)
	}
	delete(p.held, session)
	p.fleet.leave(session, p.id)
	return nil
}

// A worker dies, and who gets its session cannot hold it, though its heartbeats come. A third one could.
func TestASessionGetsAwayFromAWorkerThatCannotHoldIt(t *testing.T) {
	f := newFleet(t, 3)
	uid := f.sessions(1)[0] // w0
	f.tick(f.runner.reconcile)
	f.settle()
	p := &picky{node: f.workers[1]}
	p.refuses.Store(true)
	f.serve(p.node, wire.Server(p, wire.ServerOptions{Logger: quiet}))
	f.exec(`UPDATE workers SET status = 'MAINTENANCE' WHERE id = 'w2'`)
	f.takesHeartbeats()
	f.workers[0].lapse(true)
	f.tick(f.runner.expireLeases)
	f.exec(`UPDATE workers SET status = 'ONLINE' WHERE id = 'w2'`)
	require.Equal(t, "w1", modelstest.Scalar[string](t, f.db, `SELECT worker_id FROM sessions`))
	for range 20 {
		f.drain("w1") // the operator does what he can
		f.tick(f.runner.expireLeases)
		f.tick(f.runner.reconcile)
		f.move(uid)
		for _, d := range f.due() {
			f.runJob(t.Context(), d, false)
		}
	}
	require.Equal(t, "w2", modelstest.Scalar[string](t, f.db, `SELECT worker_id FROM sessions`), modelstest.Scalar[string](t, f.db,
		`SELECT coalesce(string_agg(concat_ws(' ', kind, status, attempts, error), '; '), '') FROM jobs WHERE status IN ('QUEUED', 'RUNNING')`))
}

// A session is deleted while it moves: between the release and the next worker, nobody holds it. Its device is to be
// unlinked all the same, or the phone shows it for ever.
func TestASessionDeletedOnTheMoveIsUnlinked(t *testing.T) {
	f := newFleet(t, 2)
	uid := f.sessions(1)[0]
	f.tick(f.runner.reconcile)
	f.settle()
	modelstest.SetStatus(t, f.db, uid, models.SessionConnected)
	var nodes []*picky
	for _, n := range f.workers {
		p := &picky{node: n}
		f.serve(n, wire.Server(p, wire.ServerOptions{Logger: quiet}))
		nodes = append(nodes, p)
	}
	f.move(uid)
	moved, err := func() (models.Moved, error) { // the job, until its next worker is asked
		require.NoError(t, f.workers[0].Release(t.Context(), uid.String(), 1))
		return models.FinishMove(t.Context(), f.db, uid, 1, 1, models.MoveAdmin)
	}()
	require.NoError(t, err)
	require.Equal(t, "w1", moved.Worker)
	require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context, tx models.Tx) error {
		if _, err := models.DeleteSession(ctx, tx, uid); err != nil {
			return err
		}
		return models.InsertJob(ctx, tx, &models.Job{ID: models.NewID(), Kind: KindDeleteSession, SessionUID: &uid})
	}))
	f.settle()
	require.Equal(t, int64(1), nodes[0].logouts.Load()+nodes[1].logouts.Load(), "deleted, and linked for ever")
}

// A worker comes back with less room than it has sessions (WORKER_MAX_SESSIONS was lowered): those that it cannot hold go
// to who can.
func TestAWorkerThatComesBackSmaller(t *testing.T) {
	f := newFleet(t, 2)
	f.exec(`UPDATE workers SET max_sessions = 0 WHERE id = 'w1'`)
	uids := f.sessions(6) // w0
	f.exec(`UPDATE workers SET max_sessions = 6 WHERE id = 'w1'`)
	f.tick(f.runner.reconcile)
	f.settle()
	f.takesHeartbeats()
	n := f.workers[0]
	n.goodbye()
	s := &small{node: n, room: 2}
	f.serve(n, wire.Server(s, wire.ServerOptions{Logger: quiet}))
	url := modelstest.Scalar[string](t, f.db, `SELECT endpoint FROM workers WHERE id = 'w0'`)
	require.NoError(t, f.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		term, err := models.RegisterWorker(t.Context(), tx, wire.Register{WorkerID: "w0", Endpoint: url, MaxSessions: 2, Engine: "simulator"}, time.Hour, false)
		n.term, n.leased = term, true
		return err
	}))
	for range 10 {
		f.tick(f.runner.expireLeases)
		f.tick(f.runner.reconcile)
		for _, d := range f.due() {
			f.runJob(t.Context(), d, false)
		}
	}
	held := 0
	f.mu.Lock()
	held = len(f.holders)
	f.mu.Unlock()
	require.Equal(t, len(uids), held, "sessions that nobody holds, though w1 has room")
}

type small struct {
	*node
	room int
}

func (s *small) Create(ctx context.Context, term int64, c wire.CreateSession) (wire.SessionState, error) {
	s.mu.Lock()
	full := s.held[c.SessionID] == 0 && len(s.held) >= s.room
	s.mu.Unlock()
	if full {
		return wire.SessionState{}, wire.Refuse(wire.CodeFull, "no room")
	}
	return s.node.Create(ctx, term, c)
}

// The scheduler's host has another time than the runner's: ticks are not old because of that, only if they waited.
func TestTicksOfAnotherClock(t *testing.T) {
	f := newFleet(t, 1)
	f.takesHeartbeats()
	f.workers[0].lapse(true)
	require.NoError(t, f.runner.queue.Tick(t.Context(), KindLeases, time.Now().Add(-time.Hour)))
	inspector := asynq.NewInspectorFromRedisClient(f.runner.redis)
	tasks, err := inspector.ListPendingTasks(QueueTicks)
	require.NoError(t, err)
	require.Len(t, tasks, 1)
	run := f.runner.handlers().byKind[KindLeases]
	old, err := json.Marshal(tick{At: time.Now().Add(-time.Minute)})
	require.NoError(t, err)
	require.NoError(t, run(t.Context(), old))
	status := func() string { return modelstest.Scalar[string](t, f.db, `SELECT status FROM workers`) }
	require.Equal(t, "ONLINE", status(), "it waited for a minute")
	require.NoError(t, run(t.Context(), tasks[0].Payload))
	require.Equal(t, "OFFLINE", status())
}

// A move ended between the release and the assignment, and the session stays: its worker refuses the epoch that it let go
// of, and gets the next one.
func TestAReleasedSessionThatStays(t *testing.T) {
	f := newFleet(t, 1)
	uids := f.sessions(1)
	f.tick(f.runner.reconcile)
	f.settle()
	require.NoError(t, f.workers[0].Release(t.Context(), uids[0].String(), 1))
	f.exec(`UPDATE sessions SET held_at = now() - interval '1 minute'`)
	f.workers[0].heartbeat()
	f.tick(f.runner.reconcile)
	f.settle()
	require.Empty(t, f.wrong(uids))
	require.Equal(t, int64(2), modelstest.Scalar[int64](t, f.db, `SELECT epoch FROM sessions`))
}
