package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func TestLeased(t *testing.T) {
	onBench(t, func(g *gateway, _ *engine, _ *Config) {
		g.onRegister = func(wire.Register) error { return wire.Refuse(wire.CodeUnauthenticated, "token") }
	}, func(b *bench) {
		require.False(b, b.n.Leased(), "the gateway refuses it")
		b.g.with(func() { b.g.onRegister = nil })
		b.pass(operatorWait)
		require.True(b, b.n.Leased())
		b.outage(12 * time.Second)
		require.False(b, b.n.Leased(), "its lease has lapsed")
		b.pass(20 * time.Second)
		require.True(b, b.n.Leased(), "it has registered again")
		b.stop()
		require.False(b, b.n.Leased(), "it has left")
	})
}
