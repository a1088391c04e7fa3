package egress

import (
	"net"
	"time"
)

// Dialer makes a dialer that reaches no address which the guard refuses. A nil resolver is the system's.
func (g *Guard) Dialer(timeout time.Duration, resolver *net.Resolver) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second, Resolver: resolver, Control: g.Control}
}
