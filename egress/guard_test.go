package egress

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestGuardCheck(t *testing.T) {
	g := NewGuard(nil)
	for _, addr := range []string{"1.1.1.1", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00:1450::1"} {
		assert.NoError(t, g.Check(netip.MustParseAddr(addr)), addr)
	}
	for _, addr := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255",
		"168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
		"192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
		"255.255.255.255",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:168.63.129.16",
		"64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:db8::1",
		"2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
		"2606:4700::1%eth0", "fec0::1", "ff02::1",
	} {
		assert.ErrorIs(t, g.Check(netip.MustParseAddr(addr)), ErrAddress, addr)
	}
	assert.ErrorIs(t, g.Check(netip.Addr{}), ErrAddress, "no address at all")
}

func TestGuardAllowListWins(t *testing.T) {
	allow, err := ParseCIDRs("127.0.0.0/8, 10.1.2.3 ,fe80::/10,64:ff9b::/96,")
	require.NoError(t, err)
	g := NewGuard(allow)
	for _, addr := range []string{"127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "fe80::1%eth0", "64:ff9b::808:808", "1.1.1.1"} {
		assert.NoError(t, g.Check(netip.MustParseAddr(addr)), addr)
	}
	for _, addr := range []string{"10.1.2.4", "::1", "64:ff9b:1::1"} {
		assert.ErrorIs(t, g.Check(netip.MustParseAddr(addr)), ErrAddress, addr)
	}
}

func TestParseCIDRs(t *testing.T) {
	got, err := ParseCIDRs("10.9.8.7/8,::1")
	require.NoError(t, err)
	assert.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}, got)

	for _, text := range []string{"10.0.0.0/33", "localhost", "10.0.0.0-10.0.0.9", "fe80::1%eth0", "::ffff:10.0.0.0/104"} {
		_, err := ParseCIDRs(text)
		assert.ErrorContains(t, err, text)
	}
}

func TestGuardControl(t *testing.T) {
	g := NewGuard(nil)
	assert.NoError(t, g.Control("tcp4", "1.1.1.1:443", nil))
	assert.ErrorIs(t, g.Control("tcp4", "127.0.0.1:443", nil), ErrAddress)
	assert.ErrorIs(t, g.Control("udp4", "1.1.1.1:443", nil), ErrAddress)
	assert.ErrorIs(t, g.Control("unix", "/tmp/socket", nil), ErrAddress)
}

func TestCheckURL(t *testing.T) {
	g := NewGuard(nil)
	for _, raw := range []string{
		"https://example.com", "http://example.com:8080/hook?token=x", "https://[2606:4700::1111]/", "HTTPS://EXAMPLE.com./x",
		"https://1.1.1.1/", "https://bücher.example/", "https://a_b.example.com/", "https://intranet/",
	} {
		assert.NoError(t, g.CheckURL(raw), raw)
	}
	for raw, want := range map[string]string{
		"":                                     "http:// or https://",
		"example.com":                          "http:// or https://",
		"ftp://example.com":                    "http:// or https://",
		"file:///etc/passwd":                   "http:// or https://",
		"//example.com":                        "http:// or https://",
		"http:example.com":                     "no host",
		"https://":                             "no host",
		"https://:443/":                        "no host",
		"https://u:p@example.com/":             "user name or password",
		"https://example.com/#x":               "fragment",
		"https://example.com/#":                "fragment",
		"https://example.com:0/":               "port",
		"https://example.com:65536/":           "port",
		"https://example.com:/":                "port",
		"https://example.com:http/":            "not valid",
		"https://exa mple.com/":                "not valid",
		"https://example.com/\r\nX: y":         "not valid",
		"https://example.com/a b":              "white space",
		`https://example.com\@evil.com/`:       "not valid",
		"https://a..b/":                        "empty part",
		"https://127.0.0.1/":                   "not allowed",
		"https://[::1]/":                       "not allowed",
		"https://[fe80::1%25eth0]/":            "not allowed",
		"https://localhost/":                   "not allowed",
		"https://LOCALHOST./":                  "not allowed",
		"https://x.localhost/":                 "not allowed",
		"https://2130706433/":                  "neither a name",
		"https://0x7f000001/":                  "neither a name",
		"https://127.1/":                       "neither a name",
		"https://0177.0.0.1/":                  "neither a name",
		"https://127.0.0.1./":                  "neither a name",
		"https://" + strings.Repeat("a", 2048): "longer",
	} {
		assert.ErrorContains(t, g.CheckURL(raw), want, "%.60q", raw)
	}

	loopback := NewGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	assert.NoError(t, loopback.CheckURL("http://localhost:8080/"))
	assert.NoError(t, loopback.CheckURL("http://127.0.0.1:8080/"))
	assert.Error(t, loopback.CheckURL("http://10.0.0.1/"))
}

func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"", "https://example.com/", "http://127.0.0.1", "http://[::1%25lo]:80/", "http://0x7f.1/", "https://%31%32%37.0.0.1/",
		"https://a:b@c/#d", "http://①②⑦.⓪.⓪.①/", "http://\x00/",
	} {
		f.Add(seed)
	}
	g := NewGuard(nil)
	f.Fuzz(func(t *testing.T, raw string) {
		if g.CheckURL(raw) != nil {
			return
		}
		// What is accepted can be requested, and an address in it is a public one.
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, raw, nil)
		if err != nil {
			t.Fatalf("%q is accepted and then is no request: %v", raw, err)
		}
		if addr, err := netip.ParseAddr(req.URL.Hostname()); err == nil && g.Check(addr) != nil {
			t.Fatalf("%q is accepted and leads to %v", raw, addr)
		}
	})
}
