package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var aSend = Send{MessageID: "m1", WhatsappID: "3EB0AA", Epoch: 1, To: "x@s.whatsapp.net", Type: "text", Message: "hi"}

func clientOf(t *testing.T, endpoint string) *Client {
	h := NewHTTPClient()
	t.Cleanup(h.CloseIdleConnections)
	return NewClient(h, Target{WorkerID: "w1", Endpoint: endpoint, Secret: "s3cret", Term: 7})
}

// answering starts a server that answers every call with a status and a body.
func answering(t *testing.T, status int, body string) *Client {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return clientOf(t, srv.URL)
}

// raw starts a TCP server that reads one request's head per connection and then does as told.
func raw(t *testing.T, then func(net.Conn)) *Client {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				then(c)
			}()
		}
	}()
	return clientOf(t, "http://"+l.Addr().String())
}

func TestNotSentByAnswer(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   bool
	}{
		{"not connected", 503, `{"success":false,"error":"x","code":"not_connected"}`, true},
		{"its medium is away", 503, `{"success":false,"error":"x","code":"media_unavailable"}`, true},
		{"lease lost", 503, `{"success":false,"error":"x","code":"lease_lost"}`, true},
		{"stale term", 409, `{"success":false,"error":"x","code":"stale_term"}`, true},
		{"stale epoch", 409, `{"success":false,"error":"x","code":"stale_epoch"}`, true},
		{"stale generation", 409, `{"success":false,"error":"x","code":"stale_generation"}`, true},
		{"session not found", 404, `{"success":false,"error":"x","code":"session_not_found"}`, true},
		{"bad secret", 401, `{"success":false,"error":"x","code":"unauthenticated"}`, true},
		{"unsupported", 501, `{"success":false,"error":"x","code":"unsupported"}`, true},
		{"invalid", 400, `{"success":false,"error":"x","code":"invalid_request"}`, true},
		{"too large", 413, `{"success":false,"error":"x","code":"too_large"}`, true},

		{"fault of the worker", 500, `{"success":false,"error":"x","code":"internal"}`, false},
		{"other 503", 503, `{"success":false,"error":"x","code":"overloaded"}`, false},
		{"a code under another status", 500, `{"success":false,"error":"x","code":"not_connected"}`, false},
		{"a proxy's 503", 503, `<html>no upstream</html>`, false},
		{"a proxy's 401", 401, `unauthorized`, false},
		{"a proxy's 404", 404, ``, false},
		{"a proxy's 504", 504, `{"message":"timeout"}`, false},
		{"garbage", 200, `sent`, false},
		{"empty", 200, ``, false},
		{"cut short", 200, `{"success":true,"data":{"outcome":"se`, false},
		{"no code", 503, `{"success":false,"error":"x"}`, false},
		{"no data", 200, `{"success":true}`, false},
		{"no outcome", 200, `{"success":true,"data":{}}`, false},
		{"contradiction", 200, `{"success":false,"error":"x","code":"not_connected"}`, false},
		{"redirect", 307, ``, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := answering(t, c.status, c.body).Send(t.Context(), "s1", aSend)
			require.Error(t, err)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.status, e.Status)
			require.Equal(t, c.want, NotSent(err), "%v", err)
		})
	}
}

func TestNotSentByConnection(t *testing.T) {
	short := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	t.Run("refused", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		_, err = clientOf(t, "http://"+l.Addr().String()).Send(t.Context(), "s1", aSend)
		require.True(t, NotSent(err), "%v", err)
	})
	t.Run("bad endpoint", func(t *testing.T) {
		_, err := clientOf(t, "http://bad host").Send(t.Context(), "s1", aSend)
		require.True(t, NotSent(err), "%v", err)
	})
	t.Run("context over before the call", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := answering(t, 200, "").Send(ctx, "s1", aSend)
		require.True(t, NotSent(err), "%v", err)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("timeout while dialling", func(t *testing.T) {
		h := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}}
		_, err := NewClient(h, Target{Endpoint: "http://192.0.2.1:1"}).Send(short(t), "s1", aSend)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.True(t, NotSent(err), "%v", err)
	})
	t.Run("timeout after writing", func(t *testing.T) {
		over := make(chan struct{})
		defer close(over)
		_, err := raw(t, func(net.Conn) { <-over }).Send(short(t), "s1", aSend)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.False(t, NotSent(err), "%v", err)
	})
	t.Run("connection broken after writing", func(t *testing.T) {
		_, err := raw(t, func(net.Conn) {}).Send(t.Context(), "s1", aSend)
		require.Error(t, err)
		require.False(t, NotSent(err), "%v", err)
	})
	t.Run("answer broken off", func(t *testing.T) {
		_, err := raw(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 503 Unavailable\r\nContent-Length: 500\r\n\r\n{\"success\":false")
		}).Send(t.Context(), "s1", aSend)
		require.Error(t, err)
		require.False(t, NotSent(err), "%v", err)
	})
	t.Run("answer without end", func(t *testing.T) {
		_, err := raw(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}).Send(t.Context(), "s1", aSend)
		require.Equal(t, CodeBadAnswer, Code(err))
		require.False(t, NotSent(err), "%v", err)
	})
	t.Run("a transport that does not trace", func(t *testing.T) {
		h := &http.Client{Transport: tripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("boom") })}
		_, err := NewClient(h, Target{Endpoint: "http://w"}).Send(t.Context(), "s1", aSend)
		require.False(t, NotSent(err), "%v", err)
	})
	require.False(t, NotSent(nil))
	require.False(t, NotSent(errors.New("whatever")))
}

// A worker that dies between two sends: the second finds a kept connection, which breaks. The transport must not
// write the send a second time by itself, or a refusal of the second would hide that the first arrived.
func TestASendIsWrittenOnce(t *testing.T) {
	requests := make(chan string, 10)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for n := 0; ; n++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					requests <- req.URL.Path
					if n == 1 {
						return // takes the second request, answers nothing
					}
					body := `{"success":true,"data":{"outcome":"sent"}}`
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"+body)
				}
			}()
		}
	}()
	c := clientOf(t, "http://"+l.Addr().String())
	_, err = c.Send(t.Context(), "s1", aSend)
	require.NoError(t, err)
	_, err = c.Send(t.Context(), "s1", aSend)
	require.Error(t, err)
	require.False(t, NotSent(err), "%v", err)
	require.Len(t, requests, 2)
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
