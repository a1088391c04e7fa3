package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
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
	return &Failure{sentence: sentenceOf(err), cause: err}
}

// sentenceOf goes from the particular to the general: a lookup that times out is a lookup's failure first.
func sentenceOf(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, ErrAddress):
		return ErrAddress.Error()
	case errors.As(err, &dns) && dns.IsNotFound:
		return "host not found"
	case errors.As(err, &dns):
		return "host could not be looked up"
	case isTimeout(err):
		return "timed out"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "host unreachable"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed before an answer came"
	}
	if sentence := tlsSentence(err); sentence != "" {
		return sentence
	}
	return "no valid HTTP answer"
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &t) && t.Timeout()
}

func tlsSentence(err error) string {
	var (
		hostname x509.HostnameError
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		alert    tls.AlertError
	)
	switch {
	case errors.As(err, &hostname):
		return "TLS: certificate is not valid for this host"
	case errors.As(err, &unknown):
		return "TLS: certificate is signed by an unknown authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "TLS: certificate has expired or is not yet valid"
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "TLS: certificate is not valid"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "TLS: endpoint does not speak TLS"
	case errors.As(err, &alert):
		return "TLS: handshake failed"
	}
	return ""
}
