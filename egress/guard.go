// Package egress is how Kurir reaches addresses that tenants name: webhook endpoints, media to fetch, proxies of sessions.
// It decides which addresses may be reached, and makes dialers and clients that reach no other. What is sent and what an
// answer means is its callers' matter.
package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"code.dny.dev/ssrf"
)

// ErrAddress is why the guard refuses an address. It says nothing of which address, so that a tenant learns nothing of
// our network from it.
var ErrAddress = errors.New("address is not allowed")

// Guard decides which addresses we may connect to for a tenant: the public internet, and what the operator allows besides. The
// zero value is not usable; make one with NewGuard.
//
// What is public is decided by code.dny.dev/ssrf from IANA's registries of special addresses. It knows private,
// loopback, link-local and its metadata services, shared (100.64/10), "this network" (0/8), multicast, reserved and
// documentation ranges; in IPv6 it admits 2000::/3 only, which shuts out loopback, link-local, unique-local, IPv4-mapped and
// both NAT64 prefixes, and refuses 6to4 and Teredo within it.
type Guard struct {
	allow  []netip.Prefix
	public *ssrf.Guardian
}

// platform are public addresses that reach the machine we run on: Azure answers metadata and host-agent requests
// on 168.63.129.16 from within its virtual machines.
var platform = netip.MustParsePrefix("168.63.129.16/32")

// NewGuard makes a guard that admits the public internet and the given prefixes, which win over every refusal.
func NewGuard(allow []netip.Prefix) *Guard {
	return &Guard{
		allow: allow,
		// Any port: servers behind 8080 or 3000 are common, and on a public address a port is no boundary of ours.
		public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(platform)),
	}
}

// ParseCIDRs reads prefixes such as "10.1.0.0/16, ::1/128", separated by commas; a bare address is itself alone. The
// empty text is none.
func ParseCIDRs(text string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for field := range strings.SplitSeq(text, ",") {
		field = strings.TrimSpace(field)
		if field == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(field)
		if addr, addrErr := netip.ParseAddr(field); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || prefix.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is not a network such as 10.0.0.0/8", field)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

// Check returns ErrAddress for an address that may not be connected to. An IPv4-mapped address counts as the IPv4
// address that the kernel would connect to.
func (g *Guard) Check(addr netip.Addr) error {
	if !addr.IsValid() { // which the library would admit
		return ErrAddress
	}
	if g.allowed(addr) || g.public.SafeAddr(addr.Unmap()) == nil {
		return nil
	}
	return ErrAddress
}

func (g *Guard) allowed(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, prefix := range g.allow {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// allowsLoopback reports whether the name "localhost" can lead anywhere.
func (g *Guard) allowsLoopback() bool {
	return g.allowed(netip.MustParseAddr("127.0.0.1")) || g.allowed(netip.IPv6Loopback())
}

// Control is a net.Dialer's Control: it sees the address that is really being dialled, after DNS, on every connection,
// which is the only place where a name that changes its answer cannot slip past.
func (g *Guard) Control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return ErrAddress
	}
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return ErrAddress
	}
	return g.Check(target.Addr())
}
