package main

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"kurir/embedded/embeddedtest"
)

// TestChaosWorkers takes workers away in all the ways in which they go, under load: their sessions are connected elsewhere,
// and nothing is lost, doubled or overtaken.
func TestChaosWorkers(t *testing.T) {
	t.Parallel()
	c, sessions := fleet.start(t, plan{cuttable: true})
	c.step("one is killed", func() { c.killInTurn(sessions) })
	full := len(fleet.cuts) > 1
	even := func() {
		if full { // in the small form there is no time for it
			c.even(sessions)
		}
	}
	for _, cut := range fleet.cuts {
		if full {
			even()
			c.step("one is frozen", func() { c.silenced(sessions, elsewhereWithin, frozen) })
			even()
			c.step("one is cut off from the gateway", func() { c.silenced(sessions, elsewhereWithin, cutOff(cut.gateway)) })
		}
		even()
		c.step("one is frozen and one cut off from the gateway", func() { c.silenced(sessions, backWithin, frozen, cutOff(cut.gateway)) })
		even()
		c.step("one is cut off from the network", func() { c.cutFromNetwork(sessions, cut.network) })
		c.step("one dies before it is heard", func() { c.dieUnheard(sessions, cut.loss) })
	}
	c.step("all are killed", func() { c.killAll(sessions) })
	c.provePictures()
	c.proveEvents(backWithin)
}

// TestChaosGateway restarts everything in turn, empties a worker, moves a session and takes PostgreSQL away, under load:
// calls do not fail but for want of PostgreSQL, no session changes hands that nobody moves, and nothing is lost.
func TestChaosGateway(t *testing.T) {
	t.Parallel()
	pg := embeddedtest.NewPostgres(t)
	c, sessions := fleet.start(t, plan{postgres: pg, balanced: true, env: []string{"WORKER_HANDOVER=" + handover.String()}})
	c.step("api, runner and scheduler restart", func() { c.restartGateway(sessions) })
	c.step("workers restart", func() { c.restartWorkers(sessions) })
	c.step("a worker is drained", func() { c.drain(sessions) })
	c.step("a session is moved", func() { c.move(sessions[0]) })
	c.step("PostgreSQL crashes", func() { c.withoutPostgres(sessions, pg.Crash, 0, pg.Start) })
	c.step("PostgreSQL is away", func() { c.withoutPostgres(sessions, pg.Stop, fleet.postgresAway, pg.Start) })
	c.provePictures()
	c.proveEvents(backWithin)
	for i := range fleetWorkers {
		c.kill(fmt.Sprintf("w%d", i)) // the last one would wait in vain for somebody to take over
	}
}

// fleetSize is the size of the tests in which workers come and go.
type fleetSize struct {
	sessions, rate int // messages a second
	lease          time.Duration
	heartbeat      time.Duration
	kills          int           // of one worker, in turn
	silent         time.Duration // of workers that are frozen or cut off from the gateway
	postgresAway   time.Duration // longer than the lease
	trouble        time.Duration // NETWORK_TROUBLE_AFTER
	cuts           []cuts
	shutdownDelay  time.Duration
}

// cuts are what is wrong with the ways of the workers that are cut off, from the gateway and from the network, and what is lost
// between gateway and a worker that dies.
type cuts struct{ gateway, network, loss embeddedtest.Fault }

// Bounds of the product, from DESIGN sections 6 and 11.
const (
	elsewhereWithin = 20 * time.Second // one worker's end to the connection of its last session elsewhere
	backWithin      = 30 * time.Second // the end of a fault to the return of what it took away, or the loss of several workers to that of their sessions
)

const fleetWorkers = 3

// start starts a cluster of workers for sessions that may all end up on one of them.
func (f fleetSize) start(t *testing.T, p plan) (*cluster, []string) {
	t.Helper()
	p.workers = fleetWorkers
	p.env = append(p.env, "LEASE_TTL="+f.lease.String(), "HEARTBEAT_INTERVAL="+f.heartbeat.String(),
		"NETWORK_TROUBLE_AFTER="+f.trouble.String(), "SHUTDOWN_DELAY="+f.shutdownDelay.String())
	c := p.start(t)
	c.subscribe("session.status", "session.migrated", "message.read", "message.cancelled") // all of them would take half as much work again
	return c, c.linkedSessions(f.sessions)
}

// node is a worker as the table has it.
type node struct {
	ID, Status string
	Live       bool // its lease
	Term       int64
	Lapsed     *time.Time // when its lease lapsed last
	Sessions   int64
}

func (n node) online() bool { return n.Status == "ONLINE" && n.Live }

func (c *cluster) nodes() ([]node, error) {
	return rows[node](c, `SELECT w.id, w.status, w.lease_expires_at > now(), w.term, w.lapsed_at,
		(SELECT count(*) FROM sessions s WHERE s.worker_id = w.id) FROM workers w ORDER BY w.id`)
}

func (c *cluster) node(id string) node {
	c.t.Helper()
	all, err := c.nodes()
	require.NoError(c.t, err)
	for _, n := range all {
		if n.ID == id {
			return n
		}
	}
	c.t.Fatalf("there is no worker %s in %v", id, all)
	return node{}
}

// fullest are the n workers with the most sessions, each with some.
func (c *cluster) fullest(n int) []node {
	c.t.Helper()
	all, err := c.nodes()
	require.NoError(c.t, err)
	busy := slices.DeleteFunc(slices.Clone(all), func(n node) bool { return !n.online() || n.Sessions == 0 })
	require.GreaterOrEqual(c.t, len(busy), n, "workers with sessions, of %v", all)
	slices.SortStableFunc(busy, func(a, b node) int { return int(b.Sessions - a.Sessions) })
	return busy[:n]
}

// even has the administrator move sessions until the workers hold equal shares.
func (c *cluster) even(sessions []string) {
	c.t.Helper()
	var group errgroup.Group
	group.SetLimit(8)
	for i, p := range c.mustPlaces() {
		to := fmt.Sprintf("w%d", i%fleetWorkers)
		if p.Worker == to {
			continue
		}
		group.Go(func() error {
			status, data, err := c.request(c.t.Context(), http.MethodPost, c.entries[0]+"/api/v1/admin/sessions/"+p.ID+"/migrate",
				map[string]any{"workerId": to}, "Authorization", "Bearer "+c.admin)
			if err == nil && status != http.StatusAccepted {
				err = fmt.Errorf("move %s: %d %s", p.ID, status, data)
			}
			return err
		})
	}
	require.NoError(c.t, group.Wait())
	c.eventually(backWithin, "the workers hold equal shares", func() (bool, string) {
		all, err := c.nodes()
		for _, n := range all {
			if n.Sessions != int64(len(sessions)/fleetWorkers) {
				return false, fmt.Sprint(all)
			}
		}
		return err == nil, fmt.Sprint(err)
	})
	c.elsewhere(time.Now(), backWithin)
}

// online waits until workers are back, under terms after those that they had.
func (c *cluster) online(before ...node) {
	c.t.Helper()
	for _, was := range before {
		c.eventually(backWithin, was.ID+" is online under a new term", func() (bool, string) {
			n := c.node(was.ID)
			return n.online() && n.Term > was.Term, fmt.Sprintf("%+v, term before: %d", n, was.Term)
		})
	}
}

// lapsed waits until the gateway has given up on a worker and returns how long that took.
func (c *cluster) lapsed(id string, since time.Time) time.Duration {
	c.t.Helper()
	var at time.Time
	c.eventually(elsewhereWithin, "the end of "+id+" is noticed", func() (bool, string) {
		n := c.node(id)
		if n.Lapsed != nil {
			at = *n.Lapsed
		}
		return n.Status == "OFFLINE" && at.After(since), fmt.Sprintf("%+v", n)
	})
	return at.Sub(since)
}

// place is where a session is, as the table has it.
type place struct {
	UID, ID, Worker string
	Epoch           int64
	Status, Reason  string
	Phone           string
	Linked          *time.Time
}

func (c *cluster) places() ([]place, error) {
	return rows[place](c, `SELECT uid::text, id, coalesce(worker_id, ''), epoch, status, coalesce(reason, ''), coalesce(phone_number, ''), linked_at
		FROM sessions ORDER BY id`)
}

// mustPlaces is places while PostgreSQL answers.
func (c *cluster) mustPlaces() []place {
	c.t.Helper()
	all, err := c.places()
	require.NoError(c.t, err)
	return all
}

// elsewhere waits until every session is connected on a worker that is none of these, and returns how long after since
// that was. The network has to agree about who holds what.
func (c *cluster) elsewhere(since time.Time, within time.Duration, lost ...string) time.Duration {
	c.t.Helper()
	gone := map[string]bool{"": true}
	for _, id := range lost {
		gone[id] = true
	}
	var took time.Duration
	c.eventually(within-time.Since(since), fmt.Sprintf("all sessions are connected, and none on %v", lost), func() (bool, string) {
		all, err := c.places()
		if err != nil {
			return false, err.Error()
		}
		for _, p := range all {
			if p.Status != "CONNECTED" || gone[p.Worker] {
				return false, fmt.Sprintf("%+v", p)
			}
		}
		took = time.Since(since)
		return true, ""
	})
	c.agreed()
	return took
}

// agreed waits until the network sees each session connected where the table has it, under the same epoch.
func (c *cluster) agreed() {
	c.t.Helper()
	c.eventually(backWithin, "table and network agree about who holds what", func() (bool, string) {
		seen := c.report().PerSession
		for _, p := range c.mustPlaces() {
			if s := seen[p.UID]; p.Status != "CONNECTED" || s.ConnectedTo != p.Worker || s.Epoch != p.Epoch {
				return false, fmt.Sprintf("table: %+v; network: %+v", p, s)
			}
		}
		return true, ""
	})
}
