package api

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClientAddress(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tt := range []struct{ peer, chain, want string }{
		{"203.0.113.1", "", "203.0.113.1"},
		{"203.0.113.1", "198.51.100.1", "203.0.113.1"}, // nobody asked him
		{"10.0.0.1", "", "10.0.0.1"},
		{"10.0.0.1", "198.51.100.1", "198.51.100.1"},
		{"10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"},
		{"10.0.0.1", "10.9.9.9, 198.51.100.1", "198.51.100.1"},
		{"10.0.0.1", "198.51.100.1, 10.0.0.2, 10.0.0.3", "198.51.100.1"},
		{"10.0.0.1", "10.0.0.2,10.0.0.3", "10.0.0.2"},
		{"10.0.0.1", "198.51.100.1:4711", "198.51.100.1"},
		{"10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"},
		{"10.0.0.1", "[2001:db8::1]", "2001:db8::1"},
		{"fd00::1", `"2001:db8::1"`, "2001:db8::1"},
		{"fd00::1", "2001:db8::1%eth0", "2001:db8::1"},
		{"10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"},
		{"10.0.0.1", "::ffff:10.0.0.2, 198.51.100.7, ::ffff:10.0.0.3", "198.51.100.7"},
		{"10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"},
		{"10.0.0.1", "198.51.100.1, nonsense, 10.0.0.2", "10.0.0.2"},
		{"10.0.0.1", "198.51.100.1,", "10.0.0.1"},
		{"10.0.0.1", ",,,", "10.0.0.1"},
		{"10.0.0.1", "<script>, 198.51.100.1", "198.51.100.1"},
		{"10.0.0.1", strings.Repeat("10.0.0.1,", 500) + "10.0.0.1", "10.0.0.1"},
	} {
		var chain []string
		if tt.chain != "" {
			chain = strings.Split(tt.chain, ",")
		}
		require.Equal(t, tt.want, clientAddress(netip.MustParseAddr(tt.peer), chain, trusted).String(), "%s from %s", tt.chain, tt.peer)
	}
	require.Equal(t, "198.51.100.1", clientAddress(netip.MustParseAddr("198.51.100.1"), []string{"1.2.3.4"}, nil).String())
	require.False(t, clientAddress(netip.Addr{}, []string{"1.2.3.4"}, trusted).IsValid(), "a socket that is no TCP")
	for addr, want := range map[string]string{"198.51.100.1": "198.51.100.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "::1": "::/64"} {
		require.Equal(t, want, neighbours(netip.MustParseAddr(addr)))
	}
	require.NotEmpty(t, neighbours(netip.Addr{}))
}
