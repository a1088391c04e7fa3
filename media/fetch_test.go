package media_test

import (
	"bytes"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kurir/egress"
	"kurir/egress/egresstest"
	"kurir/fault"
	"kurir/media"
)

// onlyPublic lets through what egresstest serves.
func onlyPublic() *egress.Guard {
	return egress.NewGuard([]netip.Prefix{netip.MustParsePrefix(egresstest.Public + "/32")})
}

func TestFetchOfHostileURLsReachesNothing(t *testing.T) {
	s, p := newShelf(t), egresstest.NewPrey(t)
	fetcher := media.NewFetcher(s.Store, egress.NewGuard(nil), media.FetchConfig{Timeout: patience, Resolver: egresstest.Nameserver(t, egresstest.Names())})
	through := media.NewFetcher(s.Store, onlyPublic(), media.FetchConfig{Timeout: patience, Resolver: egresstest.Nameserver(t, egresstest.Names())})
	redirect := egresstest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.WriteHeader(http.StatusFound)
	})
	urls := p.Hostile(t)
	require.Greater(t, len(urls), 90)
	for _, raw := range urls {
		for _, fetch := range []func() error{
			func() error { _, err := fetcher.Fetch(t.Context(), s.user.ID, raw, ""); return err },
			func() error {
				_, err := through.Fetch(t.Context(), s.user.ID, redirect+"/?to="+url.QueryEscape(raw), "")
				return err
			},
		} {
			err := fetch()
			require.Error(t, err, raw)
			var f *fault.Error
			require.ErrorAs(t, err, &f, raw)
			assert.Contains(t, []string{"media_url_refused", "media_unreachable"}, f.Code, raw)
			assert.NotContains(t, f.Sentence, "127.", "the sentence names no address")
		}
	}
	assert.Zero(t, p.Connections(), "connections to the listener")
	assert.Empty(t, s.files())
}

func TestFetchOfANameThatChangesItsAnswer(t *testing.T) {
	s, p := newShelf(t), egresstest.NewPrey(t)
	fetcher := media.NewFetcher(s.Store, onlyPublic(), media.FetchConfig{Timeout: patience,
		Resolver: egresstest.Nameserver(t, map[string][]netip.Addr{"rebind.test": egresstest.Addrs(egresstest.Public, "127.0.0.1")})})
	_, err := fetcher.Fetch(t.Context(), s.user.ID, "http://rebind.test:"+p.Port+"/", "")
	require.NoError(t, err, "the allowed address is reached")
	_, err = fetcher.Fetch(t.Context(), s.user.ID, "http://rebind.test:"+p.Port+"/", "")
	require.Equal(t, "media_url_refused", fault.Code(err), "%v", err)
	require.Equal(t, int64(1), p.Connections())
}

func TestFetch(t *testing.T) {
	s := newShelf(t)
	hang := make(chan struct{})
	base := egresstest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Empty(t, r.Header.Get("Cookie"))
		assert.Empty(t, r.Header.Get("Authorization"))
		assert.Empty(t, r.Header.Get("Referer"))
		http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
		status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		switch {
		case err == nil:
			w.Header().Set("Retry-After", "7")
			if status == http.StatusTooManyRequests {
				w.Header().Set("Retry-After", time.Now().Add(30*time.Minute).UTC().Format(http.TimeFormat))
			}
			w.WriteHeader(status)
		case r.URL.Path == "/redirect":
			http.Redirect(w, r, "/image", http.StatusFound)
		case r.URL.Path == "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case r.URL.Path == "/image":
			w.Header().Set("Content-Type", "text/html") // which is not believed
			_, _ = w.Write(png)
		case r.URL.Path == "/large": // as it says
			w.Header().Set("Content-Length", strconv.Itoa(200<<20))
			_, _ = w.Write(png)
		case r.URL.Path == "/flood": // as it comes
			for w.(http.Flusher).Flush(); ; {
				if _, err := w.Write(bytes.Repeat(png, 20)); err != nil {
					return
				}
			}
		case r.URL.Path == "/short":
			w.Header().Set("Content-Length", strconv.Itoa(len(png)+1))
			_, _ = w.Write(png)
		case r.URL.Path == "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(png)
		case r.URL.Path == "/slow":
			w.(http.Flusher).Flush()
			<-hang
		case r.URL.Path == "/silent":
			<-hang
		}
	})
	defer close(hang)
	fetcher := media.NewFetcher(s.Store, onlyPublic(), media.FetchConfig{Timeout: patience})
	for _, path := range []string{"/image", "/redirect"} {
		m, err := fetcher.Fetch(t.Context(), s.user.ID, base+path, "image")
		require.NoError(t, err, path)
		require.Equal(t, "image/png", m.MIMEType)
		require.Equal(t, string(png), s.read(m, 0, -1))
	}
	before := s.files()
	hurried := media.NewFetcher(s.Store, onlyPublic(), media.FetchConfig{Timeout: 300 * time.Millisecond})
	for _, c := range []struct {
		path, code string
		again      bool
	}{
		{"/404", "media_url_refused", false}, {"/403", "media_url_refused", false}, {"/410", "media_url_refused", false}, {"/204", "media_url_refused", false},
		{"/500", "media_unreachable", true}, {"/503", "media_unreachable", true}, {"/429", "media_unreachable", true}, {"/408", "media_unreachable", true},
		{"/loop", "media_url_refused", false}, {"/gzip", "media_url_refused", false},
		{"/large", "media_too_large", false}, {"/flood", "media_too_large", false}, {"/empty", "media_empty", false},
		{"/short", "media_unreachable", true}, {"/slow", "media_unreachable", true}, {"/silent", "media_unreachable", true},
	} {
		by := fetcher
		if c.path == "/slow" || c.path == "/silent" {
			by = hurried
		}
		_, err := by.Fetch(t.Context(), s.user.ID, base+c.path, "image")
		require.Equal(t, c.code, fault.Code(err), "%s: %v", c.path, err)
		require.Equal(t, c.again, fault.Of(err) == fault.Unavailable, c.path)
	}
	_, err := fetcher.Fetch(t.Context(), s.user.ID, base+"/image", "video")
	require.Equal(t, "media_type_not_allowed", fault.Code(err))
	_, err = fetcher.Fetch(t.Context(), s.user.ID, "http://"+egresstest.Public+":1/", "image")
	require.Equal(t, "media_unreachable", fault.Code(err))
	_, err = fetcher.Fetch(t.Context(), s.user.ID, base+"/503", "image")
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	require.Equal(t, 7*time.Second, f.RetryAfter)
	_, err = fetcher.Fetch(t.Context(), s.user.ID, base+"/429", "image")
	require.ErrorAs(t, err, &f)
	require.InDelta(t, 1800, f.RetryAfter.Seconds(), 30)
	require.Equal(t, before, s.files(), "nothing of what failed is kept")
}
