package wafake

import (
	"slices"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow/types"
)

// bundle is what others need to write to a device for the first time.
type bundle struct {
	registration []byte
	identity     []byte
	signed       node
	single       []node // keys that are given out once
}

// fewKeys is how many single keys a device has left when it is asked for more.
const fewKeys = 5

// encrypt answers a client that uploads keys or asks for those of others.
func (s *Server) encrypt(c *conn, n *node) (node, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.device == nil {
		return node{}, "401"
	}
	children := n.GetChildren()
	if len(children) == 0 {
		return node{}, "400"
	}
	switch {
	case text(n, "type") == "set":
		c.device.keys.take(n)
		return node{}, ""
	case children[0].Tag == "count":
		return node{Tag: "count", Attrs: attrs{"value": len(c.device.keys.single)}}, ""
	case children[0].Tag == "key" && c.underTest() && due(&s.faults.keys):
		return node{}, "503"
	case children[0].Tag == "key":
		var users []node
		for _, user := range children[0].GetChildren() {
			users = append(users, s.give(address(&user, "jid")))
		}
		return node{Tag: "list", Content: users}, ""
	}
	return node{}, "501"
}

func (b *bundle) take(n *node) {
	b.registration, b.identity = content(n, "registration"), content(n, "identity")
	b.signed = child(n, "skey")
	list := child(n, "list")
	for _, key := range list.GetChildren() {
		known := slices.ContainsFunc(b.single, func(have node) bool { return slices.Equal(content(&have, "id"), content(&key, "id")) })
		if !known {
			b.single = append(b.single, key)
		}
	}
}

// give is a device's bundle, with a single key if one is left. The caller has the lock.
func (s *Server) give(jid types.JID) node {
	d := s.device(jid)
	if d == nil || d.keys.registration == nil {
		return node{Tag: "user", Attrs: attrs{"jid": jid}, Content: []node{{Tag: "error", Attrs: attrs{"code": "404", "text": "item-not-found"}}}}
	}
	out := []node{
		{Tag: "registration", Content: d.keys.registration},
		{Tag: "type", Content: []byte{ecc.DjbType}},
		{Tag: "identity", Content: d.keys.identity},
		d.keys.signed,
	}
	if len(d.keys.single) > 0 {
		out = append(out, d.keys.single[0])
		d.keys.single = d.keys.single[1:]
		if len(d.keys.single) < fewKeys {
			s.deliver(d, node{
				Tag:     "notification",
				Attrs:   attrs{"id": s.id(), "type": "encrypt", "from": types.ServerJID, "t": now()},
				Content: []node{{Tag: "count", Attrs: attrs{"value": len(d.keys.single)}}},
			})
		}
	}
	return node{Tag: "user", Attrs: attrs{"jid": jid}, Content: out}
}
