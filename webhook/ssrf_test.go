package webhook

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// prey is what a hostile URL is after: a listener on every loopback address that this machine has.
type prey struct {
	port        string
	connections atomic.Int64
}

func newPrey(t *testing.T) *prey {
	t.Helper()
	p := &prey{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("caught"))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.connections.Add(1)
		}
	}
	// All addresses rather than 127.0.0.1 alone, so that ::1, 0.0.0.0 and 127.8.8.8 would reach it too.
	listener, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	p.port = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	return p
}

func addrs(texts ...string) []netip.Addr {
	var parsed []netip.Addr
	for _, text := range texts {
		parsed = append(parsed, netip.MustParseAddr(text))
	}
	return parsed
}

// hostile are URLs with PORT for the listener's port.
var hostile = []string{
	"http://127.0.0.1:PORT/", "http://127.8.8.8:PORT/", "http://0.0.0.0:PORT/", "http://[::1]:PORT/", "http://[::]:PORT/",
	"http://[0:0:0:0:0:0:0:1]:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://[::ffff:7f00:1]:PORT/",
	"http://[::127.0.0.1]:PORT/", "http://[::ffff:0:127.0.0.1]:PORT/", "http://[64:ff9b::127.0.0.1]:PORT/",
	"http://[64:ff9b:1::7f00:1]:PORT/", "http://[2002:7f00:1::1]:PORT/", "http://[2001:0:7f00:1::1]:PORT/",
	"http://[fe80::1%25lo]:PORT/", "http://[::1%25lo]:PORT/", "http://localhost:PORT/", "http://LocalHost.:PORT/",
	"http://a.localhost:PORT/", "http://localhost.localdomain:PORT/", "http://ip6-localhost:PORT/",
	"http://2130706433:PORT/", "http://0x7f000001:PORT/", "http://0x7f.1:PORT/", "http://0177.0.0.1:PORT/",
	"http://127.1:PORT/", "http://127.0.1:PORT/", "http://127.0.0.1.:PORT/", "http://0:PORT/", "http://00000000177.1:PORT/",
	"http://①②⑦.⓪.⓪.①:PORT/", "http://１２７.０.０.１:PORT/", "http://127。0。0。1:PORT/", "http://%31%32%37.0.0.1:PORT/",
	"http://127.0.0.1%00.example.com:PORT/", "http://example.com@127.0.0.1:PORT/", "http://127.0.0.1:PORT#@example.com/",
	`http://127.0.0.1:PORT\@example.com/`, "http:127.0.0.1:PORT/", "http:///127.0.0.1:PORT/", "//127.0.0.1:PORT/",
	"gopher://127.0.0.1:PORT/", "file:///proc/self/environ", "unix:///var/run/docker.sock",
	"http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest/meta-data/", "http://168.63.129.16/",
	"http://100.100.100.200/", "http://192.0.0.192/", "http://10.0.0.1:PORT/", "http://172.16.0.1:PORT/",
	"http://192.168.1.1:PORT/", "http://100.64.0.1:PORT/", "http://224.0.0.1:PORT/", "http://255.255.255.255:PORT/",
	// Names that lead somewhere else.
	"http://loop.test:PORT/", "http://loop6.test:PORT/", "http://mapped.test:PORT/", "http://zero.test:PORT/",
	"http://private.test:PORT/", "http://metadata.test/", "http://nat64.test:PORT/", "http://sixtofour.test:PORT/",
	"http://LOOP.test.:PORT/", "http://mixed.test:PORT/", "http://nowhere.test:PORT/",
}

func hostileNames() map[string][]netip.Addr {
	return map[string][]netip.Addr{
		"loop.test":      addrs("127.0.0.1"),
		"loop6.test":     addrs("::1"),
		"mapped.test":    addrs("::ffff:127.0.0.1"),
		"zero.test":      addrs("0.0.0.0"),
		"private.test":   addrs("10.0.0.1"),
		"metadata.test":  addrs("169.254.169.254"),
		"nat64.test":     addrs("64:ff9b::7f00:1"),
		"sixtofour.test": addrs("2002:7f00:1::1"),
		"mixed.test":     addrs("::", "127.0.0.1"),
	}
}

func TestHostileURLsReachNothing(t *testing.T) {
	p := newPrey(t)
	client := NewClient(ClientConfig{Timeout: 5 * time.Second, Resolver: newNameserver(t, hostileNames())})
	defer client.Close()

	for _, raw := range hostile {
		raw = strings.ReplaceAll(raw, "PORT", p.port)
		t.Run(raw, func(t *testing.T) {
			result := client.Deliver(t.Context(), Request{URL: raw, Body: []byte("{}")})
			assert.False(t, result.OK())
			assert.Error(t, result.Err)
			assert.Zero(t, result.Status)
			assert.NotContains(t, result.Err.Error(), "127.", "the sentence names no address")

			// And without the check of the text, which is a courtesy: dialling alone has to hold.
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, raw, nil)
			if err != nil {
				return
			}
			resp, err := client.http.Do(req)
			if err == nil {
				_ = resp.Body.Close()
			}
			assert.Error(t, err)
		})
	}
	assert.Zero(t, p.connections.Load(), "connections to the listener")
}

func TestNameThatChangesItsAnswerReachesNothing(t *testing.T) {
	p := newPrey(t)
	// The first connection may go to an address that the operator allows but nobody answers at; then the name is
	// bound anew.
	client := NewClient(ClientConfig{
		Timeout:    5 * time.Second,
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.9.9.9/32")},
		Resolver:   newNameserver(t, map[string][]netip.Addr{"rebind.test": addrs("127.9.9.9", "127.0.0.1")}),
	})
	defer client.Close()
	url := "http://rebind.test:" + p.port + "/"

	first := client.Deliver(t.Context(), Request{URL: url})
	require.True(t, first.OK(), "the allowed address is reached: %v", first.Err)
	client.Close() // the next delivery has to dial

	second := client.Deliver(t.Context(), Request{URL: url})
	assert.ErrorIs(t, second.Err, ErrAddress)
	assert.Equal(t, int64(1), p.connections.Load())
}

func TestAllowListReachesTheListener(t *testing.T) {
	p := newPrey(t)
	client := NewClient(ClientConfig{
		Timeout:    5 * time.Second,
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Resolver:   newNameserver(t, hostileNames()),
	})
	defer client.Close()
	urls := []string{"http://127.0.0.1:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://localhost:PORT/", "http://loop.test:PORT/"}
	if hasIPv6Loopback(t.Context()) {
		urls = append(urls, "http://[::1]:PORT/", "http://loop6.test:PORT/")
	}
	for _, raw := range urls {
		result := client.Deliver(t.Context(), Request{URL: strings.ReplaceAll(raw, "PORT", p.port)})
		assert.True(t, result.OK(), "%s: %v", raw, result.Err)
		assert.Equal(t, "caught", result.Body)
	}
	result := client.Deliver(t.Context(), Request{URL: "http://10.0.0.1:" + p.port})
	assert.ErrorIs(t, result.Err, ErrAddress, "what is not on the list stays refused")
}

func hasIPv6Loopback(ctx context.Context) bool {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}
