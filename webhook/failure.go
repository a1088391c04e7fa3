package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"kurir/egress"
)

// Failure is why a delivery failed. Its text is one of a few sentences that tell the tenant what he can act on and
// nothing of our side; what it wraps is for the log.
type Failure struct {
	sentence string
	cause    error
}

func (f *Failure) Error() string { return f.sentence }

func (f *Failure) Unwrap() error { return f.cause }

func statusFailure(status int) error {
	switch {
	case status >= 200 && status <= 299:
		return nil
	case status >= 300 && status <= 399:
		return &Failure{sentence: fmt.Sprintf("answered with status %d; redirects are not followed", status)}
	default:
		return &Failure{sentence: fmt.Sprintf("answered with status %d", status)}
	}
}

// explain turns an error of net/http into a Failure. Where the caller's own context ended, that is the cause,
// whatever the network said at that moment.
func explain(ctx context.Context, err error) *Failure {
	if ctx.Err() != nil {
		sentence := "cancelled"
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			sentence = "timed out"
		}
		return &Failure{sentence: sentence, cause: ctx.Err()}
	}
	if wrapper, ok := errors.AsType[*url.Error](err); ok {
		err = wrapper.Err // without the URL, which may hold a token that belongs in no log
	}
	return &Failure{sentence: egress.Explain(err), cause: err}
}
