package worker

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func TestRegistersUntilItSucceeds(t *testing.T) {
	tries := 0
	onBench(t, func(g *gateway, _ *engine, c *Config) {
		c.Endpoint, c.Description = "http://w1:9", "of a test"
		g.onRegister = func(wire.Register) error {
			if tries++; tries < 5 {
				return errBroken
			}
			return nil
		}
	}, func(b *bench) {
		require.Zero(b, b.term())
		_, err := b.create("s1", 1)
		b.refusedWith(wire.CodeStaleTerm, err)
		b.pass(time.Minute)
		require.Equal(b, int64(1), b.term())
		require.Equal(b, 5, tries)
		require.Equal(b, wire.Register{
			WorkerID: "w1", Endpoint: "http://w1:9", MaxSessions: 3, Engine: "scripted", Version: "test", Description: "of a test",
			Protocol: wire.Protocol,
		}, b.g.registers[4])
	})
}

func TestWaitsForAPredecessorsLease(t *testing.T) {
	onBench(t, func(g *gateway, _ *engine, _ *Config) { g.until = time.Now().Add(9 * time.Second) }, func(b *bench) {
		b.pass(8500 * time.Millisecond)
		require.Zero(b, b.term())
		b.pass(time.Second)
		require.Equal(b, int64(1), b.term())
	})
}

func TestABadTokenIsRetriedSlowly(t *testing.T) {
	onBench(t, func(g *gateway, _ *engine, _ *Config) {
		g.onRegister = func(wire.Register) error { return wire.Refuse(wire.CodeUnauthenticated, "token") }
	}, func(b *bench) {
		b.pass(5 * time.Minute)
		require.Len(b, b.g.registers, 11)
		require.Contains(b, b.log.String(), "WORKER_AUTH_TOKEN must be the same on both sides")
		b.g.with(func() { b.g.onRegister = nil })
		b.pass(operatorWait)
		require.Equal(b, int64(1), b.term())
	})
}

func TestHeartbeatsReportAndKeepTheLease(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		require.Equal(b, []wire.HeldSession{}, b.g.beats[0].Sessions, "none is not unknown")
		c := b.hold("s1", 4)
		c.set(wire.SessionState{Status: wire.StatusQRRequired})
		_, err := b.n.Send(b.Context(), "s1", message("A", 4, 1))
		require.NoError(b, err)
		b.pass(time.Minute)
		require.Len(b, b.g.beats, 21)
		require.Equal(b, wire.Heartbeat{
			Status: "online", Term: 1,
			Metrics:  wire.Metrics{SessionCount: 1, CPUUsage: 12, MemoryUsage: 34, MessageCount: 1, Uptime: 60},
			Sessions: []wire.HeldSession{{SessionID: "s1", Epoch: 4, Status: wire.StatusQRRequired}},
		}, b.g.lastBeat())
		require.True(b, c.s.Lease())
		require.Equal(b, wire.Health{
			Status: "ok", SessionCount: 1, MaxSessions: 3, CPUUsage: 12, MemoryUsage: 34, Uptime: 60, MessageCount: 1,
			Version: "test", Engine: "scripted", Term: 1,
		}, b.n.Health(b.Context()))
	})
}

// The gateway is silent: the worker has to disconnect by itself at the end of the lease, not at a heartbeat.
func TestALapseDisconnectsEverything(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c1, c2 := b.hold("s1", 1), b.hold("s2", 1)
		b.pass(6 * time.Second) // heartbeats at 0, 3 and 6 s
		b.g.with(func() {
			b.g.onBeat = func(wire.Heartbeat) error { return errBroken }
			b.g.onRegister = func(wire.Register) error { return errBroken }
		})
		b.pass(11990 * time.Millisecond)
		require.True(b, c1.s.Lease())
		require.Equal(b, []string{"s1", "s2"}, b.e.connected())
		b.pass(10 * time.Millisecond)
		require.False(b, c1.s.Lease())
		require.False(b, c2.s.Lease())
		require.Empty(b, b.e.connected())
		_, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
		b.refusedWith(wire.CodeLeaseLost, err)
		_, err = b.create("s1", 2)
		b.refusedWith(wire.CodeLeaseLost, err)

		b.g.with(func() { b.g.onBeat, b.g.onRegister = nil, nil })
		b.pass(20 * time.Second)
		require.Equal(b, int64(2), b.term())
		b.hold("s1", 1) // the epoch was not released, the term alone is new
		require.False(b, c1.s.Lease(), "an old connection gains nothing by a new term")
		require.True(b, b.e.last().s.Lease())
	})
}

// An answer that comes late must not make the lease longer than the gateway's own count of it.
func TestTheLeaseCountsFromTheRequest(t *testing.T) {
	onBench(t, func(g *gateway, _ *engine, _ *Config) {
		g.onBeat = func(wire.Heartbeat) error {
			g.mu.Unlock()
			time.Sleep(2 * time.Second)
			g.mu.Lock()
			if len(g.beats) == 3 {
				return errBroken
			}
			return nil
		}
	}, func(b *bench) {
		b.pass(8 * time.Second) // sent at 0, 3, 6; answered at 2, 5, 8; those after fail
		b.hold("s1", 1)
		b.pass(9900 * time.Millisecond)
		require.True(b, b.n.current().lease.held())
		b.pass(100 * time.Millisecond) // 18 s: 6 + 12
		require.Empty(b, b.e.connected())
	})
}

func TestHeartbeatsThatHangAreTriedAgainWithinALease(t *testing.T) {
	hang := 0
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		b.g.with(func() {
			b.g.onBeat = func(wire.Heartbeat) error {
				if hang++; hang > 2 {
					return nil
				}
				b.g.mu.Unlock()
				time.Sleep(time.Minute)
				b.g.mu.Lock()
				return errBroken
			}
		})
		b.pass(5 * time.Minute)
		require.Equal(b, int64(1), b.term())
		require.True(b, c.s.Lease())
	})
}

func TestARefusedTermIsGivenUp(t *testing.T) {
	for _, code := range []string{wire.CodeStaleTerm, wire.CodeUnauthenticated} {
		t.Run(code, func(t *testing.T) {
			onBench(t, nil, func(b *bench) {
				c := b.hold("s1", 1)
				b.g.with(func() {
					b.g.until = time.Time{}
					b.g.onBeat = func(h wire.Heartbeat) error {
						if h.Term == 1 {
							return wire.Refuse(code, "over")
						}
						return nil
					}
				})
				b.pass(4 * time.Second)
				require.True(b, c.closed())
				require.Equal(b, int64(2), b.term())
				require.Empty(b, b.g.lastBeat().Sessions)
			})
		})
	}
}

func TestAProxysErrorDoesNotEndATerm(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		b.g.with(func() {
			b.g.onBeat = func(wire.Heartbeat) error { return &wire.Error{Status: 404} } // no code, as from a proxy
		})
		b.pass(4 * time.Second)
		b.g.with(func() { b.g.onBeat = nil })
		b.pass(time.Minute)
		require.False(b, c.closed())
	})
}

// After an outage the gateway gives every lease a full length. The worker, which has disconnected, need not wait for
// it: it shows that it is the same process and holds nothing.
func TestALapsedTermIsResumed(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.hold("s1", 1)
		_, secret := b.n.Credentials()
		b.outage(15 * time.Second)
		require.Empty(b, b.e.connected())
		b.g.with(func() {
			b.g.until = time.Now().Add(time.Hour)
			b.g.onRegister = func(r wire.Register) error {
				require.Empty(b, b.e.connected())
				require.Equal(b, secret, b.g.secret)
				return nil
			}
		})
		b.pass(11 * time.Second)
		require.Equal(b, int64(2), b.term())
		require.Equal(b, int64(1), b.g.lastRegister().PreviousTerm)
		require.Zero(b, b.g.registered()[0].PreviousTerm, "a new process has none")
		for _, beat := range b.g.beaten() {
			require.Equal(b, wire.HeartbeatOnline, beat.Status, "a worker that stays does not say goodbye")
		}
	})
}

// A session that does not close may still be connected, so the worker must not claim to hold nothing.
func TestNoResumeBeforeEverythingIsClosed(t *testing.T) {
	for _, c := range []struct {
		name   string
		code   string // of the heartbeat that ends the term; "" is an outage
		asking bool   // whether it registers meanwhile, as anybody may once the lease has lapsed
	}{
		{"after an outage", "", true},
		{"removed by an administrator", wire.CodeWorkerRemoved, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stuck atomic.Bool
			stuck.Store(true)
			onBench(t, func(_ *gateway, e *engine, _ *Config) {
				e.shut = func(ctx context.Context, _ *conn) error {
					if stuck.Load() {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
			}, func(b *bench) {
				b.hold("s1", 1)
				if c.code == "" {
					b.outage(15 * time.Second)
				} else {
					b.g.with(func() { b.g.onBeat = func(wire.Heartbeat) error { return wire.Refuse(c.code, "over") } })
					b.pass(15 * time.Second)
					b.g.with(func() { b.g.onBeat = nil })
				}
				b.g.with(func() { b.g.until = time.Now().Add(time.Hour) })
				b.g.forget()
				b.pass(time.Minute)
				require.Equal(b, int64(1), b.term())
				require.Equal(b, c.asking, len(b.g.registered()) > 0)
				for _, r := range b.g.registered() {
					require.Zero(b, r.PreviousTerm)
				}
				stuck.Store(false)
				b.pass(time.Minute)
				require.Equal(b, int64(2), b.term())
				require.Equal(b, int64(1), b.g.lastRegister().PreviousTerm)
			})
		})
	}
}

// A worker that was removed goes on showing who it is, so that it does not come back as a new process would.
func TestARemovedWorkerStaysAway(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		b.g.with(func() {
			b.g.onBeat = func(wire.Heartbeat) error { return wire.Refuse(wire.CodeWorkerRemoved, "removed") }
			b.g.onRegister = func(wire.Register) error { return wire.Refuse(wire.CodeWorkerRemoved, "removed") }
		})
		b.g.forget()
		b.pass(5 * time.Minute)
		require.True(b, c.closed())
		require.Len(b, b.g.registered(), 10)
		for _, r := range b.g.registered() {
			require.Equal(b, int64(1), r.PreviousTerm)
		}
		require.Contains(b, b.log.String(), "an administrator removed this worker; start it anew to bring it back")
	})
}

func TestAnUnsupportedProtocolIsExplained(t *testing.T) {
	onBench(t, func(g *gateway, _ *engine, _ *Config) {
		g.onRegister = func(r wire.Register) error {
			require.Equal(t, wire.Protocol, r.Protocol)
			return wire.Refuse(wire.CodeUnsupportedProtocol, "protocols 2 to 3 are spoken here")
		}
	}, func(b *bench) {
		b.pass(5 * time.Minute)
		require.Len(b, b.g.registered(), 11)
		require.Contains(b, b.log.String(), "upgrade the older of the two")
		require.Contains(b, b.log.String(), "protocols 2 to 3 are spoken here")
	})
}

func TestSessionsToDrop(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c1, c2 := b.hold("s1", 3), b.hold("s2", 1)
		b.g.with(func() { b.g.drop = []string{"s1", "unknown"} })
		b.pass(3 * time.Second)
		require.True(b, c1.closed())
		require.False(b, c2.closed())
		_, err := b.create("s1", 3)
		b.refusedWith(wire.CodeStaleEpoch, err)
		b.g.with(func() { b.g.drop = nil })
		b.hold("s1", 4)
		b.pass(10 * time.Second)
		require.Equal(b, []string{"s1", "s2"}, b.e.connected())
	})
}

// The answer to a heartbeat speaks of the sessions that the heartbeat named, not of those created meanwhile.
func TestADropDoesNotHitANewerEpoch(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.hold("s1", 1)
		b.pass(2 * time.Second)
		b.g.with(func() {
			b.g.drop = []string{"s1"}
			b.g.onBeat = func(wire.Heartbeat) error {
				b.g.mu.Unlock()
				b.hold("s1", 2)
				b.g.mu.Lock()
				b.g.onBeat = nil
				return nil
			}
		})
		b.pass(2 * time.Second)
		require.Equal(b, []string{"s1"}, b.e.connected())
		require.Equal(b, int64(2), b.e.last().s.Epoch)
		b.g.with(func() { b.g.drop = nil })
	})
}

func TestEndpoint(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		require.Equal(b, "http://127.0.0.1:9", b.g.registers[0].Endpoint)
		require.Equal(b, "127.0.0.1:9", b.n.Addr())
	})
	require.True(t, local("http://localhost:8000"))
	require.True(t, local("http://[::1]:8000"))
	require.False(t, local("http://gateway:8000"))
}
