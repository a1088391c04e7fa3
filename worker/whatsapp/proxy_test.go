package whatsapp

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

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

// greetSOCKS is the little of RFC 1928 that a client without a password uses.
func greetSOCKS(c net.Conn) (net.Conn, string, error) {
	b := make([]byte, 262)
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return nil, "", err
	}
	if _, err := io.ReadFull(c, b[:b[1]]); err != nil {
		return nil, "", err
	}
	if _, err := c.Write([]byte{5, 0}); err != nil {
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

// A session with a proxy goes through it, with all that it says to WhatsApp, and by no other way.
func TestProxies(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	authority := embeddedtest.NewAuthority(t)
	cert, err := tls.LoadX509KeyPair(authority.Issue("web.whatsapp.com", "127.0.0.1"))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(authority.File)
	require.NoError(t, err)
	require.True(t, roots.AppendCertsFromPEM(pem))
	e := n.engine(t, func(c *Config) { // without a proxy there is no way
		c.Transport.DialContext, c.Transport.DialTLSContext = new(net.Dialer).DialContext, nil
		c.Transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	})
	ended(t, e)
	server := &tls.Config{Certificates: []tls.Certificate{cert}}
	behindTLS := func(greet greeting) greeting { // what goes through is TLS, which the fake has none of
		return func(c net.Conn) (net.Conn, string, error) {
			client, wanted, err := greet(c)
			if err != nil {
				return nil, "", err
			}
			return tls.Server(client, server), wanted, nil
		}
	}
	for scheme, greet := range map[string]greeting{
		"http://u:p@":  behindTLS(greetHTTP),
		"socks5://":    behindTLS(greetSOCKS),
		"https://u:p@": behindTLS(func(c net.Conn) (net.Conn, string, error) { return greetHTTP(tls.Server(c, server)) }),
	} {
		p := startProxy(t, n.Addr(), greet)
		c, err := e.Open(context.Background(), worker.Session{ID: uuid.NewString(), Epoch: 1, Proxy: scheme + p.addr, Lease: func() bool { return true }}, func(worker.Event) {})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return c.State().Status == wire.StatusQRRequired }, patience, time.Millisecond, scheme)
		require.Positive(t, p.passed.Load())
		require.Equal(t, "web.whatsapp.com:443", p.asked.Load())
	}
	c, err := e.Open(context.Background(), worker.Session{ID: uuid.NewString(), Epoch: 1, Proxy: "ftp://u:secret@x", Lease: func() bool { return true }}, func(worker.Event) {})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.State().Reason == reasonProxy }, patience, time.Millisecond)
	_, err = proxyURL("ftp://u:secret@x")
	require.NotContains(t, err.Error(), "secret")
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
