package egress

import (
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kurir/egress/egresstest"
)

// onlyPublic lets through what egresstest serves.
func onlyPublic() *Guard {
	return NewGuard([]netip.Prefix{netip.MustParsePrefix(egresstest.Public + "/32")})
}

func TestRedirectsReachNothing(t *testing.T) {
	p := egresstest.NewPrey(t)
	base := egresstest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader([]int{301, 302, 303, 307, 308}[len(r.URL.Query().Get("to"))%5])
	})
	client := onlyPublic().HTTPClient(ClientConfig{Timeout: patience, MaxRedirects: 3, Resolver: egresstest.Nameserver(t, egresstest.Names())})
	for _, raw := range p.Hostile(t) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base, nil)
		require.NoError(t, err)
		q := req.URL.Query()
		q.Set("to", raw)
		req.URL.RawQuery = q.Encode()
		resp, err := client.Do(req)
		if err == nil { // a Location that is no URL of its own leads back to where it came from
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			assert.NotContains(t, string(body), "caught", raw)
		}
	}
	assert.Zero(t, p.Connections(), "connections to the listener")
}

func TestRedirects(t *testing.T) {
	var hops atomic.Int64
	base := egresstest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Empty(t, r.Header.Get("Referer"))
		assert.Empty(t, r.Header.Get("Cookie"))
		hops.Add(1)
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		if r.URL.Path == "/end" {
			_, _ = io.WriteString(w, "arrived")
			return
		}
		if r.URL.Path == "/once" {
			http.Redirect(w, r, "/end", http.StatusFound)
			return
		}
		http.Redirect(w, r, "/loop", http.StatusFound)
	})
	client := onlyPublic().HTTPClient(ClientConfig{Timeout: patience, MaxRedirects: 3})
	get := func(path string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		require.NoError(t, err)
		return client.Do(req)
	}
	resp, err := get("/once?token=x")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "arrived", string(body))
	hops.Store(0)
	_, err = get("/loop")
	require.ErrorIs(t, err, ErrRedirects)
	require.EqualValues(t, 4, hops.Load())
}
