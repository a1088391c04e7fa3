package embedded

import (
	"context"
	"net"
	"strconv"

	"github.com/alicebob/miniredis/v2"
)

// miniRedis is the Redis of machines that have none: in this process, for a first look and for tests. It keeps nothing
// over a restart, knows most commands but not all, and runs them one at a time.
type miniRedis struct{ server *miniredis.Miniredis }

func (s *Servers) startMiniredis(ctx context.Context, cfg Config, password string) error {
	port, err := redisPort(ctx, cfg)
	if err != nil {
		return err
	}
	m := miniredis.NewMiniRedis()
	m.RequireAuth(password)
	// By default its TTLs stand still until a test moves them on. This makes them follow the wall clock, exactly, at the
	// price of a walk over all keys with a TTL at each command; with a ticker, a short TTL would end up to a tick too early.
	m.ClockTTL(true)
	if err := m.StartAddr(net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err != nil {
		return err
	}
	s.mini, s.RedisURL, s.RedisKind = &miniRedis{server: m}, redisURL(port, password), Miniredis
	return nil
}

func (m *miniRedis) close() { m.server.Close() }
