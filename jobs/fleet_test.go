package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
	"kurir/webhook"
	"kurir/wire"
)

// fleet is a gateway's tables, a runner, and workers that keep to the protocol on networks that do not. It is the witness
// of who holds which session.
type fleet struct {
	t       *testing.T
	db      *models.DB
	runner  *Runner
	vault   *models.Vault
	kinds   map[string]durable
	workers []*node

	mu      sync.Mutex
	holders map[string]string // session -> worker
	proxies map[string]string // session -> proxy with which its holder was last created
	created func()            // called while a worker creates a session; nil: nothing happens meanwhile
	doubles []string
}

// node is a worker. Like the real one it checks term, lease and epochs, and forgets no epoch that it released.
type node struct {
	wire.Handler // the rest of the protocol is not called here
	fleet        *fleet
	id           string

	mu       sync.Mutex
	term     int64
	leased   bool // by its own clock: it ends before the gateway's
	held     map[string]int64
	released map[string]int64
	how      mood
	late     []func() // calls that the network still has
}

// mood is what happens to the calls to a node.
type mood int

const (
	well mood = iota
	deaf      // calls get lost on their way there
	mute      // answers get lost on their way back
	slow      // calls get lost, and arrive later
)

func newFleet(t *testing.T, workers int) *fleet {
	f := &fleet{t: t, db: modelstest.DB(t), holders: map[string]string{}, proxies: map[string]string{}, kinds: map[string]durable{}}
	vault, err := models.NewVault(make([]byte, 32))
	require.NoError(t, err)
	f.vault = vault
	client := embeddedtest.RedisClient(t)
	f.runner = NewRunner(Config{TroubleAfter: 30 * time.Second}, f.db, f.db, client, vault, webhook.NewClient(webhook.ClientConfig{}), monitoring.New("test"), quiet)
	t.Cleanup(f.runner.waker.Close)
	require.NoError(t, models.RenewRunner(t.Context(), f.db.Pool, f.runner.id, "test", 1, time.Hour))
	for _, k := range f.runner.durables() {
		f.kinds[k.kind] = k
	}
	for i := range workers {
		n := &node{fleet: f, id: fmt.Sprintf("w%d", i), held: map[string]int64{}, released: map[string]int64{}}
		server := httptest.NewServer(wire.Server(n, wire.ServerOptions{Logger: quiet}))
		t.Cleanup(server.Close)
		f.workers = append(f.workers, n)
		n.register(server.URL)
	}
	return f
}

func (f *fleet) exec(sql string, args ...any) {
	f.t.Helper()
	_, err := f.db.Pool.Exec(context.Background(), sql, args...)
	require.NoError(f.t, err)
}

// takesHeartbeats makes as if heartbeats could be taken for longer than a lease.
func (f *fleet) takesHeartbeats() {
	require.NoError(f.t, models.Beat(context.Background(), f.db.Pool, time.Minute))
	f.exec(`UPDATE intake SET since = now() - lease`)
}

func (f *fleet) hold(session, worker string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if other := f.holders[session]; other != "" && other != worker {
		f.doubles = append(f.doubles, fmt.Sprintf("%s is held by %s and %s", session, other, worker))
	}
	f.holders[session] = worker
}

// noteProxy remembers by way of what a session is connected, and lets happen what a test wants to happen at this moment.
func (f *fleet) noteProxy(session, proxy string) {
	f.mu.Lock()
	f.proxies[session] = proxy
	meanwhile := f.created
	f.created = nil
	f.mu.Unlock()
	if meanwhile != nil {
		meanwhile()
	}
}

func (f *fleet) leave(session, worker string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.holders[session] == worker {
		delete(f.holders, session)
	}
}

// runJob runs one attempt of a job. Killed means that nobody writes down how it ended.
func (f *fleet) runJob(ctx context.Context, d models.DueJob, killed bool) {
	k := f.kinds[d.Kind]
	if killed {
		k.failed = nil
		run := k.run
		k.run = func(ctx context.Context, j *models.Job) (any, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Duration(d.ID[15])*100*time.Microsecond)
			defer cancel()
			_, _ = run(ctx, j)
			f.exec(`UPDATE jobs SET status = 'QUEUED', runner_id = NULL, run_at = now() WHERE id = $1 AND status = 'RUNNING'`, j.ID)
			return nil, errors.New("killed")
		}
	}
	run := &durables{db: f.db, runner: f.runner.id, log: quiet}
	_ = run.attempt(ctx, k, durableTask{Kind: d.Kind, JobID: d.ID, Attempt: d.Attempt}) // how it ended stands in the row
}

// due lists all open jobs, whatever they wait for.
func (f *fleet) due() []models.DueJob {
	f.exec(`UPDATE jobs SET run_at = now() WHERE status = 'QUEUED'`)
	due, err := models.DueJobs(context.Background(), f.db.Pool, 1000)
	require.NoError(f.t, err)
	return due
}

func (n *node) Credentials() (int64, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.term, n.fleet.vault.WorkerSecret(n.id, n.term)
}

var errLost = errors.New("lost on the network")

// call lets a call through as the network is. Do runs with n locked.
func (n *node) call(do func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch n.how {
	case deaf:
		return errLost
	case slow:
		n.late = append(n.late, func() { _ = do() })
		return errLost
	case mute:
		_ = do()
		return errLost
	}
	return do()
}

func (n *node) Create(_ context.Context, term int64, c wire.CreateSession) (wire.SessionState, error) {
	err := n.call(func() error {
		switch {
		case term != n.term:
			return wire.Refuse(wire.CodeStaleTerm, "")
		case !n.leased:
			return wire.Refuse(wire.CodeLeaseLost, "")
		case c.Epoch <= n.released[c.SessionID] || c.Epoch < n.held[c.SessionID]:
			return wire.Refuse(wire.CodeStaleEpoch, "")
		}
		n.held[c.SessionID] = c.Epoch
		n.fleet.hold(c.SessionID, n.id)
		n.fleet.noteProxy(c.SessionID, c.Proxy)
		return nil
	})
	return wire.SessionState{SessionID: c.SessionID, Epoch: c.Epoch, Status: wire.StatusConnected}, err
}

func (n *node) Release(_ context.Context, session string, epoch int64) error {
	term := n.term
	return n.call(func() error {
		switch {
		case term != n.term:
			return wire.Refuse(wire.CodeStaleTerm, "")
		case n.held[session] > epoch:
			return wire.Refuse(wire.CodeStaleEpoch, "")
		}
		n.released[session] = max(n.released[session], epoch)
		delete(n.held, session)
		n.fleet.leave(session, n.id)
		return nil
	})
}

func (n *node) Health(context.Context) wire.Health { return wire.Health{Term: n.term} }

// lapse ends the lease, first by the node's own clock, then by the gateway's.
func (n *node) lapse(crash bool) {
	n.mu.Lock()
	for session := range n.held {
		n.fleet.leave(session, n.id)
	}
	n.leased, n.held = false, map[string]int64{}
	if crash { // a new process knows nothing
		n.released = map[string]int64{}
	}
	n.mu.Unlock()
	n.fleet.exec(`UPDATE workers SET lease_expires_at = now() - interval '1 ms' WHERE id = $1 AND lease_expires_at > now()`, n.id)
}

// register begins a term if the gateway allows it, as a process that knows no former one.
func (n *node) register(url string) {
	var term int64
	err := n.fleet.db.InPgxTx(context.Background(), func(tx pgx.Tx) (err error) {
		if url == "" {
			if err := tx.QueryRow(context.Background(), `SELECT endpoint FROM workers WHERE id = $1`, n.id).Scan(&url); err != nil {
				return err
			}
		}
		term, err = models.RegisterWorker(context.Background(), tx, wire.Register{WorkerID: n.id, Endpoint: url, MaxSessions: 6, Engine: "simulator"}, time.Hour, false)
		return err
	})
	if err == nil {
		n.mu.Lock()
		n.term, n.leased = term, true
		n.mu.Unlock()
	}
}

// heartbeat renews the lease and lets go of what the answer names.
func (n *node) heartbeat() {
	n.mu.Lock()
	term, leased := n.term, n.leased
	list := []wire.HeldSession{}
	for session, epoch := range n.held {
		list = append(list, wire.HeldSession{SessionID: session, Epoch: epoch})
	}
	n.mu.Unlock()
	if !leased {
		return
	}
	ctx := context.Background()
	current, err := models.RenewLease(ctx, n.fleet.db, n.id, wire.Heartbeat{Status: "online", Term: term}, time.Hour)
	require.NoError(n.fleet.t, err)
	if !current {
		n.lapse(false)
		return
	}
	holding, err := models.CompareHeld(ctx, n.fleet.db, n.id, term, list)
	require.NoError(n.fleet.t, err)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, session := range holding.Drop {
		for _, h := range list {
			if h.SessionID == session && n.held[session] == h.Epoch {
				n.released[session] = max(n.released[session], h.Epoch)
				delete(n.held, session)
				n.fleet.leave(session, n.id)
			}
		}
	}
}

// arrive delivers the calls that the network still has.
func (n *node) arrive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	late := n.late
	n.late = nil
	for _, do := range late {
		do()
	}
}

func (n *node) is(how mood) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.how = how
}

func (f *fleet) sessions(n int) []uuid.UUID {
	user := modelstest.User(f.t, f.db)
	var uids []uuid.UUID
	for i := range n {
		uids = append(uids, modelstest.Session(f.t, f.db, user, fmt.Sprintf("s%d", i)).UID)
	}
	return uids
}
