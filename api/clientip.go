package api

import (
	"net/netip"
	"strings"

	"github.com/gofiber/fiber/v2"

	"kurir/egress"
)

// proxies are those whose word about a client's address is taken.
type proxies []netip.Prefix

// newProxies reads addresses and networks; what is neither is nobody's.
func newProxies(list []string) (trusted proxies) {
	for _, text := range list {
		if prefixes, err := egress.ParseCIDRs(text); err == nil {
			trusted = append(trusted, prefixes...)
		}
	}
	return trusted
}

func (p proxies) trusts(addr netip.Addr) bool {
	for _, prefix := range p {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// client is the address of who asks. Each proxy adds to X-Forwarded-For whom it heard; what stands before that was said by the
// client, who may say anything. So the last that is not a proxy's own counts.
func (p proxies) client(c *fiber.Ctx) string {
	addr, _ := netip.AddrFromSlice(c.Context().RemoteIP())
	addr = addr.Unmap()
	if !p.trusts(addr) {
		return addr.String()
	}
	var heard []string
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderXForwardedFor) {
		heard = append(heard, strings.Split(string(line), ",")...)
	}
	for i := len(heard) - 1; i >= 0; i-- {
		before, err := netip.ParseAddr(strings.TrimSpace(heard[i]))
		if err != nil {
			break
		}
		if addr = before.Unmap().WithZone(""); !p.trusts(addr) {
			break
		}
	}
	return addr.String()
}
