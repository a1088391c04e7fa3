package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"kurir/egress"
)

const (
	// DefaultTimeout bounds a delivery from the wait for a connection to the last byte of the answer.
	DefaultTimeout = 15 * time.Second
	// DefaultMaxConnsPerHost is several webhooks of MaxWidth at one host, as automation services are.
	DefaultMaxConnsPerHost = 512

	userAgent = "Kurir-Webhook/1"

	// keptBytes of an answer are kept for the tenant to see; drainedBytes more are read so that the connection can be
	// used again, and a longer answer costs the connection.
	keptBytes    = 4 << 10
	drainedBytes = 64 << 10
	headerBytes  = 32 << 10

	// maxIdleConns bounds the sockets that idle endpoints keep open in one runner.
	maxIdleConns = 4096
	idleTimeout  = 60 * time.Second
)

// ClientConfig says how deliveries are sent. Zero fields take the defaults.
type ClientConfig struct {
	AllowCIDRs      []netip.Prefix // reachable besides the public internet
	Timeout         time.Duration  // of a whole delivery
	MaxConnsPerHost int            // in use and idle; deliveries beyond it wait, within their timeout
	TLS             *tls.Config    // nil: the system's roots
	Resolver        *net.Resolver  // nil: the system's
}

// Client delivers webhooks. It follows no redirects, uses no proxy, keeps no cookies and reaches no address that its
// guard refuses. It is safe for concurrent use.
type Client struct {
	http  *http.Client
	guard *egress.Guard
}

// NewClient makes a client with its own pool of connections.
func NewClient(cfg ClientConfig) *Client {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.MaxConnsPerHost <= 0 {
		cfg.MaxConnsPerHost = DefaultMaxConnsPerHost
	}
	guard := egress.NewGuard(cfg.AllowCIDRs)
	return &Client{
		guard: guard,
		http: &http.Client{
			Transport:     newTransport(cfg, guard),
			Timeout:       cfg.Timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func newTransport(cfg ClientConfig, guard *egress.Guard) *http.Transport {
	tlsConfig := &tls.Config{}
	if cfg.TLS != nil {
		tlsConfig = cfg.TLS.Clone()
	}
	tlsConfig.MinVersion = tls.VersionTLS12
	tlsConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1024)

	// HTTP/1.1 only: one delivery per connection, so that a stuck one holds up no other, and the bounds on what an
	// endpoint can make us read stay simple.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil, // a proxy would dial for us, past the guard
		DialContext:            guard.Dialer(cfg.Timeout, cfg.Resolver).DialContext,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    cfg.Timeout,
		Protocols:              protocols,
		MaxConnsPerHost:        cfg.MaxConnsPerHost,
		MaxIdleConnsPerHost:    cfg.MaxConnsPerHost, // fewer would close and dial again at every peak
		MaxIdleConns:           max(maxIdleConns, cfg.MaxConnsPerHost),
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: headerBytes,
		DisableCompression:     true, // the answer is kept as it comes, and nothing unpacks into more than was read
	}
}

// Guard is what decides where this client may go.
func (c *Client) Guard() *egress.Guard { return c.guard }

// Close closes the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Request is one attempt at a delivery.
type Request struct {
	URL     string
	Headers map[string]string // the tenant's own, as CheckHeaders accepts them
	Signed  http.Header       // from Sign; wins over Headers
	Body    []byte            // JSON
	Trace   string            // traceparent of the W3C; empty: none, unless Headers have one
}

// Result is the outcome of an attempt.
type Result struct {
	Status     int           // 0 where no answer came
	Body       string        // the first 4 KB of the answer, valid UTF-8 without NUL
	Duration   time.Duration // from the call until the answer was read
	RetryAfter time.Duration // what a failing endpoint asked for, at most 24 h; 0 if nothing
	Gone       bool          // 410: the subscriber is no more
	Aborted    bool          // the caller's context ended before the answer: not the endpoint's fault
	Err        error         // nil if OK; its text may be shown to the tenant, what it wraps is for the log
}

// OK reports whether the subscriber took the delivery: 2xx. A redirect is not that.
func (r Result) OK() bool { return r.Err == nil && r.Status >= 200 && r.Status <= 299 }

// Deliver makes one attempt and returns within the client's timeout.
func (c *Client) Deliver(ctx context.Context, r Request) Result {
	start := time.Now()
	result := c.deliver(ctx, r)
	result.Duration = time.Since(start)
	return result
}

func (c *Client) deliver(ctx context.Context, r Request) Result {
	if err := c.guard.CheckURL(r.URL); err != nil {
		return Result{Err: &Failure{sentence: err.Error(), cause: err}}
	}
	req, err := newRequest(ctx, r)
	if err != nil {
		return Result{Err: &Failure{sentence: "URL is not valid", cause: err}}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Result{Err: explain(ctx, err), Aborted: ctx.Err() != nil}
	}
	defer func() { _ = resp.Body.Close() }()

	result := Result{
		Status: resp.StatusCode,
		Body:   readBody(resp),
		Gone:   resp.StatusCode == http.StatusGone,
		Err:    statusFailure(resp.StatusCode),
	}
	if result.Err != nil {
		result.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return result
}

func newRequest(ctx context.Context, r Request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	// An empty list is never sent, and tells net/http that it may send the request again if an idle connection turns
	// out to be closed: subscribers deduplicate by webhook-id.
	req.Header["Idempotency-Key"] = []string{}
	req.Header.Set("User-Agent", userAgent)
	addHeaders(req.Header, r.Headers)
	for name, values := range r.Signed {
		req.Header[name] = values
	}
	if r.Trace != "" {
		req.Header.Set("Traceparent", r.Trace)
		req.Header.Del("Tracestate") // belongs to another traceparent
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// readBody returns what is kept of the answer. The status is the subscriber's word already: a text that breaks off
// changes nothing. After 101 Switching Protocols the body is the bare connection, which no timeout would end.
func readBody(resp *http.Response) string {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return ""
	}
	kept, _ := io.ReadAll(io.LimitReader(resp.Body, keptBytes))
	_, _ = io.CopyN(io.Discard, resp.Body, drainedBytes)
	return cleanText(kept)
}

// cleanText makes an answer fit for a text column and for JSON. The cut at keptBytes may fall into a character.
func cleanText(b []byte) string {
	return strings.ToValidUTF8(strings.ReplaceAll(string(b), "\x00", ""), "")
}

// parseRetryAfter reads both forms of the header, seconds and a date; what it cannot read is 0, and what is beyond the
// bound, or beyond all numbers, is the bound.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	seconds, err := strconv.ParseInt(value, 10, 64)
	if err == nil || errors.Is(err, strconv.ErrRange) { // out of range, it is the nearest that is in it
		return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(date.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
