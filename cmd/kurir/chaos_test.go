package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

// load is how much a whole-program test sends, and how long Redis is away.
type load struct {
	sessions, messages, clients int
	redisAway                   time.Duration
}

// afterFault is how long after the end of a fault the last message may come.
const afterFault = 20 * time.Second

// TestChaosNothing is the load without any fault.
func TestChaosNothing(t *testing.T) {
	c := newCluster(t)
	sessions := c.linkedSessions(size.sessions)
	started := time.Now()
	accepted := c.send(sessions, size, nil)
	t.Logf("accepted %d messages in %s, %.0f/s", size.messages, accepted, float64(size.messages)/accepted.Seconds())
	c.settled(60 * time.Second)
	took := time.Since(started)
	t.Logf("all read after %s, %.0f/s end to end", took, float64(size.messages)/took.Seconds())
	c.proveDelivery(60 * time.Second)
}

// TestChaosFaults flushes Redis twice, kills a runner and takes Redis away in the middle of the load.
func TestChaosFaults(t *testing.T) {
	c := newCluster(t)
	sessions := c.linkedSessions(size.sessions)
	var faultEnd atomic.Int64
	c.send(sessions, size, map[int]func(){
		1: c.redis.FlushAll,
		2: func() { c.kill("runner-0") },
		3: c.redis.FlushAll,
		4: func() {
			c.redis.Stop()
			<-time.After(size.redisAway)
			c.redis.Start()
			faultEnd.Store(time.Now().UnixNano())
		},
	})
	end := time.Unix(0, faultEnd.Load())
	c.settled(time.Until(end.Add(afterFault)) + time.Second)
	t.Logf("last message read %s after the fault ended", time.Since(end).Round(time.Millisecond))
	c.proveDelivery(30 * time.Second)
}

// send has many clients send at once, over both API processes, and runs each fault when that many fifths are accepted.
// Where there are faults, a call that
// fails is repeated under its Idempotency-Key, as a client would. It returns how long the clients took.
func (c *cluster) send(sessions []string, l load, faults map[int]func()) time.Duration {
	c.t.Helper()
	var next, accepted atomic.Int64
	var group, faulting sync.WaitGroup
	started := time.Now()
	for client := range l.clients {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= l.messages {
					return
				}
				session := sessions[i%len(sessions)]
				body := map[string]any{"to": fmt.Sprintf("62812000%05d", 11111+i/len(sessions)%3), "message": fmt.Sprintf("message %d", i)}
				key := ""
				if faults != nil {
					key = fmt.Sprintf("key-%d", i)
				}
				c.sendOne(c.apis[client%2]+"/api/v1/sessions/"+session+"/send", body, key)
				done := int(accepted.Add(1))
				if done*5%l.messages == 0 {
					if fault := faults[done*5/l.messages]; fault != nil {
						faulting.Go(fault)
					}
				}
			}
		})
	}
	group.Wait()
	took := time.Since(started)
	faulting.Wait()
	return took
}

func (c *cluster) sendOne(url string, body any, key string) {
	for try := 0; ; try++ {
		status, data, err := c.request(context.Background(), http.MethodPost, url, body, "Idempotency-Key", key)
		switch {
		case key == "" && (err != nil || status != http.StatusAccepted):
			c.t.Errorf("send: %d %s %v", status, data, err)
			return
		case err == nil && status == http.StatusAccepted:
			return
		case try == 50 || err == nil && status < 500 && status != http.StatusConflict && status != http.StatusTooManyRequests:
			c.t.Errorf("send: %d %s %v", status, data, err)
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}

// settled waits until every message is read.
func (c *cluster) settled(within time.Duration) {
	c.t.Helper()
	c.eventually(within, "every message is READ", func() (bool, string) {
		states := modelstest.Scalar[string](c.t, c.db, `SELECT coalesce(string_agg(status || ' ' || n, ', '), '') FROM (SELECT status, count(*) AS n FROM messages GROUP BY 1) s`)
		return states == fmt.Sprintf("READ %d", size.messages), states
	})
}

// proveDelivery asks the witnesses: the network what the phones saw, the subscriber what it was told.
func (c *cluster) proveDelivery(within time.Duration) {
	t := c.t
	t.Helper()
	total := modelstest.Scalar[int64](t, c.db, `SELECT count(*) FROM messages`)
	require.EqualValues(t, size.messages, total, "one row for each Idempotency-Key")
	r := c.report()
	t.Logf("simnet: %d messages, %d duplicates, %d reordered, %d double connections", r.Messages, r.Duplicates, r.Reordered, r.DoubleConnections)
	require.EqualValues(t, size.messages, r.Messages)
	require.Zero(t, r.Duplicates, "duplicates")
	require.Zero(t, r.Reordered, "reordered")
	require.Zero(t, r.DoubleConnections, "double connections")

	want := map[string]int64{}
	rows, err := c.db.Pool.Query(t.Context(), `SELECT s.id, l.next_seq FROM webhooks w JOIN sessions s ON s.uid = w.session_uid JOIN lanes l ON l.id = w.id`)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var session string
		var next int64
		require.NoError(t, rows.Scan(&session, &next))
		want[session] = next
	}
	require.NoError(t, rows.Err())
	c.eventually(within, "the subscriber has every event", func() (bool, string) { return c.hooks.complete(want) })
	c.hooks.mu.Lock()
	defer c.hooks.mu.Unlock()
	require.Empty(t, c.hooks.bad, "refused by the subscriber")
	for _, event := range []string{"message.sent", "message.delivered", "message.read"} {
		require.Equal(t, size.messages, c.hooks.events[event], event)
	}
}
