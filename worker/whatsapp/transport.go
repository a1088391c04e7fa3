package whatsapp

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"kurir/worker"
)

// defaultTransport is the way to WhatsApp where none is given. The environment's proxies are not heeded: a session has its own
// or none. A WebSocket needs HTTP/1.1.
func defaultTransport() *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
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
		through, err := proxyURL(s.Proxy)
		if err != nil {
			return nil, err
		}
		t.Proxy = http.ProxyURL(through)
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

// proxyURL reads a session's proxy. Its errors do not repeat it: it may hold a password.
func proxyURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("the session's proxy is no URL")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u, nil
	}
	return nil, fmt.Errorf("the session's proxy is neither http, https nor socks5")
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
