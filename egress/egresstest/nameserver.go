// Package egresstest has what hostile URLs need: a name server that lies, a listener that nobody may reach, and the URLs.
package egresstest

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// nameserver is a DNS server for tests: names lead to what lead says, which may change from question to question.
type nameserver struct {
	mu   sync.Mutex
	lead map[string][]netip.Addr // without a trailing dot; each A question takes the first and keeps the last
}

// Nameserver starts one and returns a resolver that asks only it.
func Nameserver(t testing.TB, lead map[string][]netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s := &nameserver{lead: lead}
	go s.serve(conn)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (s *nameserver) serve(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo(s.answer(buf[:n]), from)
	}
}

// answer copies the question, RFC 1035's header of 12 bytes and then the name's labels, type and class, and adds at
// most one record.
func (s *nameserver) answer(question []byte) []byte {
	var labels []string
	i := 12
	for question[i] != 0 {
		labels = append(labels, string(question[i+1:i+1+int(question[i])]))
		i += 1 + int(question[i])
	}
	kind := binary.BigEndian.Uint16(question[i+1:])
	reply := append([]byte(nil), question[:i+5]...)
	reply[2], reply[3] = 0x81, 0x80                   // a response, no error
	copy(reply[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0}) // one question, no records
	addr, known := s.lookup(strings.Join(labels, "."), kind)
	switch {
	case !known:
		reply[3] |= 3 // NXDOMAIN
	case addr.IsValid():
		reply[7] = 1
		raw := addr.AsSlice()
		reply = append(reply, 0xc0, 12, 0, byte(kind), 0, 1, 0, 0, 0, 0, 0, byte(len(raw)))
		reply = append(reply, raw...)
	}
	return reply
}

func (s *nameserver) lookup(name string, kind uint16) (netip.Addr, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs, known := s.lead[strings.ToLower(name)]
	if !known || len(addrs) == 0 {
		return netip.Addr{}, known
	}
	const a, aaaa = 1, 28
	if first := addrs[0]; kind == a && first.Is4() || kind == aaaa && first.Is6() {
		if len(addrs) > 1 {
			s.lead[strings.ToLower(name)] = addrs[1:]
		}
		return first, true
	}
	return netip.Addr{}, true
}
