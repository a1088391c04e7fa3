package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// leaving ends Run and returns how long that took.
func (b *bench) leaving() time.Duration {
	began := time.Now()
	b.stop()
	return time.Since(began)
}

// handing lets the node hand over for at most a minute.
func handing(handOver func(wire.Heartbeat) bool) func(*gateway, *engine, *Config) {
	return func(g *gateway, _ *engine, c *Config) {
		c.HandOver = time.Minute
		g.handOver = handOver
	}
}

func holdsSessions(h wire.Heartbeat) bool { return len(h.Sessions) > 0 }

func TestHandsItsSessionsOver(t *testing.T) {
	onBench(t, handing(holdsSessions), func(b *bench) {
		c1, c2 := b.hold("s1", 1), b.hold("s2", 1)
		b.pass(time.Second) // between two heartbeats
		b.g.forget()
		var first []wire.Heartbeat
		go func() { // the gateway
			time.Sleep(time.Millisecond)
			first = b.g.beaten()
			_, err := b.create("s3", 1)
			b.refusedWith(wire.CodeFull, err)
			_, err = b.create("s1", 2)
			b.refusedWith(wire.CodeFull, err)
			st, err := b.create("s1", 1)
			require.NoError(b, err, "the answer to an earlier create may have been lost")
			require.Equal(b, wire.StatusConnected, st.Status)
			require.Equal(b, "draining", b.n.Health(b.Context()).Status)

			time.Sleep(20 * time.Second) // longer than a lease
			require.NoError(b, b.n.Release(b.Context(), "s1", 1))
			_, err = b.n.Send(b.Context(), "s2", message("A", 1, 1))
			require.NoError(b, err, "what has not moved yet goes on")
			c2.receive("M00000", nil)
			time.Sleep(20 * time.Second)
			require.NoError(b, b.n.Release(b.Context(), "s2", 1))
		}()
		took := b.leaving()
		require.Len(b, first, 1, "the gateway hears of it at once")
		require.Equal(b, wire.HeartbeatMaintenance, first[0].Status)
		require.Len(b, first[0].Sessions, 2)
		require.InDelta(b, 40*time.Second, took, float64(time.Second))
		require.True(b, c1.closed())
		require.Equal(b, ids(0, 1), received(b.T, b.g.stored[1:2]))
		require.Equal(b, wire.HeartbeatOffline, b.g.lastBeat().Status)
		require.Contains(b, b.log.String(), "handedOver=2 remaining=0 took=40")
	})
}

func TestHandOverEnds(t *testing.T) {
	for _, c := range []struct {
		name     string
		prepare  func(*bench)
		handOver func(wire.Heartbeat) bool
		took     time.Duration
		because  string
		offline  bool
	}{
		{name: "at once if the gateway moves nothing", took: 0, because: "the gateway moves no more sessions", offline: true},
		{name: "when it stops moving", handOver: func() func(wire.Heartbeat) bool {
			beats := 0
			return func(wire.Heartbeat) bool { beats++; return beats < 5 }
		}(), took: 2 * time.Second, because: "the gateway moves no more sessions", offline: true},
		{name: "when the time is over", handOver: holdsSessions, took: time.Minute, because: "the time is over", offline: true},
		{name: "soon if the gateway is gone", handOver: holdsSessions, took: handOverAnswer, because: "the gateway does not answer",
			prepare: func(b *bench) {
				b.g.with(func() { b.g.onBeat = func(wire.Heartbeat) error { return errBroken } })
			}},
		{name: "soon if the gateway hangs", handOver: holdsSessions, took: handOverAnswer, because: "the gateway does not answer",
			prepare: func(b *bench) {
				b.g.with(func() { b.g.garble = func(string) (int, string) { return hang, "" } })
			}},
		{name: "soon if somebody else answers", handOver: holdsSessions, took: handOverAnswer, because: "the gateway does not answer",
			prepare: func(b *bench) {
				b.g.with(func() { b.g.garble = func(string) (int, string) { return 200, "<html>" } })
			}},
		{name: "with the lease", handOver: holdsSessions, took: 12 * time.Second, because: "the lease is lost",
			prepare: func(b *bench) {
				b.g.with(func() {
					beats := 0
					b.g.onBeat = func(wire.Heartbeat) error {
						if beats++; beats > 1 {
							return errBroken
						}
						return nil
					}
				})
			}},
		{name: "when the gateway takes the term away", handOver: holdsSessions, took: 0, because: "the lease is lost",
			prepare: func(b *bench) {
				b.g.with(func() {
					b.g.onBeat = func(wire.Heartbeat) error { return wire.Refuse(wire.CodeStaleTerm, "over") }
				})
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBench(t, handing(c.handOver), func(b *bench) {
				conn := b.hold("s1", 1)
				if c.prepare != nil {
					c.prepare(b)
				}
				require.Less(b, b.leaving(), c.took+15*time.Second, "leaving tries to say goodbye")
				require.True(b, conn.closed())
				require.Contains(b, b.log.String(), fmt.Sprintf("handedOver=0 remaining=1 took=%s because=%q", c.took, c.because))
				require.Equal(b, c.offline, b.g.lastBeat().Status == wire.HeartbeatOffline)
			})
		})
	}
}

func TestNothingToHandOver(t *testing.T) {
	for name, prepare := range map[string]func(*gateway, *engine, *Config){
		"no sessions":    handing(func(wire.Heartbeat) bool { return true }),
		"not asked to":   func(g *gateway, _ *engine, _ *Config) { g.handOver = func(wire.Heartbeat) bool { return true } },
		"not registered": func(g *gateway, _ *engine, c *Config) { c.HandOver, g.until = time.Minute, time.Now().Add(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, prepare, func(b *bench) {
				if name == "not asked to" {
					b.hold("s1", 1)
				}
				require.Less(b, b.leaving(), time.Second)
				require.NotContains(b, b.log.String(), "handing the sessions over")
			})
		})
	}
}

// A session that is still being opened when the hand-over begins is handed over as well.
func TestHandOverWaitsForASessionThatOpens(t *testing.T) {
	onBench(t, func(g *gateway, e *engine, c *Config) {
		handing(holdsSessions)(g, e, c)
		g.handOver = func(wire.Heartbeat) bool { return true }
		e.open = func(context.Context, Session) error { time.Sleep(2 * time.Second); return nil }
	}, func(b *bench) {
		go func() {
			b.hold("s1", 1)
			time.Sleep(2 * time.Second)
			require.NoError(b, b.n.Release(b.Context(), "s1", 1))
		}()
		b.pass(time.Second)
		require.InDelta(b, 3*time.Second, b.leaving(), float64(time.Second))
	})
}
