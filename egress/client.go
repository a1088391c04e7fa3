package egress

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

// ErrRedirects is why a client gave up that was sent on and on.
var ErrRedirects = errors.New("too many redirects")

// ClientConfig says how a client fetches. It has no overall timeout: the caller's context has.
type ClientConfig struct {
	Timeout      time.Duration // to connect, and again to the answer's headers
	MaxRedirects int           // each is checked as the first URL was
	TLS          *tls.Config   // nil: the system's roots
	Resolver     *net.Resolver // nil: the system's
}

// RefusedError is a URL that CheckURL refused on the way, with its sentence.
type RefusedError struct{ Sentence string }

func (e *RefusedError) Error() string { return e.Sentence }

// HTTPClient makes a client that fetches what tenants name: through no proxy, with no cookies, no Referer and no idle
// connections, so that every hop is dialled, and checked, anew.
func (g *Guard) HTTPClient(c ClientConfig) *http.Client {
	tlsConfig := &tls.Config{}
	if c.TLS != nil {
		tlsConfig = c.TLS.Clone()
	}
	tlsConfig.MinVersion = tls.VersionTLS12
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would dial for us, past the guard
			DialContext:            g.Dialer(c.Timeout, c.Resolver).DialContext,
			TLSClientConfig:        tlsConfig,
			TLSHandshakeTimeout:    c.Timeout,
			ResponseHeaderTimeout:  c.Timeout,
			Protocols:              protocols,
			DisableKeepAlives:      true,
			DisableCompression:     true, // so that nothing unpacks into more than was read
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			req.Header.Del("Referer") // it would hold the URL before, with the tenant's token in it
			if len(via) > c.MaxRedirects {
				return ErrRedirects
			}
			if err := g.CheckURL(req.URL.String()); err != nil {
				return &RefusedError{Sentence: err.Error()}
			}
			return nil
		},
	}
}
