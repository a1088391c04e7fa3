package api_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
)

// What stands in X-Forwarded-For before a proxy's own word was said by the client.
func TestTheAddressOfAClientBehindProxies(t *testing.T) {
	behind := func(list ...string) setting { return func(_ *world, c *api.Config) { c.TrustedProxies = list } }
	for _, c := range []struct {
		proxies  []string
		sent, ip string
	}{
		{nil, "203.0.113.9", "127.0.0.1"},
		{[]string{"10.0.0.0/8"}, "203.0.113.9", "127.0.0.1"},
		{[]string{"127.0.0.1"}, "203.0.113.9", "203.0.113.9"},
		{[]string{"127.0.0.1"}, "198.51.100.1, 203.0.113.9", "203.0.113.9"},
		{[]string{"127.0.0.0/8", "10.0.0.0/8"}, "198.51.100.1, 203.0.113.9,10.1.2.3", "203.0.113.9"},
		{[]string{"127.0.0.0/8", "10.0.0.0/8"}, "10.0.0.1", "10.0.0.1"},
		{[]string{"127.0.0.1"}, "", "127.0.0.1"},
		{[]string{"127.0.0.1"}, "203.0.113.9, <script>", "127.0.0.1"},
		{[]string{"127.0.0.1"}, "2001:db8::1", "2001:db8::1"},
	} {
		w := start(t, behind(c.proxies...))
		w.do("GET", "/api/v1/nothing", headers{"X-Forwarded-For", c.sent}, nil)
		require.Contains(t, w.log.String(), fmt.Sprintf(`"ip":%q`, c.ip), "%v %s", c.proxies, c.sent)
	}
	w := start(t, behind("127.0.0.1"))
	busy := 0
	for i := range 130 {
		if w.do("GET", "/link/x", headers{"X-Forwarded-For", fmt.Sprintf("198.51.100.%d, 203.0.113.9", i)}, nil).status == 429 {
			busy++
		}
	}
	require.Equal(t, 10, busy, "an address is one, whatever it says")
}
