//go:build !race

// Not under the race detector: whatsmeow reads and writes its socket without a lock where a connection breaks, as it does behind a proxy
// that ends.

package whatsapp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/egress/egresstest"
	"kurir/embedded/embeddedtest"
	"kurir/wire"
	"kurir/worker"
)

// proxy is one that leads everything to the fake WhatsApp, and counts whom it let through.
type proxy struct {
	addr   string
	passed atomic.Int64
	asked  atomic.Value // the last name that was to be reached
}

// greeting is how a proxy is spoken to.
type greeting func(net.Conn) (net.Conn, string, error)

// startProxy serves with greet, which answers a client and tells what it wants to reach.
func startProxy(t *testing.T, to string, greet greeting) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{addr: l.Addr().String()}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() {
				defer func() { _ = c.Close() }()
				client, wanted, err := greet(c)
				if err != nil {
					return
				}
				p.asked.Store(wanted)
				p.passed.Add(1)
				server, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer func() { _ = server.Close() }()
				go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
				_, _ = io.Copy(client, server)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return p
}

// buffered is a connection of which a part has been read.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

func greetHTTP(c net.Conn) (net.Conn, string, error) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		return nil, "", fmt.Errorf("no CONNECT: %w", err)
	}
	if user, password, ok := proxyAuth(req); !ok || user != "u" || password != "p" {
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
		return nil, "", io.EOF
	}
	_, err = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	return buffered{c, r}, req.Host, err
}

func proxyAuth(r *http.Request) (user, password string, ok bool) {
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	return r.BasicAuth()
}

// greetSOCKS is the little of RFC 1928 that a client needs.
func greetSOCKS(c net.Conn) (net.Conn, string, error) { return greetSOCKSAs(c, "") }

// greetSOCKSWithPassword is that, and RFC 1929.
func greetSOCKSWithPassword(c net.Conn) (net.Conn, string, error) {
	return greetSOCKSAs(c, "\x01\x01u\x03p@:")
}

// greetSOCKSAs lets in who says these words, if there are any.
func greetSOCKSAs(c net.Conn, words string) (net.Conn, string, error) {
	b := make([]byte, 262)
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return nil, "", err
	}
	methods := b[2 : 2+int(b[1])]
	if _, err := io.ReadFull(c, methods); err != nil {
		return nil, "", err
	}
	if words == "" {
		if _, err := c.Write([]byte{5, 0}); err != nil {
			return nil, "", err
		}
	} else if err := askPassword(c, methods, words); err != nil {
		return nil, "", err
	}
	if _, err := io.ReadFull(c, b[:5]); err != nil || b[3] != 3 { // a name: the proxy looks it up
		return nil, "", fmt.Errorf("no name: %w", err)
	}
	name := make([]byte, int(b[4])+2)
	if _, err := io.ReadFull(c, name); err != nil {
		return nil, "", err
	}
	port := binary.BigEndian.Uint16(name[len(name)-2:])
	_, err := c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return c, fmt.Sprintf("%s:%d", name[:len(name)-2], port), err
}

func askPassword(c net.Conn, methods []byte, words string) error {
	if !bytes.Contains(methods, []byte{2}) {
		_, _ = c.Write([]byte{5, 0xff})
		return io.EOF
	}
	said := make([]byte, len(words))
	if _, err := c.Write([]byte{5, 2}); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, said); err != nil || string(said) != words {
		_, _ = c.Write([]byte{1, 1})
		return fmt.Errorf("said %q: %w", said, err)
	}
	_, err := c.Write([]byte{1, 0})
	return err
}

// behindTLS is a proxy's way to the fake, which has no TLS.
func behindTLS(server *tls.Config, greet greeting) greeting {
	return func(c net.Conn) (net.Conn, string, error) {
		client, wanted, err := greet(c)
		if err != nil {
			return nil, "", err
		}
		return tls.Server(client, server), wanted, nil
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// withProxies is an engine that has no way to the fake but by a proxy, and what proxies serve the fake with.
func (n *network) withProxies(t *testing.T, change ...func(*Config)) (*Engine, *tls.Config) {
	t.Helper()
	authority := embeddedtest.NewAuthority(t)
	cert, err := tls.LoadX509KeyPair(authority.Issue("web.whatsapp.com", "127.0.0.1"))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(authority.File)
	require.NoError(t, err)
	require.True(t, roots.AppendCertsFromPEM(pem))
	e := n.engine(t, append([]func(*Config){func(c *Config) {
		c.Transport.DialContext, c.Transport.DialTLSContext = new(net.Dialer).DialContext, nil
		c.Transport.TLSClientConfig = &tls.Config{RootCAs: roots}
		c.ProxyAllow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}}, change...)...)
	ended(t, e)
	return e, &tls.Config{Certificates: []tls.Certificate{cert}}
}

// A session with a proxy goes through it, with all that it says to WhatsApp, and by no other way.
func TestProxies(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e, server := n.withProxies(t)
	for scheme, greet := range map[string]greeting{
		"http://u:p@":         greetHTTP,
		"socks5://":           greetSOCKS,
		"socks5://u:p%40%3A@": greetSOCKSWithPassword,
		"socks5h://u:p%40:@":  greetSOCKSWithPassword,
		"https://u:p@":        func(c net.Conn) (net.Conn, string, error) { return greetHTTP(tls.Server(c, server)) },
	} {
		p := startProxy(t, n.Addr(), behindTLS(server, greet))
		h := openBy(t, e, uuid.NewString(), 1, scheme+p.addr)
		h.await(wire.StatusQRRequired, "")
		require.Positive(t, p.passed.Load())
		require.Equal(t, "web.whatsapp.com:443", p.asked.Load())
	}
}

// What a proxy does to a session is said, and its address and password are not.
func TestProxiesThatFail(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	var log lines
	e, server := n.withProxies(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	by := func(greet greeting) string { return startProxy(t, n.Addr(), behindTLS(server, greet)).addr }
	for raw, said := range map[string]string{
		"http://u:secret@" + by(greetHTTP):                                                               "the proxy refused with status 407",
		"socks5://u:secret@" + by(greetSOCKSWithPassword):                                                "the SOCKS proxy refused",
		"http://u:secret@" + closed.Addr().String():                                                      "connection refused",
		"http://u:secret@secret.invalid":                                                                 "host",
		"socks5://u:secret@" + by(func(c net.Conn) (net.Conn, string, error) { return nil, "", io.EOF }): "connection",
	} {
		h := openBy(t, e, uuid.NewString(), 1, raw)
		h.await(wire.StatusReconnecting, reasonProxyFailed)
		require.Eventually(t, func() bool { return strings.Contains(log.String(), said) }, patience, time.Millisecond, "%s: %s", raw, &log)
	}
	for _, raw := range []string{"ftp://u:secret@x", "http://u:secret@10.0.0.1:3128", "http://u:secret@x:99999", "u:secret"} {
		openBy(t, e, uuid.NewString(), 1, raw).await(wire.StatusError, reasonProxy)
	}
	require.NotContains(t, log.String(), "secret")
	require.NotContains(t, log.String(), "dTpzZWNyZXQ", "nor in base64")
}

// No proxy leads a worker to what is not public, by whatever name.
func TestProxiesLeadToNothingPrivate(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	prey := egresstest.NewPrey(t)
	e, _ := n.withProxies(t, func(c *Config) { c.ProxyAllow = nil })
	own, err := os.Hostname() // which leads to this machine
	require.NoError(t, err)
	for _, raw := range []string{"http://127.0.0.1", "https://[::1]", "socks5://0.0.0.0", "socks5h://localhost", "http://" + own, "socks5://u:p@" + own} {
		h := openBy(t, e, uuid.NewString(), 1, raw+":"+prey.Port)
		require.Eventually(t, func() bool { r := h.State().Reason; return r == reasonProxy || r == reasonProxyFailed }, patience, time.Millisecond, raw)
		h.close()
	}
	require.Zero(t, prey.Connections())
}

// A linked session that gets another proxy, or none, is closed and opened again at its epoch: it needs no new scan.
func TestAnotherProxyNeedsNoScan(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e, server := n.withProxies(t)
	first, second := startProxy(t, n.Addr(), behindTLS(server, greetSOCKS)), startProxy(t, n.Addr(), behindTLS(server, greetHTTP))
	h := openBy(t, e, uuid.NewString(), 1, "socks5://"+first.addr)
	h.await(wire.StatusQRRequired, "")
	n.Scan(t, h.id)
	h.await(wire.StatusConnected, "")
	require.Zero(t, second.passed.Load())
	h.close()
	before := first.passed.Load()
	again := openBy(t, e, h.id, 1, "http://u:p@"+second.addr)
	again.await(wire.StatusConnected, "")
	again.deliver(sendOf("by way of the other one"))
	require.Positive(t, second.passed.Load())
	require.Equal(t, before, first.passed.Load())
	require.Len(t, n.Phone(t, "+491"), 1)
}

// Without the lease nothing leaves: no connection is made, and one that there is breaks at its next word.
func TestNothingIsSaidWithoutTheLease(t *testing.T) {
	t.Parallel()
	here, there := net.Pipe()
	defer func() { _, _ = here.Close(), there.Close() }()
	var lease atomic.Bool
	d := leased(func(context.Context, string, string) (net.Conn, error) { return here, nil }, lease.Load)
	_, err := d(context.Background(), "tcp", "web.whatsapp.com:443")
	require.ErrorIs(t, err, worker.ErrLeaseLost)
	lease.Store(true)
	c, err := d(context.Background(), "tcp", "web.whatsapp.com:443")
	require.NoError(t, err)
	read := make(chan string, 1)
	go func() {
		b := make([]byte, 4)
		_, _ = io.ReadFull(there, b)
		read <- string(b)
	}()
	_, err = c.Write([]byte("ping"))
	require.NoError(t, err)
	require.Equal(t, "ping", <-read)
	lease.Store(false)
	_, err = c.Write([]byte("late"))
	require.ErrorIs(t, err, worker.ErrLeaseLost)
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err, "it is closed")
}
