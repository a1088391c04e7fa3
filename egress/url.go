package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// MaxURLBytes bounds a URL that a tenant gives.
const MaxURLBytes = 2048

// CheckURL checks an http or https URL at the time when a tenant gives it. It looks nothing up: what a name leads to is
// checked on every connection. Addresses that can be seen to be refused are refused here already, so that the tenant
// learns it from the answer and not from later failures.
func (g *Guard) CheckURL(raw string) error {
	u, err := parse(raw)
	if err != nil {
		return err
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("URL must begin with http:// or https://")
	case u.User != nil:
		return errors.New("URL must not hold a user name or password; use a header")
	}
	return g.checkRest(raw, u)
}

func parse(raw string) (*url.URL, error) {
	if len(raw) > MaxURLBytes {
		return nil, fmt.Errorf("URL is longer than %d bytes", MaxURLBytes)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("URL is not valid") // the parser's error repeats the URL, which may hold a token
	}
	return u, nil
}

// checkRest checks what URLs of servers and of proxies have in common.
func (g *Guard) checkRest(raw string, u *url.URL) error {
	switch {
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return errors.New("URL must not hold a fragment (#)")
	case u.Hostname() == "":
		return errors.New("URL has no host")
	case strings.ContainsAny(raw, " \t\r\n\\"):
		return errors.New("URL must not hold white space or backslashes")
	case !validPort(u):
		return errors.New("URL has a port that is not between 1 and 65535")
	}
	return g.checkHost(u.Hostname())
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0
}

func (g *Guard) checkHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.Check(addr)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case name == "" || strings.HasPrefix(name, ".") || strings.Contains(name, ".."):
		return errors.New("URL has a host with an empty part")
	case last == "localhost" && !g.allowsLoopback():
		return ErrAddress
	case isNumber(last):
		return errors.New("URL has a host that is neither a name nor a valid address")
	}
	return nil
}

// isNumber finds hosts such as 2130706433, 0x7f.1 and 127.0.0.1., which some resolvers take for an IPv4 address; no
// top-level domain is a number.
func isNumber(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}
