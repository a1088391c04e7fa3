package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
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

// fetch asks for a page by way of a transport's proxy.
func fetch(t *testing.T, way *http.Transport, url string, timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	answer, err := way.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

func TestHostileProxiesReachNothing(t *testing.T) {
	p := egresstest.NewPrey(t)
	g, resolver := NewGuard(nil), egresstest.Nameserver(t, egresstest.Names())
	for _, raw := range through(p.Hostile(t)) {
		dialled := false // as a transport of before would
		way := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { dialled = true; return nil, io.EOF }}
		if err := g.ThroughProxy(way, raw, patience, resolver); err != nil {
			_, again := g.CheckProxy(raw)
			assert.Equal(t, err, again, raw)
			assert.NotContains(t, err.Error(), "secret", raw)
			continue
		}
		_, err := fetch(t, way, "https://example.com/", patience)
		assert.Error(t, err, raw)
		assert.False(t, dialled, raw)
	}
	assert.Zero(t, p.Connections(), "connections to the listener")
}

func TestProxyThatChangesItsAnswerReachesNothing(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		p := egresstest.NewPrey(t)
		g := NewGuard([]netip.Prefix{netip.MustParsePrefix("127.9.9.9/32")})
		way := new(http.Transport)
		require.NoError(t, g.ThroughProxy(way, scheme+"://rebind.test:"+p.Port, time.Second,
			egresstest.Nameserver(t, map[string][]netip.Addr{"rebind.test": egresstest.Addrs("127.9.9.9", "127.0.0.1")})))
		_, err := fetch(t, way, "https://example.com/", time.Second) // whatever the listener makes of it
		require.Error(t, err)
		_, err = fetch(t, way, "https://example.com/", time.Second)
		require.ErrorIs(t, err, ErrAddress)
		require.Equal(t, int64(1), p.Connections())
	}
}

func TestCheckProxy(t *testing.T) {
	g := NewGuard(nil)
	for _, raw := range []string{"http://proxy.example.com:3128", "https://u:p@proxy.example.com/", "socks5://1.1.1.1", "socks5h://u%40x:p%3A@proxy.example.com:1",
		"socks5://u:p@[2606:4700::1111]:1080", "http://u@proxy.example.com:65535", "HTTP://Proxy.Example.com"} {
		_, err := g.CheckProxy(raw)
		assert.NoError(t, err, raw)
	}
	long := strings.Repeat("a", 256)
	for raw, want := range map[string]string{
		"": "begin with", "proxy.example.com:3128": "begin with", "proxy.example.com": "begin with", "socks4://1.1.1.1": "begin with", "socks://1.1.1.1": "begin with", "ftp://1.1.1.1": "begin with",
		"//proxy.example.com": "begin with", "unix:///run/proxy": "begin with", " http://proxy.example.com": "not valid", "http://proxy.example.com ": "not valid",
		"http://proxy.example.com/x": "nothing behind", "http://proxy.example.com?x": "nothing behind", "http://proxy.example.com?": "nothing behind", "http://proxy.example.com//": "nothing behind",
		"http:proxy.example.com": "nothing behind", "http://proxy.example.com#x": "fragment", "http://proxy.example.com#": "fragment", "http://127.0.0.1:1": "not allowed",
		"socks5://localhost": "not allowed", "socks5h://10.0.0.1:1080": "not allowed", "http://u:p@169.254.169.254": "not allowed", "http://[::1]:3128": "not allowed", "http://[fd00::1]": "not allowed",
		"socks5://2130706433": "neither a name", "http://0x7f.1": "neither a name", "http://:80": "no host", "http://u:p@": "no host", "http://": "no host", "http://x:0": "port", "http://x:65536": "port", "http://x:": "port",
		"http://x:-1": "not valid", "http://x:1:2": "not valid", "http://x:http": "not valid", "http://a..b": "empty part", "http://u:p@x\\y": "not valid", "http://x\ny": "not valid", "http://x\x00": "not valid",
		"http://u:%zz@x": "not valid", "http://u:p%0@x": "not valid", "http://:secret@x": "without a user name", "http://@x": "without a user name", "http://u%3Av:p@x": "colon",
		"socks5://" + long + ":p@x": "255", "socks5://u:" + long + "@x": "255", "http://u:" + long + "@x": "255",
		"http://" + strings.Repeat("a", 2048): "longer",
	} {
		_, err := g.CheckProxy(raw)
		assert.ErrorContains(t, err, want, "%.60q", raw)
		if err != nil {
			assert.NotContains(t, err.Error(), "secret")
		}
	}
}

// tunnel is an HTTP proxy that leads everything to one server.
func tunnel(t *testing.T, to string, secure bool) (server *httptest.Server, asked chan *http.Request) {
	asked = make(chan *http.Request, 1)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		if r.Host == "refused.test:443" {
			http.Error(w, "the secret is out", http.StatusProxyAuthRequired)
			return
		}
		in, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		_, _ = io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
		_, _ = io.Copy(in, out)
	}))
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server, asked
}

func loopback() *Guard { return NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}) }

func TestProxiesConnect(t *testing.T) {
	target := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Host, r.Header.Get("Proxy-Authorization"))
	}))
	defer target.Close()
	for _, secure := range []bool{false, true} {
		server, asked := tunnel(t, target.Listener.Addr().String(), secure)
		way := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: target.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
		require.NoError(t, loopback().ThroughProxy(way, strings.Replace(server.URL, "://", "://user:p%40ss@", 1), patience, nil))
		body, err := fetch(t, way, "https://example.com/", patience)
		require.NoError(t, err)
		require.Equal(t, "example.com", body, "the target hears nothing of the proxy's password")
		r := <-asked
		require.Equal(t, "example.com:443", r.Host)
		require.Equal(t, "Basic dXNlcjpwQHNz", r.Header.Get("Proxy-Authorization"))
		way.CloseIdleConnections()

		_, err = fetch(t, way, "https://refused.test/", patience)
		<-asked
		var refused *ProxyError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, http.StatusProxyAuthRequired, refused.Status)
		require.Equal(t, "the proxy refused with status 407", Explain(err))
		require.NotContains(t, err.Error(), "secret")
	}
}

// A proxy that takes the connection and says nothing, or too much, or nonsense, is given up.
func TestProxiesThatMisbehave(t *testing.T) {
	var flooded atomic.Int64
	for what, speak := range map[string]func(net.Conn){
		"silence":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"nonsense": func(c net.Conn) { _, _ = io.WriteString(c, "\x05\xff\r\n\r\nHTTP/9.9 200\r\n\r\n") },
		"a flood": func(c net.Conn) {
			_, _ = fmt.Fprint(c, "HTTP/1.1 200 OK\r\nX: ")
			for {
				n, err := io.WriteString(c, strings.Repeat("x", 4096))
				flooded.Add(int64(n))
				if err != nil {
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
		for _, scheme := range []string{"http", "https", "socks5", "socks5h"} {
			way := new(http.Transport)
			require.NoError(t, loopback().ThroughProxy(way, scheme+"://"+l.Addr().String(), patience, nil))
			_, err = fetch(t, way, "https://example.com/", 300*time.Millisecond)
			require.Error(t, err, what)
			require.Equal(t, what == "silence", errors.Is(err, context.DeadlineExceeded), "%s of %s: %v", what, scheme, err)
			require.NotContains(t, []string{"", ErrAddress.Error()}, Explain(err))
		}
		require.NoError(t, l.Close())
	}
	require.Less(t, flooded.Load(), int64(64<<20), "it is not read to its end")
}

func TestWhatSOCKSProxiesRefuse(t *testing.T) {
	require.Equal(t, "the SOCKS proxy refused", Explain(&net.OpError{Op: "socks connect", Net: "tcp", Err: errors.New("username/password authentication failed")}))
	require.Equal(t, "timed out", Explain(&net.OpError{Op: "socks connect", Net: "tcp", Err: context.DeadlineExceeded}))
}
