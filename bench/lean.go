package main

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"
)

// lean lets an http.Client go through fasthttp's, at a fraction of the CPU: the load shares the machine with what it measures. It
// has as many connections as it is told, and repeats nothing.
type lean struct{ client *fasthttp.Client }

func newLean(connections int) *lean {
	return &lean{&fasthttp.Client{MaxConnsPerHost: connections, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true,
		ReadTimeout: patience, WriteTimeout: patience, MaxConnWaitTimeout: patience, MaxIdleConnDuration: patience}}
}

// patience bounds one call.
const patience = 40 * time.Second

// RoundTrip is what an http.Client calls.
func (l *lean) RoundTrip(req *http.Request) (*http.Response, error) {
	in, out := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(in)
	defer fasthttp.ReleaseResponse(out)
	in.SetRequestURI(req.URL.String())
	in.Header.SetMethod(req.Method)
	for name, values := range req.Header {
		for _, value := range values {
			in.Header.Set(name, value)
		}
	}
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		_ = req.Body.Close()
		if err != nil {
			return nil, err
		}
		in.SetBodyRaw(body)
	}
	if err := l.client.Do(in, out); err != nil {
		return nil, err
	}
	status := out.StatusCode()
	body := bytes.Clone(out.Body())
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: req}, nil
}

// CloseIdleConnections ends the connections.
func (l *lean) CloseIdleConnections() { l.client.CloseIdleConnections() }
