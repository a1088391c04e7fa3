// Package fault is the error vocabulary of Kurir: a kind, which decides the HTTP status and whether a
// job is tried again, a code for programs and a sentence for people. It knows nothing of HTTP or of jobs;
// api/errors.go and jobs/handle.go are its two edges.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what went wrong, from the caller's point of view.
type Kind int

// The kinds. The zero value is Internal, so that an error that nobody classified is one.
const (
	Internal        Kind = iota // our fault; the sentence is fixed and the cause only logged
	Invalid                     // a field is wrong
	Unauthenticated             // no credential, or a bad one
	Forbidden                   // a good credential without the right
	NotFound                    // absent, or another tenant's
	Conflict                    // the state does not allow it
	Limited                     // too much, too often
	Unavailable                 // a part that we need is down: try again
	TooLarge                    // more than we take
)

// Detail names one bad field.
type Detail struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is an error that a client may see. Cause is for the log alone.
type Error struct {
	Kind       Kind
	Code       string // snake_case, stable, listed in docs/errors.md
	Sentence   string // for people
	Details    []Detail
	RetryAfter time.Duration // 0: not said
	Cause      error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", e.Code, e.Cause)
	}
	return e.Code + ": " + e.Sentence
}

func (e *Error) Unwrap() error { return e.Cause }

// New makes an error of the given kind.
func New(kind Kind, code, sentence string) *Error {
	return &Error{Kind: kind, Code: code, Sentence: sentence}
}

// WithCause returns a copy of e that remembers what led to it.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// After returns a copy of e that tells when to try again.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Field reports one bad field of the request.
func Field(field, message string) *Error {
	return &Error{Kind: Invalid, Code: "invalid_request", Sentence: field + ": " + message,
		Details: []Detail{{Field: field, Message: message}}}
}

// Of returns the kind of err: that of the first *Error in its chain, else Internal.
func Of(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Code is an error's code, "internal" for those without one.
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return "internal"
}

// Is reports whether err carries the given code.
func Is(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}
