package api

import (
	"context"
	"errors"
	"time"

	"kurir/fault"
)

// Timeouts bound what a client or a handler may take. Event streams, exports, uploads and downloads have bounds of their own,
// which ask for progress.
type Timeouts struct {
	Idle    time.Duration // of a connection without a request
	Read    time.Duration // from a request's first byte to its last
	Write   time.Duration // for a client to take writeChunk bytes of an answer
	Request time.Duration // of a handler
}

// DefaultTimeouts are those of a Config that has none.
func DefaultTimeouts() Timeouts {
	return Timeouts{Idle: 120 * time.Second, Read: 30 * time.Second, Write: 30 * time.Second, Request: 45 * time.Second}
}

var errTookTooLong = fault.New(fault.Timeout, "took_too_long", "The request could not be served in time. It may have been done.")

// late is what a request hears that has come to nothing because its time was over.
func late(ctx context.Context, err error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	if fault.Of(err) == fault.Internal || fault.Is(err, "database_unavailable") {
		return errTookTooLong.WithCause(err)
	}
	return err
}
