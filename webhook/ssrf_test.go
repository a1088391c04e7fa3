package webhook

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kurir/egress"
	"kurir/egress/egresstest"
)

func TestHostileURLsReachNothing(t *testing.T) {
	p := egresstest.NewPrey(t)
	client := NewClient(ClientConfig{Timeout: 5 * time.Second, Resolver: egresstest.Nameserver(t, egresstest.Names())})
	defer client.Close()

	urls := p.Hostile(t)
	require.Greater(t, len(urls), 90)
	for _, raw := range urls {
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
	assert.Zero(t, p.Connections(), "connections to the listener")
}

func TestNameThatChangesItsAnswerReachesNothing(t *testing.T) {
	p := egresstest.NewPrey(t)
	// The first connection may go to an address that the operator allows but nobody answers at; then the name is
	// bound anew.
	client := NewClient(ClientConfig{
		Timeout:    5 * time.Second,
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.9.9.9/32")},
		Resolver:   egresstest.Nameserver(t, map[string][]netip.Addr{"rebind.test": egresstest.Addrs("127.9.9.9", "127.0.0.1")}),
	})
	defer client.Close()
	url := "http://rebind.test:" + p.Port + "/"

	first := client.Deliver(t.Context(), Request{URL: url})
	require.True(t, first.OK(), "the allowed address is reached: %v", first.Err)
	client.Close() // the next delivery has to dial

	second := client.Deliver(t.Context(), Request{URL: url})
	assert.ErrorIs(t, second.Err, egress.ErrAddress)
	assert.Equal(t, int64(1), p.Connections())
}

func TestAllowListReachesTheListener(t *testing.T) {
	p := egresstest.NewPrey(t)
	client := NewClient(ClientConfig{
		Timeout:    5 * time.Second,
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Resolver:   egresstest.Nameserver(t, egresstest.Names()),
	})
	defer client.Close()
	urls := []string{"http://127.0.0.1:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://localhost:PORT/", "http://loop.test:PORT/"}
	if egresstest.HasIPv6Loopback(t.Context()) {
		urls = append(urls, "http://[::1]:PORT/", "http://loop6.test:PORT/")
	}
	for _, raw := range urls {
		result := client.Deliver(t.Context(), Request{URL: strings.ReplaceAll(raw, "PORT", p.Port)})
		assert.True(t, result.OK(), "%s: %v", raw, result.Err)
		assert.Equal(t, "caught", result.Body)
	}
	result := client.Deliver(t.Context(), Request{URL: "http://10.0.0.1:" + p.Port})
	assert.ErrorIs(t, result.Err, egress.ErrAddress, "what is not on the list stays refused")
}
