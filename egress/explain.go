package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// Explain turns an error of a request into one of a few sentences that tell a tenant what he can act on, and nothing of
// our side. It goes from the particular to the general: a lookup that times out is a lookup's failure first.
func Explain(err error) string {
	var dns *net.DNSError
	var proxy *ProxyError
	var op *net.OpError
	switch {
	case errors.As(err, &proxy):
		return proxy.Error()
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
	if errors.As(err, &op) && strings.HasPrefix(op.Op, "socks") {
		return "the SOCKS proxy refused"
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
