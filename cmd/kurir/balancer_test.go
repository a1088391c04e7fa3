package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// balancer spreads requests in turn over the servers that say they are ready, as an operator's does. It never repeats a
// request, so each failure of a server is one of its client's.
type balancer struct {
	url     string
	servers []*backend
	next    atomic.Uint64
}

type backend struct {
	url   *url.URL
	proxy *httputil.ReverseProxy
	ready atomic.Bool
	why   atomic.Pointer[string] // it was not ready when that was asked last
}

const readinessEvery = 200 * time.Millisecond

func newBalancer(t *testing.T, servers []string) *balancer {
	t.Helper()
	b := &balancer{}
	transport := &http.Transport{MaxIdleConnsPerHost: 128, IdleConnTimeout: 30 * time.Second}
	for _, server := range servers {
		to, err := url.Parse(server)
		require.NoError(t, err)
		b.servers = append(b.servers, &backend{url: to, proxy: &httputil.ReverseProxy{
			Transport: transport,
			Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				http.Error(w, fmt.Sprintf("balancer: %s: %v", to.Host, err), http.StatusBadGateway)
			},
		}})
	}
	ctx, stop := context.WithCancel(context.Background())
	var polling sync.WaitGroup
	for _, s := range b.servers {
		polling.Go(func() { s.poll(ctx) })
	}
	front := httptest.NewServer(b)
	t.Cleanup(func() { front.Close(); stop(); polling.Wait(); transport.CloseIdleConnections() })
	b.url = front.URL
	return b
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	turn := b.next.Add(1)
	for i := range b.servers {
		if s := b.servers[(turn+uint64(i))%uint64(len(b.servers))]; s.ready.Load() {
			s.proxy.ServeHTTP(w, r)
			return
		}
	}
	text := "balancer: no server is ready"
	for _, s := range b.servers {
		if why := s.why.Load(); why != nil {
			text += "; " + *why
		}
	}
	http.Error(w, text, http.StatusServiceUnavailable)
}

// poll asks for readiness until ctx ends, on a connection of its own each time.
func (s *backend) poll(ctx context.Context) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(readinessEvery)
	defer tick.Stop()
	for {
		why := s.ask(client)
		s.ready.Store(why == "")
		s.why.Store(&why)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ask returns why the server is not ready, "" if it is.
func (s *backend) ask(client *http.Client) string {
	began := time.Now()
	res, err := client.Get(s.url.String() + "/health/ready")
	if err != nil {
		return fmt.Sprintf("%s at %s: %v", s.url.Host, began.Format(time.TimeOnly), err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusOK {
		return ""
	}
	body, _ := io.ReadAll(res.Body)
	return fmt.Sprintf("%s at %s: %d %s", s.url.Host, began.Format(time.TimeOnly), res.StatusCode, body)
}

func TestBalancerUsesWhatIsReady(t *testing.T) {
	var served, unready [2]atomic.Int64
	var urls []string
	for i := range served {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/health/ready":
				served[i].Add(1)
			case unready[i].Load() > 0:
				unready[i].Add(1)
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
		defer server.Close()
		urls = append(urls, server.URL)
	}
	b := newBalancer(t, urls)
	ask := func() int {
		res, err := http.Get(b.url + "/anything")
		require.NoError(t, err)
		_ = res.Body.Close()
		return res.StatusCode
	}
	both := func() bool { return ask() == http.StatusOK && served[0].Load() > 0 && served[1].Load() > 0 }
	require.Eventually(t, both, 10*time.Second, time.Millisecond, "it should use both")

	unready[0].Store(1)
	require.Eventually(t, func() bool { return unready[0].Load() > 2 }, 10*time.Second, time.Millisecond)
	before := served[0].Load()
	for range 10 {
		require.Equal(t, http.StatusOK, ask())
	}
	require.Equal(t, before, served[0].Load(), "one that is not ready should get nothing")

	unready[1].Store(1)
	require.Eventually(t, func() bool { return ask() == http.StatusServiceUnavailable }, 10*time.Second, time.Millisecond)
	unready[0].Store(0)
	require.Eventually(t, func() bool { return ask() == http.StatusOK }, 10*time.Second, time.Millisecond)
}
