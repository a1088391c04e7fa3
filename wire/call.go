package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"kurir/tracing"
)

const maxAnswer = 1 << 20 // bytes; the largest answer, a session's state with its QR, is a few KB

// NewHTTPClient returns an http.Client for either direction, meant to be shared by all calls of a process: it
// keeps enough connections to each peer for a full lane server, follows no redirects, since a peer never sends
// one, and uses no proxy. It sets no timeout; the caller's context carries the deadline.
func NewHTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: 256, // the default of 2 would dial anew for most sends
			IdleConnTimeout:     60 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// unreached marks an error of a call of which no byte left this process.
type unreached struct{ err error }

func (u *unreached) Error() string { return u.err.Error() }
func (u *unreached) Unwrap() error { return u.err }

// NotSent reports whether err, from Client.Send, proves that this call sent nothing to the network: no byte of it
// reached the worker, or the worker refused it. It is false in any doubt (a timeout or a broken connection after
// the request may have been written, an answer out of form, a fault of the worker). It says nothing of earlier
// calls with the same WhatsappID.
func NotSent(err error) bool {
	var u *unreached
	if errors.As(err, &u) {
		return true
	}
	var e *Error
	if !errors.As(err, &e) || e.Status != statusOf(e.Code) {
		return false
	}
	switch e.Code {
	case CodeNotConnected, CodeLeaseLost, CodeStaleTerm, CodeStaleEpoch, CodeStaleGeneration,
		CodeSessionNotFound, CodeUnauthenticated, CodeUnsupported, CodeInvalidRequest, CodeTooLarge, CodeMediaUnavailable:
		return true
	default:
		return false
	}
}

// call is one request and its answer.
type call struct {
	http   *http.Client
	method string
	url    string
	header http.Header
	in     any // JSON body, nil for none
	out    any // takes the answer's data, nil to ignore it
}

func (c call) do(ctx context.Context) error {
	var body io.Reader
	if c.in != nil {
		b, err := json.Marshal(c.in)
		if err != nil {
			return &unreached{fmt.Errorf("encode the request: %w", err)}
		}
		body = bytes.NewReader(b)
	}
	if err := ctx.Err(); err != nil {
		return &unreached{err}
	}
	reach := new(reach)
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, reach.trace()), c.method, c.url, body)
	if err != nil {
		return &unreached{err}
	}
	// No Idempotency-Key here: with one, the transport would write the request a second time when the first
	// connection breaks, and a refusal of the second would say nothing of the first.
	req.Header = c.header
	if c.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	tracing.Inject(ctx, req.Header)
	res, err := c.http.Do(req)
	if err != nil {
		if reach.none() {
			return &unreached{err}
		}
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return &Error{Status: res.StatusCode, Code: CodeBadAnswer, Message: "the answer is over 1 MB"}
	}
	return open(res.StatusCode, answer, c.out)
}

// reach follows how far a request came. The transport asks for a connection (GetConn) and gets one (GotConn)
// before it writes; from then on it may have written, whatever else is seen, since it writes in the background.
// It asks anew only when nothing of a POST was written on the connection before, so the last attempt decides.
type reach struct{ at atomic.Int32 }

const (
	reachNothing int32 = iota // no trace seen: perhaps a transport that does not trace
	reachAsked
	reachGot
)

func (r *reach) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { r.at.Store(reachAsked) },
		GotConn: func(httptrace.GotConnInfo) { r.at.Store(reachGot) },
	}
}

// none reports whether the request is known to have had no connection.
func (r *reach) none() bool { return r.at.Load() == reachAsked }
