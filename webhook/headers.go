package webhook

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// The bounds of the headers that a tenant may add to his deliveries; the bytes are those of names and values together.
const (
	MaxHeaders     = 20
	MaxHeaderBytes = 4096
)

// HeaderError says why a tenant may not have a header.
type HeaderError struct {
	Name   string // empty: the headers as a whole
	Reason string
}

func (e *HeaderError) Error() string {
	if e.Name == "" {
		return e.Reason
	}
	return fmt.Sprintf("header %q %s", e.Name, e.Reason)
}

// ours are the headers, lower case, that the client or net/http sets, and those that belong to one hop: setting them
// would forge a signature, reach another virtual host or break the framing.
var ours = map[string]bool{
	"host": true, "x-hub-signature": true, "x-hub-signature-256": true,
	"connection": true, "keep-alive": true, "te": true, "trailer": true, "trailers": true,
	"transfer-encoding": true, "upgrade": true, "http2-settings": true, "expect": true, "accept-encoding": true,
}

// ourPrefixes are reserved as whole families.
var ourPrefixes = []string{"content-", "webhook-", "proxy-"}

// CheckHeaders checks the headers that a tenant wants on his deliveries. The error joins one *HeaderError for each bad
// header, in the order of their names; values are never repeated, since they may be credentials.
func CheckHeaders(headers map[string]string) error {
	var errs []error
	refuse := func(name, reason string) { errs = append(errs, &HeaderError{Name: name, Reason: reason}) }

	size := 0
	seen := make(map[string]bool, len(headers))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value := headers[name]
		size += len(name) + len(value)
		lower := strings.ToLower(name)
		switch {
		case name == "":
			refuse("", "a header has no name")
		case !isToken(name):
			refuse(name, "is not a valid header name")
		case seen[lower]:
			refuse(name, "is given twice")
		case reserved(lower):
			refuse(name, "is set by us and cannot be changed")
		case !isFieldValue(value):
			refuse(name, "has a value that is not printable ASCII or begins or ends with white space")
		}
		seen[lower] = true
	}
	if len(headers) > MaxHeaders {
		refuse("", fmt.Sprintf("%d headers are more than %d", len(headers), MaxHeaders))
	}
	if size > MaxHeaderBytes {
		refuse("", fmt.Sprintf("headers of %d bytes are more than %d", size, MaxHeaderBytes))
	}
	return errors.Join(errs...)
}

func reserved(lower string) bool {
	return ours[lower] || slices.ContainsFunc(ourPrefixes, func(p string) bool { return strings.HasPrefix(lower, p) })
}

// isToken is RFC 9110's token.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		alphanumeric := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// isFieldValue is narrower than RFC 9110: the bytes above ASCII that it tolerates mean different things to different
// servers.
func isFieldValue(s string) bool {
	return strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return r != '\t' && (r < ' ' || r > '~') })
}

// addHeaders copies a tenant's headers, leaving out what CheckHeaders refuses: a row may be older than a rule.
func addHeaders(h http.Header, headers map[string]string) {
	for name, value := range headers {
		if isToken(name) && isFieldValue(value) && !reserved(strings.ToLower(name)) {
			h.Set(name, value)
		}
	}
}
