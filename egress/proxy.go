package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// proxySchemes are those of proxies. For socks5 as for socks5h the proxy looks names up.
var proxySchemes = map[string]bool{"http": true, "https": true, "socks5": true, "socks5h": true}

const (
	proxyHeaderBytes = 64 << 10 // bounds what a proxy may answer to CONNECT
	proxyUserBytes   = 255      // RFC 1929 has one byte for the length of each
)

// ProxyError is the refusal of an HTTP proxy to connect us. 407 asks for another user name and password.
type ProxyError struct{ Status int }

func (e *ProxyError) Error() string { return fmt.Sprintf("the proxy refused with status %d", e.Status) }

// CheckProxy checks the URL of a proxy at the time when a tenant gives it: http, https, socks5 or socks5h, with or without user
// name and password. As CheckURL it looks nothing up: where it leads is checked on every connection. Its errors do not repeat the
// URL.
func (g *Guard) CheckProxy(raw string) (*url.URL, error) {
	u, err := parse(raw)
	if err != nil {
		return nil, err
	}
	switch {
	case !proxySchemes[u.Scheme]:
		return nil, errors.New("URL must begin with http://, https://, socks5:// or socks5h://")
	case u.Opaque != "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("URL must hold nothing behind host and port")
	}
	if err := checkUser(u); err != nil {
		return nil, err
	}
	return u, g.checkRest(raw, u)
}

// checkUser checks what a proxy is to be told of who we are.
func checkUser(u *url.URL) error {
	if u.User == nil {
		return nil
	}
	name := u.User.Username()
	password, _ := u.User.Password()
	switch {
	case name == "":
		return errors.New("URL has a password without a user name")
	case len(name) > proxyUserBytes || len(password) > proxyUserBytes:
		return fmt.Errorf("URL has a user name or password longer than %d bytes", proxyUserBytes)
	case strings.HasPrefix(u.Scheme, "http") && strings.Contains(name, ":"):
		return errors.New("URL has a user name with a colon, which HTTP cannot tell from the password")
	}
	return nil
}

// ThroughProxy leads whatever a transport connects to through a tenant's proxy. It reaches the proxy only where the guard lets it, within
// the timeout; the target is the proxy's to look up and to reach, from its own network, and has to be of our choosing. What the
// proxy answers is bounded. A nil resolver is the system's.
func (g *Guard) ThroughProxy(t *http.Transport, raw string, timeout time.Duration, resolver *net.Resolver) error {
	u, err := g.CheckProxy(raw)
	if err != nil {
		return err
	}
	t.Proxy = http.ProxyURL(u)
	t.DialContext = g.Dialer(timeout, resolver).DialContext
	t.DialTLSContext = nil // it would be used to reach an https proxy, past the guard
	t.MaxResponseHeaderBytes = proxyHeaderBytes
	t.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
		if answer.StatusCode != http.StatusOK { // its own words could be anything
			return &ProxyError{answer.StatusCode}
		}
		return nil
	}
	return nil
}
