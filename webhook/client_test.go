package webhook

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kurir/egress/egresstest"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func newTestClient(t *testing.T, cfg ClientConfig) *Client {
	t.Helper()
	cfg.AllowCIDRs = loopback
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	client := NewClient(cfg)
	t.Cleanup(client.Close)
	return client
}

func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// raw serves bytes that no HTTP server would send, one answer per connection.
func raw(t *testing.T, answer string) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var conns sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); conns.Wait() })
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer func() { _ = conn.Close() }()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
					return
				}
				_, _ = io.WriteString(conn, answer)
				if strings.HasSuffix(answer, "\n") { // a whole answer: the client ends the connection
					_, _ = io.Copy(io.Discard, conn)
				}
			})
		}
	})
	return "http://" + listener.Addr().String()
}

func TestDeliver(t *testing.T) {
	var got http.Header
	var body []byte
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		assert.Equal(t, http.MethodPost, r.Method)
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte("thanks"))
	})
	secret := NewSecret()
	envelope := Envelope{ID: "0190", Type: EventTest, Timestamp: time.Now()}
	signed, err := Sign([]string{secret}, envelope.ID, time.Now(), envelope.Body())
	require.NoError(t, err)

	result := newTestClient(t, ClientConfig{}).Deliver(t.Context(), Request{
		URL:     url + "/hook?x=1",
		Headers: map[string]string{"Authorization": "Bearer abc", "Webhook-Id": "forged", "content-type": "text/plain"},
		Signed:  signed,
		Body:    envelope.Body(),
	})

	require.True(t, result.OK(), "%v", result.Err)
	assert.Equal(t, http.StatusAccepted, result.Status)
	assert.Equal(t, "thanks", result.Body)
	assert.Positive(t, result.Duration)
	assert.Equal(t, "Kurir-Webhook/1", got.Get("User-Agent"))
	assert.Equal(t, "application/json", got.Get("Content-Type"))
	assert.Equal(t, "Bearer abc", got.Get("Authorization"))
	assert.Empty(t, got.Values("Idempotency-Key"), "a mark for net/http, never sent")
	assert.Empty(t, got.Values("Accept-Encoding"))

	verifier, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	assert.NoError(t, verifier.Verify(body, got), "what arrives verifies")
}

func TestDeliverByStatus(t *testing.T) {
	tests := []struct {
		status     int
		retryAfter string
		want       Result
		err        string
	}{
		{200, "60", Result{}, ""},
		{204, "", Result{}, ""},
		{302, "", Result{}, "answered with status 302; redirects are not followed"},
		{308, "", Result{}, "answered with status 308; redirects are not followed"},
		{400, "", Result{}, "answered with status 400"},
		{410, "", Result{Gone: true}, "answered with status 410"},
		{429, "60", Result{RetryAfter: time.Minute}, "answered with status 429"},
		{503, "999999", Result{RetryAfter: 24 * time.Hour}, "answered with status 503"},
		{503, "soon", Result{}, "answered with status 503"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status, tt.retryAfter), func(t *testing.T) {
			var requests atomic.Int64
			url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.Header().Set("Location", "/elsewhere")
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(tt.status)
			})
			got := newTestClient(t, ClientConfig{}).Deliver(t.Context(), Request{URL: url})
			assert.Equal(t, tt.status, got.Status)
			assert.Equal(t, tt.want.Gone, got.Gone)
			assert.Equal(t, tt.want.RetryAfter, got.RetryAfter)
			assert.Equal(t, tt.err == "", got.OK())
			if tt.err != "" {
				assert.EqualError(t, got.Err, tt.err)
			}
			assert.Equal(t, int64(1), requests.Load(), "redirects are never followed")
		})
	}
}

func TestParseRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "120": 2 * time.Minute, " 5 ": 5 * time.Second, "9223372036854775807": 24 * time.Hour,
		"1.5": 0, "99999999999999999999": 24 * time.Hour, "-99999999999999999999": 0, now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat): 0, now.AddDate(1, 0, 0).Format(http.TimeFormat): 24 * time.Hour,
	} {
		assert.Equal(t, want, parseRetryAfter(value, now), "%q", value)
	}
}

func TestDeliverKeepsABoundedCleanAnswer(t *testing.T) {
	answer := "\x00\xff" + strings.Repeat("é", 100_000)
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
	got := newTestClient(t, ClientConfig{}).Deliver(t.Context(), Request{URL: url})
	require.True(t, got.OK())
	assert.LessOrEqual(t, len(got.Body), 4096)
	assert.True(t, utf8.ValidString(got.Body))
	assert.Equal(t, strings.Repeat("é", 2047), got.Body)
}

func TestDeliverFailureSentences(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	https := httptest.NewUnstartedServer(http.NotFoundHandler())
	https.Config.ErrorLog = log.New(io.Discard, "", 0)
	https.StartTLS()
	t.Cleanup(https.Close)
	hangs := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server notices the client's leaving
		<-r.Context().Done()
	})

	for name, tt := range map[string]struct{ url, want string }{
		"refused":         {closed.URL, "connection refused"},
		"not found":       {"http://nowhere.test/", "host not found"},
		"hangs":           {hangs, "timed out"},
		"stops":           {raw(t, "HTTP/1.1 200 OK\r\n"), "timed out"},
		"closes":          {raw(t, ""), "connection closed before an answer came"},
		"breaks off":      {raw(t, "HTTP/1.1 200 OK\r\nX: "), "connection closed before an answer came"},
		"not HTTP":        {raw(t, "SSH-2.0-OpenSSH_9.6\r\n\r\n"), "no valid HTTP answer"},
		"endless headers": {raw(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"), "no valid HTTP answer"},
		"unknown CA":      {https.URL, "TLS: certificate is signed by an unknown authority"},
		"no TLS":          {strings.Replace(serve(t, nil), "http:", "https:", 1), "TLS: endpoint does not speak TLS"},
		"URL":             {"ftp://example.com", "URL must begin with http:// or https://"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute // a busy machine takes its time to read the system's roots
			if tt.want == "timed out" {
				timeout = 500 * time.Millisecond
			}
			client := newTestClient(t, ClientConfig{Timeout: timeout, Resolver: egresstest.Nameserver(t, nil)})
			got := client.Deliver(context.Background(), Request{URL: tt.url, Body: []byte("{}")})
			assert.False(t, got.OK())
			assert.False(t, got.Aborted)
			assert.EqualError(t, got.Err, tt.want, "%v", got.Err)
		})
	}
}

func TestDeliverTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.Equal(t, 1, r.ProtoMajor)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	client := newTestClient(t, ClientConfig{
		TLS:      &tls.Config{RootCAs: roots},
		Resolver: egresstest.Nameserver(t, map[string][]netip.Addr{"wrong.test": egresstest.Addrs("127.0.0.1")}),
	})
	assert.True(t, client.Deliver(t.Context(), Request{URL: server.URL}).OK())

	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	got := client.Deliver(t.Context(), Request{URL: "https://wrong.test:" + port})
	assert.EqualError(t, got.Err, "TLS: certificate is not valid for this host")
}

func TestDeliverIsNotHeldBySwitchingProtocols(t *testing.T) {
	url := raw(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	got := newTestClient(t, ClientConfig{Timeout: 500 * time.Millisecond}).Deliver(t.Context(), Request{URL: url})
	assert.Equal(t, 101, got.Status)
	assert.False(t, got.OK())
	assert.Less(t, got.Duration, 5*time.Second)
}

func TestDeliverIsNotHeldByAnEndlessAnswer(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1024))
		}
	})
	got := newTestClient(t, ClientConfig{}).Deliver(t.Context(), Request{URL: url})
	assert.True(t, got.OK(), "the status is the subscriber's word")
	assert.Less(t, got.Duration, 4*time.Second)
}

func TestDeliverAborted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	got := newTestClient(t, ClientConfig{}).Deliver(ctx, Request{URL: url})
	assert.True(t, got.Aborted)
	assert.ErrorIs(t, got.Err, context.Canceled)
	assert.EqualError(t, got.Err, "cancelled")
}

func TestDeliverIgnoresProxyOfTheEnvironment(t *testing.T) {
	var proxied atomic.Int64
	proxy := serve(t, func(http.ResponseWriter, *http.Request) { proxied.Add(1) })
	t.Setenv("HTTP_PROXY", proxy)
	t.Setenv("ALL_PROXY", proxy)
	client := newTestClient(t, ClientConfig{Resolver: egresstest.Nameserver(t, nil)})
	got := client.Deliver(t.Context(), Request{URL: "http://nowhere.test/"})
	assert.EqualError(t, got.Err, "host not found")
	assert.Zero(t, proxied.Load())
}

func TestFailureWrapsNoURL(t *testing.T) {
	client := newTestClient(t, ClientConfig{Resolver: egresstest.Nameserver(t, nil)})
	got := client.Deliver(t.Context(), Request{URL: "http://nowhere.test/?token=s3cret"})
	for err := got.Err; err != nil; {
		assert.NotContains(t, err.Error(), "s3cret")
		unwrapper, ok := err.(interface{ Unwrap() error })
		if !ok {
			break
		}
		err = unwrapper.Unwrap()
	}
}

func TestDeliverReusesConnections(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", keptBytes+drainedBytes/2))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()

	client := newTestClient(t, ClientConfig{})
	const side, each = 16, 50
	var wg sync.WaitGroup
	for range side {
		wg.Go(func() {
			for range each {
				assert.True(t, client.Deliver(t.Context(), Request{URL: server.URL}).OK())
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, connections.Load(), int64(2*side), "for %d deliveries", side*each)
}

func BenchmarkDeliver(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	client := NewClient(ClientConfig{AllowCIDRs: loopback})
	defer client.Close()
	secrets := []string{NewSecret()}
	body := Envelope{ID: "0190", Type: EventMessageReceived, Data: []byte(`{"text":"` + strings.Repeat("x", 500) + `"}`)}.Body()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			signed, _ := Sign(secrets, "0190", now, body)
			if r := client.Deliver(b.Context(), Request{URL: server.URL, Signed: signed, Body: body}); !r.OK() {
				b.Error(r.Err)
			}
		}
	})
}
