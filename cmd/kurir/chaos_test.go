package main

import (
	"sync/atomic"
	"testing"
	"time"
)

// afterFault is how long after the end of a fault the last message may come.
const afterFault = 20 * time.Second

// TestChaosNothing is the load without any fault.
func TestChaosNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.subscribe("*")
	sessions := c.linkedSessions(size.sessions)
	started := time.Now()
	accepted := c.send(sessions, size, nil)
	t.Logf("accepted %d messages in %s, %.0f/s", size.messages, accepted, float64(size.messages)/accepted.Seconds())
	c.settled(60 * time.Second)
	took := time.Since(started)
	t.Logf("all read after %s, %.0f/s end to end", took, float64(size.messages)/took.Seconds())
	c.prove(0)
	c.provePictures()
	c.proveEvents(60 * time.Second)
}

// TestChaosFaults flushes Redis twice, kills a runner and takes Redis away in the middle of the load.
func TestChaosFaults(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.subscribe("*")
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
	c.prove(0)
	c.provePictures()
	c.proveEvents(30 * time.Second)
}
