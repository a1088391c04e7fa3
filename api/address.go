package api

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// addressOf is the client's address, as far as it can be known; invalid if it can't. Limits and audit go by it.
func addressOf(ctx context.Context) netip.Addr {
	if info, ok := ctx.Value(requestInfoKey{}).(*requestInfo); ok {
		return info.address
	}
	return netip.Addr{}
}

func (a *API) clientOf(c *fiber.Ctx) netip.Addr {
	remote, _ := netip.ParseAddrPort(c.Context().RemoteAddr().String()) // invalid for what is no TCP
	peer := remote.Addr().Unmap().WithZone("")
	if !slices.ContainsFunc(a.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(peer) }) {
		return peer // whose headers could say anything: they are not read
	}
	var chain []string
	for _, line := range c.Request().Header.PeekAll(fiber.HeaderXForwardedFor) {
		chain = append(chain, strings.Split(string(line), ",")...)
	}
	return clientAddress(peer, chain, a.cfg.TrustedProxies)
}

// clientAddress walks X-Forwarded-For from its end, where our own proxies wrote, for as long as proxies that we trust vouch
// for the hop before them. What stands further left was sent by the client, who can write what he likes. A hop that can't be
// read ends the walk: it is known then which proxy let it in, and no more.
func clientAddress(peer netip.Addr, chain []string, trusted []netip.Prefix) netip.Addr {
	at := peer
	for i := len(chain) - 1; i >= 0; i-- {
		if !slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(at) }) {
			break
		}
		hop, ok := parseHop(chain[i])
		if !ok {
			break
		}
		at = hop
	}
	return at
}

// parseHop reads an address as proxies write them: alone, with a port, in brackets.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.Trim(strings.TrimSpace(text), `"`)
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().WithZone(""), true
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}

// neighbours is what limits count an address as: in IPv6 one connection has a whole /64 of them.
func neighbours(addr netip.Addr) string {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
