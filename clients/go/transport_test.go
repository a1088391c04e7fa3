package kurir

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// answers is a Kurir that answers one after the other, and the requests that it got.
func answers(t *testing.T, list ...http.HandlerFunc) (c *Client, got func() []*http.Request) {
	t.Helper()
	var mu sync.Mutex
	var all []*http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(strings.NewReader(string(body)))
		mu.Lock()
		answer := list[min(len(all), len(list)-1)]
		all = append(all, again)
		mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	got = func() []*http.Request {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
	c, err := New(server.URL, "kur_example", Options{Pause: 5 * time.Second})
	require.NoError(t, err)
	return c, got
}

func refusing(status int, code, after string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"success":false,"error":"No.","code":"`+code+`","requestId":"r1","details":[{"field":"to","message":"no"}]}`)
	}
}

func taking(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"success":true,"data":{"id":"0199c0de-0000-7000-8000-000000000001","messageId":"0199c0de-0000-7000-8000-000000000001","jobId":"0199c0de-0000-7000-8000-000000000001","status":"pending"}}`)
}

// breaking ends the connection without an answer.
func breaking(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func TestRepeats(t *testing.T) {
	send := func(c *Client) error {
		_, err := Post(t.Context(), c, "shop", SendText{To: "6281234567890", Message: "Hello"}, nil)
		return err
	}
	restart := func(c *Client) error {
		_, err := c.RestartSessionWithResponse(t.Context(), "shop", nil)
		return err
	}
	read := func(c *Client) error { _, err := c.ListSessionsWithResponse(t.Context(), nil); return err }
	busy, limited := refusing(503, CodeDatabaseUnavailable, "1"), refusing(429, CodeRequestLimit, "1")
	for name, test := range map[string]struct {
		call    func(*Client) error
		answers []http.HandlerFunc
		tries   int
		code    string // of the error, "" for none, "-" for one that is not Kurir's
	}{
		"a send is repeated after 503":                      {send, []http.HandlerFunc{busy, taking}, 2, ""},
		"a send is repeated after no answer":                {send, []http.HandlerFunc{breaking, breaking, taking}, 3, ""},
		"a send is repeated while its first try is running": {send, []http.HandlerFunc{breaking, refusing(409, CodeIdempotencyInProgress, "1"), taking}, 3, ""},
		"a send is repeated after 429":                      {send, []http.HandlerFunc{limited, taking}, 2, ""},
		"not when that is too long":                         {send, []http.HandlerFunc{refusing(429, CodeMessageLimit, "3000")}, 1, CodeMessageLimit},
		"nor for ever":                                      {send, []http.HandlerFunc{breaking}, 4, "-"},
		"a refusal is final":                                {send, []http.HandlerFunc{refusing(422, CodeInvalidRequest, "")}, 1, CodeInvalidRequest},
		"so is a conflict":                                  {send, []http.HandlerFunc{refusing(409, CodeSessionNotLinked, "")}, 1, CodeSessionNotLinked},
		"what takes no key is not repeated":                 {restart, []http.HandlerFunc{breaking}, 1, "-"},
		"not after 503 either":                              {restart, []http.HandlerFunc{busy}, 1, CodeDatabaseUnavailable},
		"but after 429":                                     {restart, []http.HandlerFunc{limited, taking}, 2, ""},
		"a read is repeated":                                {read, []http.HandlerFunc{breaking, busy, taking}, 3, ""},
		"what is not Kurir's has no code":                   {read, []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, got := answers(t, test.answers...)
			err := test.call(c)
			var refused *Error
			switch {
			case name == "what is not Kurir's has no code":
				require.ErrorAs(t, err, &refused)
				require.Equal(t, 502, refused.Status)
				require.Empty(t, refused.Code)
			case test.code == "":
				require.NoError(t, err)
			case test.code == "-":
				require.Error(t, err)
				require.False(t, errors.As(err, &refused), "%v", err)
			default:
				require.ErrorIs(t, err, &Error{Code: test.code})
				require.ErrorAs(t, err, &refused)
				require.Equal(t, []Detail{{Field: "to", Message: "no"}}, refused.Details)
				require.Equal(t, "r1", refused.RequestID)
			}
			require.Len(t, got(), test.tries)
			first, keyed := got()[0], got()[0].Header.Get("Idempotency-Key")
			require.Equal(t, takesKey(first.Method, first.URL.Path), keyed != "")
			body, _ := io.ReadAll(first.Body)
			for _, r := range got() {
				require.Equal(t, "Bearer kur_example", r.Header.Get("Authorization"))
				require.Equal(t, keyed, r.Header.Get("Idempotency-Key"), "all tries are one request")
			}
			for _, r := range got()[1:] {
				again, _ := io.ReadAll(r.Body)
				require.Equal(t, string(body), string(again))
			}
		})
	}
}

func TestKeysOfOnesOwn(t *testing.T) {
	c, got := answers(t, taking)
	for range 2 {
		_, err := Post(t.Context(), c, "shop", SendText{To: "6281234567890", Message: "Hello"}, nil)
		require.NoError(t, err)
	}
	require.NotEqual(t, got()[0].Header.Get("Idempotency-Key"), got()[1].Header.Get("Idempotency-Key"), "two sends are two messages")
	_, err := Post(t.Context(), c, "shop", SendPoll{To: "6281234567890", Poll: DraftPoll{Question: "Tea?", Options: []string{"Yes", "No"}}}, &SendParams{IdempotencyKey: new("order-7")})
	require.NoError(t, err)
	require.Equal(t, "order-7", got()[2].Header.Get("Idempotency-Key"))
	body, _ := io.ReadAll(got()[2].Body)
	require.JSONEq(t, `{"to":"6281234567890","type":"poll","poll":{"question":"Tea?","options":["Yes","No"]}}`, string(body))
}

func TestGivingUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, got := answers(t, func(w http.ResponseWriter, r *http.Request) { cancel(); refusing(503, CodeBusy, "4")(w, r) })
	_, err := c.ListSessionsWithResponse(ctx, nil)
	require.Error(t, err)
	require.Len(t, got(), 1)
}
