package main

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
)

// withoutPostgres takes PostgreSQL away for a while. Clients are patient; no session changes hands.
func (c *cluster) withoutPostgres(sessions []string, stop func(), away time.Duration, start func()) {
	type held struct {
		worker string
		epoch  int64
	}
	holders := func() map[string]held {
		all := map[string]held{}
		for _, p := range c.mustPlaces() {
			all[p.ID] = held{p.Worker, p.Epoch}
		}
		return all
	}
	before := holders()
	f := c.startFlow(sessions, fleet.rate, true)
	at := time.Now()
	stop()
	<-time.After(away - time.Since(at))
	start()
	c.db.Pool.Reset() // the connections of the test itself
	back := time.Now()
	f.more(fleet.rate)
	c.t.Logf("away for %s; %d messages accepted within %s of its return", round(back.Sub(at)), fleet.rate, round(time.Since(back)))
	c.eventually(backWithin, "all workers are online", func() (bool, string) {
		all, err := c.nodes()
		for _, n := range all {
			if !n.online() {
				return false, fmt.Sprintf("%+v", n)
			}
		}
		return err == nil && len(all) == fleetWorkers, fmt.Sprint(all, err)
	})
	c.elsewhere(back, backWithin)
	c.t.Logf("all sessions connected %s after its return", round(time.Since(back)))
	f.more(fleet.rate)
	f.end()
	c.prove(backWithin)
	// Time enough for whoever would have taken the silence for the workers' fault.
	<-time.After(fleet.heartbeat)
	require.Equal(c.t, before, holders(), "no session is to change hands, or its epoch")
}
