package main

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
)

// killInTurn kills the fullest worker and brings it back, a few times over.
func (c *cluster) killInTurn(sessions []string) {
	var detected, recovered []time.Duration
	for range fleet.kills {
		c.forgive()
		victim := c.fullest(1)[0]
		f := c.startFlow(sessions, fleet.rate, false)
		at := c.kill(victim.ID)
		detected = append(detected, c.lapsed(victim.ID, at))
		recovered = append(recovered, c.elsewhere(at, elsewhereWithin, victim.ID))
		f.end()
		c.prove(backWithin)
		c.again(victim.ID)
		c.online(victim)
		c.t.Logf("%s with %d sessions: noticed after %s, all connected elsewhere after %s",
			victim.ID, victim.Sessions, round(detected[len(detected)-1]), round(recovered[len(recovered)-1]))
	}
	c.t.Logf("noticed: %s; connected elsewhere: %s", spread(detected), spread(recovered))
}

// forgive makes as if the last lapses were long ago: workers that flap are not what is looked at here.
func (c *cluster) forgive() {
	_, err := c.db.Pool.Exec(c.t.Context(), `UPDATE workers SET flaps = 0, lapsed_at = NULL, resting_until = NULL`)
	require.NoError(c.t, err)
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

// spread tells median and worst.
func spread(d []time.Duration) string {
	slices.Sort(d)
	return fmt.Sprintf("median %s, worst %s of %d", round(d[len(d)/2]), round(d[len(d)-1]), len(d))
}

// silence makes a worker silent and returns what ends it.
type silence func(c *cluster, worker string) (end func())

func frozen(c *cluster, worker string) func() {
	c.signal(worker, syscall.SIGSTOP)
	return func() { c.signal(worker, syscall.SIGCONT) }
}

func cutOff(from embeddedtest.Fault) silence {
	return func(c *cluster, worker string) func() {
		c.ways[worker].gateway(from)
		return func() { c.ways[worker].gateway(embeddedtest.None) }
	}
}

// silenced makes as many workers silent as there are ways to be, until their sessions are elsewhere, and longer. What comes back
// believes in old epochs: who was frozen did nothing meanwhile, who was cut off from the gateway went on reaching the network.
func (c *cluster) silenced(sessions []string, within time.Duration, how ...silence) {
	c.forgive()
	victims, lost, ends := c.fullest(len(how)), []string{}, []func(){}
	f := c.startFlow(sessions, fleet.rate, false)
	at := time.Now()
	for i, silent := range how {
		lost = append(lost, victims[i].ID)
		ends = append(ends, silent(c, victims[i].ID))
	}
	took := c.elsewhere(at, within, lost...)
	<-time.After(fleet.silent - time.Since(at))
	waiting, oldest := c.unread()
	back := time.Now()
	for _, end := range ends {
		end()
	}
	c.online(victims...)
	c.t.Logf("%v silent: all connected elsewhere after %s; back after %s, online again %s later; then %d messages were unread, the oldest for %s",
		lost, round(took), round(back.Sub(at)), round(time.Since(back)), waiting, round(oldest))
	f.more(fleet.rate)
	f.end()
	c.agreed()
	c.prove(backWithin)
}

// unread tells how many of the messages accepted so far are not settled yet, and how old the oldest of them is.
func (c *cluster) unread() (n int64, oldest time.Duration) {
	c.t.Helper()
	type waiting struct {
		N      int64
		Oldest float64 // seconds
	}
	list, err := rows[waiting](c, `SELECT count(*), coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8
		FROM messages WHERE direction = 'OUTBOUND' AND status NOT IN ('READ', 'CANCELLED')`)
	require.NoError(c.t, err)
	return list[0].N, time.Duration(list[0].Oldest * float64(time.Second))
}

// killAll replaces every worker by one under another ID: nobody scans a QR code again.
func (c *cluster) killAll(sessions []string) {
	before := c.mustPlaces()
	f := c.startFlow(sessions, fleet.rate, false)
	at := time.Now()
	lost := []string{"w0", "w1", "w2"}
	for _, id := range lost {
		c.kill(id)
	}
	f.more(fleet.rate) // accepted while nobody is there to send them
	for i := range fleetWorkers {
		c.startWorker(c.newSite(fleetWorkers + i))
	}
	took := c.elsewhere(at, backWithin, lost...)
	f.end()
	c.prove(backWithin)

	after := c.mustPlaces()
	require.Len(c.t, after, len(before))
	for i, was := range before {
		is := after[i]
		require.Equal(c.t, was.Phone, is.Phone, was.ID)
		require.Equal(c.t, was.Linked, is.Linked, "%s was linked anew", was.ID)
		require.Greater(c.t, is.Epoch, was.Epoch, was.ID)
	}
	asked, err := rows[count](c, `SELECT type, count(*) FROM events WHERE created_at > $1
		AND (type = 'session.qr' OR type = 'session.status' AND data->>'status' = 'qr_required') GROUP BY 1`, at)
	require.NoError(c.t, err)
	require.Empty(c.t, asked, "a session asked for its QR code to be scanned")
	held := map[string]int{}
	for _, p := range after {
		held[p.Worker]++
	}
	most, least := 0, len(after)
	for i := range fleetWorkers {
		n := held[fmt.Sprintf("w%d", fleetWorkers+i)]
		most, least = max(most, n), min(least, n)
	}
	c.t.Logf("all connected on new workers after %s: %v, %d between most and least", round(took), held, most-least)
}
