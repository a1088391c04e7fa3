package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/worker/simulator/simnet"
)

// rows reads what a query finds. Unlike modelstest it returns errors, for tests that take PostgreSQL away.
func rows[T any](c *cluster, query string, args ...any) ([]T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found, err := c.db.Pool.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(found, pgx.RowToStructByPos[T])
}

type count struct {
	Name string
	N    int64
}

// everything is what was accepted so far.
func (c *cluster) everything() []accepted {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.accepted)
}

// settled waits until every message that was accepted is READ, or CANCELLED where the API said so, and there is no other.
func (c *cluster) settled(within time.Duration) {
	c.t.Helper()
	all := c.everything()
	ids, cancelled := make([]string, len(all)), make([]bool, len(all))
	for i, m := range all {
		ids[i], cancelled[i] = m.id, m.cancelled
	}
	const asTold = "as told"
	c.eventually(within, "every message is READ, or CANCELLED where the API said so", func() (bool, string) {
		// One row for each accepted ID: a message of ours that was never answered would be one too many.
		states, err := rows[count](c, `SELECT CASE WHEN m.status = CASE WHEN a.cancelled THEN 'CANCELLED' ELSE 'READ' END THEN $3
				ELSE coalesce(m.status, 'LOST') || CASE WHEN a.cancelled THEN ', and said to be cancelled' ELSE '' END END, count(*)
			FROM unnest($1::uuid[], $2::bool[]) AS a (id, cancelled)
			FULL JOIN (SELECT id, status FROM messages WHERE direction = 'OUTBOUND') m ON m.id = a.id GROUP BY 1 ORDER BY 1`, ids, cancelled, asTold)
		return err == nil && len(states) == 1 && states[0] == count{asTold, int64(len(all))}, fmt.Sprint(states, err)
	})
}

// prove waits until every accepted message is settled and asks the network what the phones saw since the cluster began.
func (c *cluster) prove(within time.Duration) {
	t := c.t
	t.Helper()
	c.settled(within)
	r := c.report()
	shown := 0
	for _, m := range c.everything() {
		if !m.cancelled {
			shown++
		}
	}
	t.Logf("simnet: %d messages, %d duplicates, %d reordered, %d double connections, %d deduplicated; %d were cancelled",
		r.Messages, r.Duplicates, r.Reordered, r.DoubleConnections, r.Deduplicated, c.sendings()-shown)
	require.EqualValues(t, shown, r.Messages)
	require.Zero(t, r.Duplicates, "duplicates")
	require.Zero(t, r.Reordered, "reordered")
	require.Zero(t, r.DoubleConnections, "double connections")
}

// provePictures looks at the phones of the people, which show each picture that was sent to them as it was.
func (c *cluster) provePictures() {
	t := c.t
	t.Helper()
	want, seen := map[string]string{}, map[string]string{}
	for _, m := range c.everything() {
		if m.sha256 != "" {
			want[m.id] = m.sha256
		}
	}
	for i := range people {
		res, err := c.http.Get(c.simnet + "/phones/" + personOf(i) + "/messages")
		require.NoError(t, err)
		var screen simnet.PhoneScreen
		err = json.NewDecoder(res.Body).Decode(&screen)
		_ = res.Body.Close()
		require.NoError(t, err)
		for _, m := range screen.Messages {
			if m.Medium != nil {
				seen[m.MessageID] = m.Medium.SHA256
			}
		}
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, seen)
	t.Logf("phones: %d pictures", len(seen))
}

// proveEvents waits until the subscriber has been told everything, and checks that it was told of each message what it must
// be, once, by the webhook of its session and by that of the account, if there is one.
func (c *cluster) proveEvents(within time.Duration) {
	t := c.t
	t.Helper()
	accounts := []bool{false}
	c.eventually(within, "the subscriber has every event", func() (bool, string) {
		list, err := rows[count](c, `SELECT coalesce(s.id, $1), l.next_seq FROM webhooks w
			LEFT JOIN sessions s ON s.uid = w.session_uid JOIN lanes l ON l.id = w.id`, account)
		if err != nil {
			return false, err.Error()
		}
		want := map[string]int64{}
		for _, webhook := range list {
			want[webhook.Name] = webhook.N
		}
		if want[account] > 0 {
			accounts = []bool{false, true}
		}
		return c.hooks.complete(want)
	})
	all := c.everything()
	c.hooks.mu.Lock()
	defer c.hooks.mu.Unlock()
	require.Empty(t, c.hooks.bad, "refused by the subscriber")
	var wrong []string
	for _, m := range all {
		for _, account := range accounts {
			for _, event := range []string{"message.sent", "message.delivered", "message.read", "message.cancelled"} {
				want := 0
				if heard := !account || slices.Contains(c.subscribed, "*") || slices.Contains(c.subscribed, event); heard && m.cancelled == (event == "message.cancelled") {
					want = 1
				}
				if told := c.hooks.told[telling{account, event, m.id}]; told != want {
					wrong = append(wrong, fmt.Sprintf("%s: %s came %d times, not %d (account: %t)", m.id, event, told, want, account))
				}
			}
		}
	}
	require.Empty(t, wrong[:min(len(wrong), mostFailed)], "of %d", len(wrong))
}
