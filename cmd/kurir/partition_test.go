package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
)

// ways are the ways between a worker and the others, which a test can cut.
type ways struct{ toGateway, toWorker, toNetwork *embeddedtest.Proxy }

func newWays(t *testing.T, gateway, worker, network string) *ways {
	t.Helper()
	to := func(url string) *embeddedtest.Proxy {
		return embeddedtest.NewProxy(t, strings.TrimPrefix(url, "http://"))
	}
	return &ways{toGateway: to(gateway), toWorker: to(worker), toNetwork: to(network)}
}

// gateway sets a fault on both ways between worker and gateway.
func (w *ways) gateway(f embeddedtest.Fault) {
	w.toGateway.Set(f)
	w.toWorker.Set(f)
}

// cutFromNetwork leaves a worker its gateway: its lease lives on, and its sessions are moved when they have been without a
// network for too long.
func (c *cluster) cutFromNetwork(sessions []string, cut embeddedtest.Fault) {
	const noticed = 15 * time.Second // for which a silent network is waited for
	victim := c.fullest(1)[0]
	f := c.startFlow(sessions, fleet.rate, false)
	at := time.Now()
	c.ways[victim.ID].toNetwork.Set(cut)
	took := c.elsewhere(at, noticed+fleet.trouble+elsewhereWithin, victim.ID)
	c.t.Logf("%s with %d sessions cut off: all connected elsewhere after %s", victim.ID, victim.Sessions, round(took))
	require.Greater(c.t, took, fleet.trouble, "sessions are not to be moved for a hiccup of the network")
	now := c.node(victim.ID)
	require.True(c.t, now.online(), "%+v", now)
	require.Equal(c.t, victim.Term, now.Term, "it had its lease all the time")
	c.ways[victim.ID].toNetwork.Set(embeddedtest.None)
	f.more(fleet.rate)
	f.end()
	c.agreed()
	c.prove(backWithin)
}

const injectedEach = 3 // messages to a session

// dieUnheard has people write to the sessions of a worker, loses what it tells the gateway of that or what the gateway
// answers, and kills it: the subscriber hears of each message once, from whoever gets the session.
func (c *cluster) dieUnheard(sessions []string, loss embeddedtest.Fault) {
	victim := c.fullest(1)[0]
	way := c.ways[victim.ID].toGateway
	way.Set(loss)
	written := map[string]string{} // public name of the session by WhatsApp ID
	for _, p := range c.mustPlaces() {
		for i := range injectedEach {
			if p.Worker == victim.ID {
				id := fmt.Sprintf("3A%s%d%d", strings.ToUpper(p.UID[24:]), loss, i)
				written[id] = p.ID
				c.inject(p.UID, id)
			}
		}
	}
	c.eventually(fleet.lease, "a message is passed on, in vain", func() (bool, string) {
		said, stored := bytes.Contains(way.Swallowed(), []byte(greeting)), len(c.stored(written))
		return said || stored > 0, fmt.Sprintf("lost: %t, stored: %d", said, stored)
	})
	stored := len(c.stored(written))
	f := c.startFlow(sessions, fleet.rate, false)
	at := c.kill(victim.ID)
	took := c.elsewhere(at, elsewhereWithin, victim.ID)
	f.end()
	c.prove(backWithin)
	c.heardOnce(written)
	c.t.Logf("%s killed when %d of %d messages were stored: all connected elsewhere after %s, each message heard once",
		victim.ID, stored, len(written), round(took))
	way.Set(embeddedtest.None)
	c.again(victim.ID)
	c.online(victim)
}

// stored counts the rows of these inbound messages, by WhatsApp ID.
func (c *cluster) stored(written map[string]string) map[string]int64 {
	c.t.Helper()
	list, err := rows[count](c, `SELECT whatsapp_id, count(*) FROM messages WHERE whatsapp_id = ANY($1) GROUP BY 1`, slices.Collect(maps.Keys(written)))
	require.NoError(c.t, err)
	found := map[string]int64{}
	for _, m := range list {
		found[m.Name] = m.N
	}
	return found
}

// heard counts what the subscriber was told of messages to these sessions, by WhatsApp ID.
func (c *cluster) heard(written map[string]string) map[string]int64 {
	c.t.Helper()
	found := map[string]int64{}
	asked := map[string]bool{}
	for _, session := range written {
		if asked[session] {
			continue
		}
		asked[session] = true
		for _, data := range c.hooks.of("message.received", session) {
			var m struct{ WhatsappID string }
			require.NoError(c.t, json.Unmarshal(data, &m))
			if written[m.WhatsappID] == session {
				found[m.WhatsappID]++
			}
		}
	}
	return found
}

// heardOnce waits until the subscriber has heard of each message and the network is told so, and checks that it has, and
// the table holds it, once.
func (c *cluster) heardOnce(written map[string]string) {
	c.t.Helper()
	once := map[string]int64{}
	for id := range written {
		once[id] = 1
	}
	c.eventually(backWithin, "the subscriber has heard of each message", func() (bool, string) {
		n := len(c.heard(written))
		return n == len(written), fmt.Sprintf("%d of %d", n, len(written))
	})
	c.eventually(backWithin, "the network is told that all messages are stored", func() (bool, string) {
		for uid, s := range c.report().PerSession {
			if s.Unacknowledged > 0 {
				return false, fmt.Sprintf("%s: %+v", uid, s)
			}
		}
		return true, ""
	})
	require.Equal(c.t, once, c.heard(written))
	require.Equal(c.t, once, c.stored(written))
}
