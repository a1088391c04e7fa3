package whatsapp

import (
	"context"
	"net"
	"net/http"
	"time"

	"kurir/worker"
)

// dialTimeout is for WhatsApp, or a proxy, to take a connection.
const dialTimeout = 10 * time.Second

// defaultTransport is the way to WhatsApp where none is given. The environment's proxies are not heeded: a session has its own
// or none. A WebSocket needs HTTP/1.1.
func defaultTransport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   2,
	}
}

// httpClient is a session's way to WhatsApp: through its proxy, and silent without the lease.
func (e *Engine) httpClient(s worker.Session) (*http.Client, error) {
	t := e.cfg.Transport.Clone()
	if s.Proxy != "" {
		if err := e.proxies.ThroughProxy(t, s.Proxy, dialTimeout, nil); err != nil {
			return nil, err
		}
	}
	t.DialContext = leased(t.DialContext, s.Lease)
	if t.DialTLSContext != nil {
		t.DialTLSContext = leased(t.DialTLSContext, s.Lease)
	}
	var way http.RoundTripper = t
	if e.cfg.Through != nil {
		way = e.cfg.Through(way)
	}
	return &http.Client{Transport: way}, nil
}

type dial func(ctx context.Context, network, address string) (net.Conn, error)

// leased has every connection ask for the lease before it is made and before each write: whatsmeow answers pings and
// acknowledges by itself, and a process that was stopped for longer than its lease must say nothing when it wakes up.
func leased(d dial, lease func() bool) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if !lease() {
			return nil, worker.ErrLeaseLost
		}
		c, err := d(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &leasedConn{c, lease}, nil
	}
}

type leasedConn struct {
	net.Conn
	lease func() bool
}

// Write implements net.Conn.
func (c *leasedConn) Write(p []byte) (int, error) {
	if !c.lease() {
		_ = c.Close() // the error says it
		return 0, worker.ErrLeaseLost
	}
	return c.Conn.Write(p)
}
