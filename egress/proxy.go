package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/proxy"
)

// proxyPorts are the schemes of proxies, with the port of a URL that names none.
var proxyPorts = map[string]string{"http": "80", "https": "443", "socks5": "1080"}

// proxyHeaderBytes bounds what a proxy may answer to CONNECT.
const proxyHeaderBytes = 16 << 10

// ErrProxy is why a proxy did not connect us, with its cause, which is for the log.
var ErrProxy = errors.New("proxy did not connect")

// CheckProxy checks the URL of a proxy at the time when a tenant gives it: http, https or socks5, with or without user name
// and password. As CheckURL it looks nothing up: where it leads is checked on every connection.
func (g *Guard) CheckProxy(raw string) error {
	_, err := g.parseProxy(raw)
	return err
}

func (g *Guard) parseProxy(raw string) (*url.URL, error) {
	u, err := parse(raw)
	if err != nil {
		return nil, err
	}
	switch {
	case proxyPorts[u.Scheme] == "":
		return nil, errors.New("URL must begin with http://, https:// or socks5://")
	case u.Opaque != "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("URL must hold nothing behind host and port")
	}
	return u, g.checkRest(raw, u)
}

// ProxyDialer connects through one proxy. It reaches the proxy only where the guard lets it; the target is the proxy's
// to reach, from its own network, and has to be of our choosing.
type ProxyDialer struct {
	url     *url.URL
	address string
	dialer  *net.Dialer
	timeout time.Duration
	tls     *tls.Config // for https proxies; nil: the system's roots
}

// ProxyDialer makes a dialer through a tenant's proxy. The timeout bounds connecting and the proxy's answer.
func (g *Guard) ProxyDialer(raw string, timeout time.Duration, resolver *net.Resolver) (*ProxyDialer, error) {
	u, err := g.parseProxy(raw)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = proxyPorts[u.Scheme]
	}
	return &ProxyDialer{url: u, address: net.JoinHostPort(u.Hostname(), port), dialer: g.Dialer(timeout, resolver), timeout: timeout}, nil
}

// DialContext connects to a target of host and port through the proxy.
func (d *ProxyDialer) DialContext(ctx context.Context, network, target string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	if d.url.Scheme == "socks5" {
		return d.socks(ctx, network, target)
	}
	conn, err := d.dialer.DialContext(ctx, "tcp", d.address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProxy, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	tunnel, err := d.connect(ctx, conn, target)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%w: %w", ErrProxy, err)
	}
	return tunnel, nil
}

func (d *ProxyDialer) socks(ctx context.Context, network, target string) (net.Conn, error) {
	var auth *proxy.Auth
	if u := d.url.User; u != nil {
		password, _ := u.Password()
		auth = &proxy.Auth{User: u.Username(), Password: password}
	}
	through, err := proxy.SOCKS5("tcp", d.address, auth, d.dialer)
	if err != nil {
		return nil, err
	}
	conn, err := through.(proxy.ContextDialer).DialContext(ctx, network, target)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProxy, err)
	}
	return conn, nil
}

// connect asks an http or https proxy for a tunnel.
func (d *ProxyDialer) connect(ctx context.Context, conn net.Conn, target string) (net.Conn, error) {
	if d.url.Scheme == "https" {
		cfg := &tls.Config{MinVersion: tls.VersionTLS12}
		if d.tls != nil {
			cfg = d.tls.Clone()
		}
		cfg.ServerName = d.url.Hostname()
		secure := tls.Client(conn, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secure
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: target}, Host: target, Header: http.Header{}}
	if u := d.url.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	limited := &io.LimitedReader{R: conn, N: proxyHeaderBytes}
	reader := bufio.NewReader(limited)
	resp, err := http.ReadResponse(reader, req) //nolint:bodyclose // an answer to CONNECT has none: what follows is the tunnel
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	limited.N = 1 << 62 // what follows is the tunnel's
	return &tunnel{Conn: conn, reader: reader}, nil
}

// tunnel is a connection of which some may have been read with the proxy's answer.
type tunnel struct {
	net.Conn
	reader *bufio.Reader
}

// Read takes what is buffered first.
func (t *tunnel) Read(b []byte) (int, error) { return t.reader.Read(b) }
