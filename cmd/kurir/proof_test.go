package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
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

// settled waits until every message that was accepted is READ, and there is no other.
func (c *cluster) settled(within time.Duration) {
	c.t.Helper()
	c.mu.Lock()
	ids := append([]string(nil), c.accepted...)
	c.mu.Unlock()
	c.eventually(within, "every message is READ", func() (bool, string) {
		// One row for each accepted ID: a message of ours that was never answered would be one too many.
		states, err := rows[count](c, `SELECT coalesce(m.status, 'LOST'), count(*) FROM unnest($1::uuid[]) AS a (id)
			FULL JOIN (SELECT id, status FROM messages WHERE direction = 'OUTBOUND') m ON m.id = a.id GROUP BY 1 ORDER BY 1`, ids)
		return err == nil && len(states) == 1 && states[0] == count{"READ", int64(len(ids))}, fmt.Sprint(states, err)
	})
}

// prove waits until every accepted message is READ and asks the network what the phones saw since the cluster began.
func (c *cluster) prove(within time.Duration) {
	t := c.t
	t.Helper()
	c.settled(within)
	r := c.report()
	t.Logf("simnet: %d messages, %d duplicates, %d reordered, %d double connections, %d deduplicated",
		r.Messages, r.Duplicates, r.Reordered, r.DoubleConnections, r.Deduplicated)
	require.EqualValues(t, c.sendings(), r.Messages)
	require.Zero(t, r.Duplicates, "duplicates")
	require.Zero(t, r.Reordered, "reordered")
	require.Zero(t, r.DoubleConnections, "double connections")
}

// proveEvents waits until the subscriber has been told everything, and checks that it was told of each message once.
func (c *cluster) proveEvents(within time.Duration) {
	t := c.t
	t.Helper()
	c.eventually(within, "the subscriber has every event", func() (bool, string) {
		list, err := rows[count](c, `SELECT s.id, l.next_seq FROM webhooks w JOIN sessions s ON s.uid = w.session_uid JOIN lanes l ON l.id = w.id`)
		if err != nil {
			return false, err.Error()
		}
		want := map[string]int64{}
		for _, webhook := range list {
			want[webhook.Name] = webhook.N
		}
		return c.hooks.complete(want)
	})
	c.hooks.mu.Lock()
	defer c.hooks.mu.Unlock()
	require.Empty(t, c.hooks.bad, "refused by the subscriber")
	for _, event := range []string{"message.sent", "message.delivered", "message.read"} {
		require.Equal(t, c.sendings(), c.hooks.events[event], event)
	}
}
