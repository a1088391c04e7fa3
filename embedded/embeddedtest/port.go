package embeddedtest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Ports for processes of a test come from below the range out of which systems take those of outgoing connections: a port
// of a process that is down for a while must not become a connection's, or the process could not come back to it.
const (
	lowestPort  = 20_000
	beyondPorts = 32_000
)

// Port returns a port of loopback on which nothing listens.
func Port(t testing.TB) int {
	t.Helper()
	var last error
	for range 100 {
		port := lowestPort + rand.N(beyondPorts-lowestPort)
		l, err := net.Listen("tcp", loopback(port))
		if err == nil {
			_ = l.Close()
			return port
		}
		last = err
	}
	t.Fatalf("no free port: %v", last)
	return 0
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
