package egresstest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Prey is what a hostile URL is after: a listener on every address that this machine has.
type Prey struct {
	Port        string
	connections atomic.Int64
}

// NewPrey listens until the end of the test.
func NewPrey(t testing.TB) *Prey {
	t.Helper()
	p := &Prey{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("caught"))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.connections.Add(1)
		}
	}
	// All addresses rather than 127.0.0.1 alone, so that ::1, 0.0.0.0, 127.8.8.8 and those of other interfaces would
	// reach it too.
	listener, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	p.Port = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	return p
}

// Connections is how many were made, whoever made them.
func (p *Prey) Connections() int64 { return p.connections.Load() }

// Hostile are the URLs that are after this prey.
func (p *Prey) Hostile(t testing.TB) []string {
	t.Helper()
	var urls []string
	for _, raw := range append(ownAddresses(t), hostile...) {
		urls = append(urls, strings.ReplaceAll(raw, "PORT", p.Port))
	}
	return urls
}

// ownAddresses are those of this machine's interfaces that no one outside could reach. (A public address of our own is
// one that anybody may connect to.)
func ownAddresses(t testing.TB) (urls []string) {
	t.Helper()
	list, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range list {
		prefix, err := netip.ParsePrefix(a.String())
		require.NoError(t, err)
		if addr := prefix.Addr(); addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() {
			urls = append(urls, fmt.Sprintf("http://%s/", net.JoinHostPort(addr.String(), "PORT")))
		}
	}
	return urls
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
	"http://[::ffff:0x7f.0.0.1]:PORT/", "http://[::ffff:127.0.0.1%25lo]:PORT/", "http://0x7F.0x0.0x0.0x1:PORT/",
	"http://017700000001:PORT/", "http://0b01111111.0.0.1:PORT/", "http://127.0.0.1:PORT@example.com:PORT/",
	"http://user:secret@localhost:PORT/", "http://example.com:PORT@localhost:PORT/", "http://localhost%2eexample@127.1:PORT/",
	"http://[::1]:PORT@example.test/", "http://loop.test..:PORT/", "http://.localhost:PORT/", "http://127.0.0.1\t:PORT/",
	"dict://127.0.0.1:PORT/", "ftp://127.0.0.1:PORT/", "ldap://127.0.0.1:PORT/", "data:text/plain,caught", "javascript:alert(1)",
	"http://198.18.0.1:PORT/", "http://192.88.99.1:PORT/", "http://240.0.0.1:PORT/", "http://[fec0::1]:PORT/",
	"http://[ff02::1%25lo]:PORT/", "http://[100::1]:PORT/", "http://cgnat.test:PORT/", "http://broadcast.test:PORT/",
	"http://teredo.test:PORT/", "http://linklocal.test:PORT/",
}

// Addrs parses addresses.
func Addrs(texts ...string) []netip.Addr {
	var parsed []netip.Addr
	for _, text := range texts {
		parsed = append(parsed, netip.MustParseAddr(text))
	}
	return parsed
}

// Names lead where the hostile URLs want them to.
func Names() map[string][]netip.Addr {
	return map[string][]netip.Addr{
		"loop.test":      Addrs("127.0.0.1"),
		"loop6.test":     Addrs("::1"),
		"mapped.test":    Addrs("::ffff:127.0.0.1"),
		"zero.test":      Addrs("0.0.0.0"),
		"private.test":   Addrs("10.0.0.1"),
		"metadata.test":  Addrs("169.254.169.254"),
		"nat64.test":     Addrs("64:ff9b::7f00:1"),
		"sixtofour.test": Addrs("2002:7f00:1::1"),
		"cgnat.test":     Addrs("100.64.0.1"),
		"broadcast.test": Addrs("255.255.255.255"),
		"teredo.test":    Addrs("2001:0:7f00:1::1"),
		"linklocal.test": Addrs("fe80::1"),
		"mixed.test":     Addrs("::", "127.0.0.1"),
	}
}

// HasIPv6Loopback reports whether this machine has ::1.
func HasIPv6Loopback(ctx context.Context) bool {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}
