package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

// TestRecoveryDrill takes a backup under load, loses every process, PostgreSQL and Redis, and goes on with the backup on another
// PostgreSQL: sessions are back without a QR code, what was accepted before the backup goes on, and nobody gets anything twice, though
// all that waited in the backup had been sent since.
func TestRecoveryDrill(t *testing.T) {
	t.Parallel()
	if !postgresPrograms(t) {
		return
	}
	const rate = 20
	other := embeddedtest.NewPostgres(t) // before the cluster, so that it ends after it
	c := plan{apis: 1, workers: 2, env: []string{"LEASE_TTL=3s", "HEARTBEAT_INTERVAL=1s"}}.start(t)
	c.subscribe("*")
	sessions := c.linkedSessions(6)

	f := c.startFlow(sessions, rate, false)
	c.order(http.MethodPost, "/admin/platform/pause", map[string]string{"reason": "drill"}, nil, http.StatusOK)
	f.more(rate)
	file := filepath.Join(c.dir, "kurir.backup")
	c.kurir([]string{"backup", "--to", file})
	saved := filepath.Join(c.dir, "saved media")
	copyMedia(t, filepath.Join(c.dir, "media"), saved) // after the database
	c.order(http.MethodPost, "/admin/platform/resume", map[string]string{}, nil, http.StatusOK)
	f.more(rate / 2)
	f.end()
	c.settled(backWithin)
	before, witnessed := c.mustPlaces(), c.report()
	require.Zero(t, witnessed.Duplicates+witnessed.Reordered)

	for name, p := range c.procs {
		if p.command != "simnet" { // the world outside
			c.kill(name)
		}
	}
	c.redis.Stop()
	require.NoError(t, os.RemoveAll(filepath.Join(c.dir, "media")))
	lost := time.Now()

	said := c.kurir([]string{"restore", "--from", file, "--hold"}, "DATABASE_URL="+other.URL())
	c.t.Log(said)
	require.NoError(t, os.Rename(saved, filepath.Join(c.dir, "media")))
	c.redis.Start()
	c.env = append(c.env, "DATABASE_URL="+other.URL())
	c.db = modelstest.Open(t, other.URL())
	kept := c.keep()
	for name, p := range c.procs {
		if p.command != "simnet" {
			c.again(name)
		}
	}
	c.elsewhere(lost, backWithin)
	c.t.Logf("all sessions are connected %s after the loss", round(time.Since(lost)))
	require.Equal(t, witnessed.Messages, c.report().Messages, "nothing is sent yet")

	// Tokens are not good any more, keys are.
	status, _, err := c.request(t.Context(), http.MethodGet, c.entries[0]+"/api/v1/users/me", nil, "Authorization", "Bearer "+c.admin)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, status)
	var login struct{ Token string }
	c.call(http.MethodPost, "/auth/login", map[string]any{"email": adminEmail, "password": adminPassword}, &login, http.StatusOK)
	c.admin = login.Token
	c.order(http.MethodPost, "/admin/platform/resume", map[string]string{}, nil, http.StatusOK)

	g := c.startFlow(sessions, rate, false)
	g.end()
	c.finished(backWithin)
	r := c.report()
	t.Logf("simnet: %d messages, %d of them before the loss; %d duplicates, %d reordered, %d double connections, %d deduplicated",
		r.Messages, witnessed.Messages, r.Duplicates, r.Reordered, r.DoubleConnections, r.Deduplicated-witnessed.Deduplicated)
	require.Zero(t, r.Duplicates+r.Reordered+r.DoubleConnections)
	require.GreaterOrEqual(t, r.Deduplicated-witnessed.Deduplicated, int64(kept/2), "what waited in the backup goes out again under its ID")

	c.sameSessions(before, lost)
	c.told(backWithin)
	c.billed(backWithin)
}

// copyMedia copies what is whole, as docs/backup.md says.
func copyMedia(t *testing.T, from, to string) {
	t.Helper()
	list, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, user := range list {
		if user.Name() != "tmp" {
			require.NoError(t, os.CopyFS(filepath.Join(to, user.Name()), os.DirFS(filepath.Join(from, user.Name()))))
		}
	}
}

// keep forgets the messages that the database does not know: those accepted after the backup. It says how many waited in it.
func (c *cluster) keep() (waiting int) {
	c.t.Helper()
	list, err := rows[count](c, `SELECT id::text, CASE WHEN status IN ('PENDING', 'SENDING') THEN 1 ELSE 0 END FROM messages WHERE direction = 'OUTBOUND'`)
	require.NoError(c.t, err)
	known := map[string]bool{}
	for _, m := range list {
		known[m.Name] = true
		waiting += int(m.N)
	}
	all := c.sendings()
	c.accepted = slices.DeleteFunc(c.accepted, func(m accepted) bool { return !known[m.id] })
	c.t.Logf("%d messages were accepted, %d of them before the backup; %d of these waited in it", all, c.sendings(), waiting)
	require.Len(c.t, list, c.sendings(), "and no other")
	require.Positive(c.t, waiting)
	require.Greater(c.t, all, c.sendings())
	return waiting
}

// finished waits until every message is sent. Receipts that came in the time that was lost don't come again, and one that was
// cancelled after the backup may go out.
func (c *cluster) finished(within time.Duration) {
	c.t.Helper()
	c.eventually(within, "every message is sent, or was cancelled", func() (bool, string) {
		states, err := rows[count](c, `SELECT status, count(*) FROM messages WHERE direction = 'OUTBOUND' GROUP BY 1 ORDER BY 1`)
		open := slices.ContainsFunc(states, func(s count) bool { return s.Name == "PENDING" || s.Name == "SENDING" })
		lost := slices.ContainsFunc(states, func(s count) bool {
			return !slices.Contains([]string{"PENDING", "SENDING", "SENT", "DELIVERED", "READ", "CANCELLED"}, s.Name)
		})
		require.False(c.t, lost, "%v", states)
		return err == nil && !open, fmt.Sprint(states, err)
	})
}

// sameSessions checks that nobody had to scan anything.
func (c *cluster) sameSessions(before []place, since time.Time) {
	c.t.Helper()
	after := c.mustPlaces()
	require.Len(c.t, after, len(before))
	for i, was := range before {
		is := after[i]
		require.Equal(c.t, []any{was.UID, was.Phone, was.Linked.UTC()}, []any{is.UID, is.Phone, is.Linked.UTC()}, was.ID)
		require.GreaterOrEqual(c.t, is.Epoch, was.Epoch+1_000_000, was.ID)
	}
	asked, err := rows[count](c, `SELECT type, count(*) FROM events WHERE created_at > $1
		AND (type = 'session.qr' OR type = 'session.status' AND data->>'status' = 'qr_required') GROUP BY 1`, since)
	require.NoError(c.t, err)
	require.Empty(c.t, asked, "a session asked for its QR code to be scanned")
}

// told waits until subscribers have heard of each message that it was sent, and checks that no sequence stood for two events.
func (c *cluster) told(within time.Duration) {
	c.t.Helper()
	list, err := rows[count](c, `SELECT id::text, 1 FROM messages WHERE direction = 'OUTBOUND' AND sent_at IS NOT NULL`)
	require.NoError(c.t, err)
	c.eventually(within, "subscribers know of each message that it was sent", func() (bool, string) {
		c.hooks.mu.Lock()
		defer c.hooks.mu.Unlock()
		for _, m := range list {
			for _, ofAccount := range []bool{false, true} {
				if c.hooks.told[telling{ofAccount, "message.sent", m.Name}] == 0 {
					return false, fmt.Sprintf("nothing of %s (account: %t)", m.Name, ofAccount)
				}
			}
		}
		return true, ""
	})
	c.hooks.mu.Lock()
	defer c.hooks.mu.Unlock()
	require.Empty(c.t, c.hooks.bad)
	for hook, heard := range c.hooks.seen {
		jumped := false
		for sequence := range heard {
			jumped = jumped || sequence > 1_000_000
		}
		require.True(c.t, jumped, "%s goes on behind what it may have heard", hook)
	}
}

// billed waits until usage has each message that went out, once.
func (c *cluster) billed(within time.Duration) {
	c.t.Helper()
	want := modelstest.Scalar[int64](c.t, c.db, `SELECT count(*) FROM messages WHERE direction = 'OUTBOUND' AND sent_at IS NOT NULL`)
	c.eventually(within, "usage has every message, once", func() (bool, string) {
		var usage struct{ Totals struct{ Messages int64 } }
		c.call(http.MethodGet, "/users/me/usage?month="+time.Now().UTC().Format("2006-01"), nil, &usage, http.StatusOK)
		return usage.Totals.Messages == want, fmt.Sprintf("%+v, want %d", usage, want)
	})
}
