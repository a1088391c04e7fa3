package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	handover    = 20 * time.Second
	stopsWithin = 30 * time.Second
)

// restartGateway restarts half of each kind, waits until it is ready, and restarts the other half.
func (c *cluster) restartGateway(sessions []string) {
	f := c.startFlow(sessions, fleet.rate, false)
	for i := range 2 {
		half := []string{fmt.Sprintf("api-%d", i), fmt.Sprintf("runner-%d", i), fmt.Sprintf("scheduler-%d", i)}
		took := c.terminate(stopsWithin, half...)
		c.t.Logf("%v stopped in %s", half, round(took))
		for _, name := range half {
			c.again(name)
		}
		for _, name := range half {
			c.eventually(20*time.Second, name+" is ready", func() (bool, string) { return c.healthy(c.procs[name].url) })
		}
		f.more(fleet.rate)
	}
	f.end()
	c.prove(backWithin)
}

// restartWorkers restarts one after the other. Each hands its sessions over before it ends.
func (c *cluster) restartWorkers(sessions []string) {
	f := c.startFlow(sessions, fleet.rate, false)
	for i := range fleetWorkers {
		before := c.node(fmt.Sprintf("w%d", i))
		at := time.Now()
		stopped := c.terminate(handover+stopsWithin, before.ID)
		took := c.elsewhere(at, handover+elsewhereWithin, before.ID)
		c.t.Logf("%s with %d sessions stopped in %s; all connected elsewhere after %s", before.ID, before.Sessions, round(stopped), round(took))
		c.again(before.ID)
		c.online(before)
	}
	f.end()
	c.agreed()
	c.prove(backWithin)
}

func (c *cluster) drain(sessions []string) {
	type resource struct {
		Status       string
		SessionCount int
	}
	victim := c.fullest(1)[0]
	worker := func() (r resource) {
		c.order(http.MethodGet, "/admin/workers/"+victim.ID, nil, &r, http.StatusOK)
		return r
	}
	f := c.startFlow(sessions, fleet.rate, false)
	at := time.Now()
	c.orderedJob("/admin/workers/"+victim.ID+"/drain", nil, handover+elsewhereWithin)
	require.Equal(c.t, resource{"maintenance", 0}, worker())
	took := c.elsewhere(at, handover+elsewhereWithin, victim.ID)
	c.t.Logf("%s with %d sessions drained; all connected elsewhere after %s", victim.ID, victim.Sessions, round(took))
	f.more(fleet.rate / 2)
	f.end()
	c.agreed()
	c.prove(backWithin)
	c.order(http.MethodPatch, "/admin/workers/"+victim.ID, map[string]any{"status": "online"}, nil, http.StatusOK)
	require.Equal(c.t, "online", worker().Status)
}

// move moves a session that sends all the while.
func (c *cluster) move(session string) {
	type migrated struct{ From, To, Reason string }
	from, to := "", ""
	for _, p := range c.mustPlaces() {
		if p.ID == session {
			from = p.Worker
		}
	}
	for i := range fleetWorkers {
		if id := fmt.Sprintf("w%d", i); id != from {
			to = id
		}
	}
	told := len(c.hooks.of("session.migrated", session))
	f := c.startFlow([]string{session}, fleet.rate, false)
	c.orderedJob("/admin/sessions/"+session+"/migrate", map[string]any{"workerId": to}, elsewhereWithin)
	c.elsewhere(time.Now(), elsewhereWithin)
	f.more(fleet.rate / 2)
	f.end()
	c.agreed()
	for _, p := range c.mustPlaces() {
		if p.ID == session {
			require.Equal(c.t, to, p.Worker)
		}
	}
	c.prove(backWithin)
	c.proveEvents(backWithin)
	all := c.hooks.of("session.migrated", session)
	require.Len(c.t, all, told+1, "events before: %d", told)
	var event migrated
	require.NoError(c.t, json.Unmarshal(all[told], &event))
	require.Equal(c.t, migrated{from, to, "admin"}, event)
}
