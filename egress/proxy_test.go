package egress

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kurir/egress/egresstest"
)

const patience = 5 * time.Second

// through makes every hostile URL a proxy of each kind that there is, beside what it is.
func through(urls []string) (all []string) {
	for _, raw := range urls {
		all = append(all, raw)
		if rest, ok := strings.CutPrefix(raw, "http://"); ok {
			rest = strings.TrimSuffix(rest, "/")
			all = append(all, "http://"+rest, "https://"+rest, "socks5://"+rest, "socks5://user:secret@"+rest, "socks5h://"+rest)
		}
	}
	return all
}

func TestHostileProxiesReachNothing(t *testing.T) {
	p := egresstest.NewPrey(t)
	g, resolver := NewGuard(nil), egresstest.Nameserver(t, egresstest.Names())
	for _, raw := range through(p.Hostile(t)) {
		dialer, err := g.ProxyDialer(raw, patience, resolver)
		if err != nil {
			assert.Error(t, g.CheckProxy(raw), raw)
			continue
		}
		conn, err := dialer.DialContext(t.Context(), "tcp", "example.com:443")
		if err == nil {
			_ = conn.Close()
		}
		assert.Error(t, err, raw)
	}
	assert.Zero(t, p.Connections(), "connections to the listener")
}

func TestProxyThatChangesItsAnswerReachesNothing(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		p := egresstest.NewPrey(t)
		g := NewGuard([]netip.Prefix{netip.MustParsePrefix("127.9.9.9/32")})
		dialer, err := g.ProxyDialer(scheme+"://rebind.test:"+p.Port, time.Second,
			egresstest.Nameserver(t, map[string][]netip.Addr{"rebind.test": egresstest.Addrs("127.9.9.9", "127.0.0.1")}))
		require.NoError(t, err)
		if conn, err := dialer.DialContext(t.Context(), "tcp", "example.com:443"); err == nil { // whatever the listener makes of it
			_ = conn.Close()
		}
		_, err = dialer.DialContext(t.Context(), "tcp", "example.com:443")
		require.ErrorIs(t, err, ErrAddress)
		require.Equal(t, int64(1), p.Connections())
	}
}

func TestCheckProxy(t *testing.T) {
	g := NewGuard(nil)
	for _, raw := range []string{"http://proxy.example.com:3128", "https://u:p@proxy.example.com/", "socks5://1.1.1.1", "socks5://u:p@[2606:4700::1111]:1080"} {
		assert.NoError(t, g.CheckProxy(raw), raw)
	}
	for raw, want := range map[string]string{
		"": "begin with", "proxy.example.com:3128": "begin with", "socks4://1.1.1.1": "begin with", "ftp://1.1.1.1": "begin with",
		"http://proxy.example.com/x": "nothing behind", "http://proxy.example.com?x": "nothing behind", "http://proxy.example.com?": "nothing behind",
		"http:proxy.example.com": "nothing behind", "http://proxy.example.com#x": "fragment", "http://127.0.0.1:1": "not allowed",
		"socks5://localhost": "not allowed", "socks5://2130706433": "neither a name", "http://:80": "no host", "http://x:0": "port",
		"http://" + strings.Repeat("a", 2048): "longer",
	} {
		assert.ErrorContains(t, g.CheckProxy(raw), want, "%.60q", raw)
	}
}

// connectProxy is an HTTP proxy that answers CONNECT and then echoes what it is sent, as the target would.
func connectProxy(t *testing.T, secure bool) (url string, asked chan *http.Request, server *httptest.Server) {
	asked = make(chan *http.Request, 1)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		if r.Host == "refused.test:443" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\nfirst ")
		_, _ = io.Copy(conn, buffered)
	}))
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server.URL, asked, server
}

func loopback() *Guard { return NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}) }

func TestProxiesConnect(t *testing.T) {
	for _, secure := range []bool{false, true} {
		raw, asked, server := connectProxy(t, secure)
		d, err := loopback().ProxyDialer(strings.Replace(raw, "://", "://user:p%40ss@", 1), patience, nil)
		require.NoError(t, err)
		if secure {
			d.tls = server.Client().Transport.(*http.Transport).TLSClientConfig
		}
		conn, err := d.DialContext(t.Context(), "tcp", "example.com:443")
		require.NoError(t, err)
		r := <-asked
		require.Equal(t, "example.com:443", r.Host)
		require.Equal(t, "Basic dXNlcjpwQHNz", r.Header.Get("Proxy-Authorization"))
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "and second\n")
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "first and second\n", line)
		require.NoError(t, conn.Close())

		_, err = d.DialContext(t.Context(), "tcp", "refused.test:443")
		require.ErrorIs(t, err, ErrProxy)
		<-asked
	}
}

// A proxy that takes the connection and says nothing, or too much, is given up.
func TestProxiesThatMisbehave(t *testing.T) {
	for what, speak := range map[string]func(net.Conn){
		"silence": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"a flood": func(c net.Conn) {
			_, _ = fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX: ")
			for {
				if _, err := io.WriteString(c, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); speak(c) }()
			}
		}()
		for _, scheme := range []string{"http", "https", "socks5"} {
			d, err := loopback().ProxyDialer(scheme+"://"+l.Addr().String(), 200*time.Millisecond, nil)
			require.NoError(t, err)
			_, err = d.DialContext(context.Background(), "tcp", "example.com:443")
			require.ErrorIs(t, err, ErrProxy, what)
		}
		require.NoError(t, l.Close())
	}
}
