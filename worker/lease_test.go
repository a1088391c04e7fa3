package worker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// A process that was stopped for longer than its lease wakes up before its timers do. Whatever it does first must
// find out by the clock that the lease is over.
func TestAFrozenProcessWakesUpWithoutItsLease(t *testing.T) {
	for name, first := range map[string]func(*bench, *conn){
		"the engine writes": func(b *bench, c *conn) {
			require.False(b, c.s.Lease())
		},
		"a send": func(b *bench, c *conn) {
			_, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
			b.refusedWith(wire.CodeLeaseLost, err)
			require.Zero(b, c.sends())
		},
		"a create": func(b *bench, _ *conn) {
			_, err := b.create("s2", 1)
			b.refusedWith(wire.CodeLeaseLost, err)
		},
		"an unlinking": func(b *bench, c *conn) {
			b.refusedWith(wire.CodeLeaseLost, b.n.Delete(b.Context(), "s1", 1, true))
			require.False(b, c.loggedOut)
		},
		"a reconnect": func(b *bench, _ *conn) {
			_, err := b.command("reconnect", "")
			b.refusedWith(wire.CodeLeaseLost, err)
		},
		"the network says that another took over": func(_ *bench, c *conn) {
			c.sink(Event{Type: wire.EventSessionStatus, Data: wire.StatusData{Status: wire.StatusDisconnected, Reason: "replaced"}})
		},
		"a message": func(_ *bench, c *conn) {
			c.receive("M00000", nil)
		},
		"a heartbeat": func(b *bench, _ *conn) {
			require.ErrorIs(b, b.n.heartbeat(b.n.current()), errLapsed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var slept atomic.Int64 // by the clock, without timers
			onBench(t, func(_ *gateway, _ *engine, c *Config) {
				c.Now = func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
			}, func(b *bench) {
				c := b.hold("s1", 1)
				b.pass(time.Second)
				b.g.forget()
				slept.Store(int64(13 * time.Second))
				first(b, c)
				synctest.Wait()
				b.pass(10 * time.Second)
				require.True(b, c.closed())
				require.Equal(b, int64(2), b.term())
				require.Equal(b, int64(1), b.g.lastRegister().PreviousTerm)
				for _, beat := range b.g.beaten() {
					require.Equal(b, int64(2), beat.Term, "it kept a lease alive that it does not believe in")
				}
				for _, e := range b.g.taken() {
					require.Equal(b, wire.EventMessageReceived, e.Type, "it spoke as holder")
				}
			})
		})
	}
}
