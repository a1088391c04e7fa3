package kurir

import (
	"errors"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
)

// transport adds the credential and the Idempotency-Key to a request, repeats it where that is safe, and turns refusals into
// errors.
type transport struct {
	http       *http.Client
	credential string
	tries      uint
	pause      time.Duration
}

// Do makes a request. The key is chosen once, before the first try, so all tries are one request to Kurir: what was done by a
// try whose answer was lost is not done again.
func (t *transport) Do(req *http.Request) (*http.Response, error) {
	if t.credential != "" && req.Header.Get("Authorization") == "" && req.Header.Get("X-Api-Key") == "" {
		req.Header.Set("Authorization", "Bearer "+t.credential)
	}
	safe := req.Method != http.MethodPost && req.Method != http.MethodPatch
	if takesKey(req.Method, req.URL.Path) {
		safe = true
		if req.Header.Get("Idempotency-Key") == "" {
			req.Header.Set("Idempotency-Key", uuid.NewString())
		}
	}
	var failed error
	answer, err := backoff.Retry(req.Context(), func() (*http.Response, error) {
		var answer *http.Response
		answer, failed = t.try(req)
		return answer, t.verdict(req, failed, safe)
	}, backoff.WithMaxTries(t.tries), backoff.WithBackOff(&backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond,
		RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: t.pause}))
	switch {
	case err == nil:
		return answer, nil
	case failed != nil:
		return nil, failed // rather than when to try again
	}
	return nil, err
}

func (t *transport) try(req *http.Request) (*http.Response, error) {
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		again.Body = body
	}
	answer, err := t.http.Do(again)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode < 400 {
		return answer, nil
	}
	return nil, errorOf(answer)
}

// verdict says whether, and when, a request that failed is made again.
func (t *transport) verdict(req *http.Request, err error, safe bool) error {
	if err == nil {
		return nil
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil { // it has been read
		return backoff.Permanent(err)
	}
	var refused *Error
	if !errors.As(err, &refused) { // there was no answer
		if safe {
			return err
		}
		return backoff.Permanent(err)
	}
	repeat := refused.Status == http.StatusTooManyRequests || // nothing was done
		safe && (refused.Status == http.StatusServiceUnavailable || refused.Code == CodeIdempotencyInProgress)
	if !repeat || refused.RetryAfter > t.pause {
		return backoff.Permanent(err)
	}
	if refused.RetryAfter > 0 {
		return &backoff.RetryAfterError{Duration: refused.RetryAfter}
	}
	return err
}
