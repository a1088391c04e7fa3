package wafake

import (
	"slices"
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// usync answers what a client asks of numbers: whether they are on WhatsApp, their devices, their LID, their profile.
func (s *Server) usync(c *conn, n *node) node {
	query, list := child(n, "usync", "query"), child(n, "usync", "list")
	if s.hides(c, &query) {
		query.Content = nil
	}
	var users []node
	for _, user := range list.GetChildren() {
		users = append(users, s.about(&user, &query))
	}
	return node{Tag: "usync", Content: []node{{Tag: "list", Content: users}}}
}

// hides tells whether a query for devices, and for nothing else, is one that HideDevices is for.
func (s *Server) hides(c *conn, query *node) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := query.GetChildren()
	return len(asked) == 1 && asked[0].Tag == "devices" && c.underTest() && due(&s.faults.devices)
}

// Alias lets who is looked up by one number be known by another: in some countries WhatsApp leaves out a digit.
func (s *Server) Alias(asked, real string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[digits(asked)] = digits(real)
}

// real is WhatsApp's own address of a number that is looked up.
func (s *Server) real(number string) types.JID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.aliases[number]; other != "" {
		number = other
	}
	return types.NewJID(number, types.DefaultUserServer)
}

// about is what there is to say of one user. Whoever is asked for and has no phone gets one, unless it is absent.
func (s *Server) about(user, query *node) node {
	jid, asked := address(user, "jid"), content(user, "contact")
	if jid.IsEmpty() {
		number, _, _ := strings.Cut(string(asked), "@")
		jid = s.real(digits(number))
	}
	if jid.Server == types.DefaultUserServer {
		_, _ = s.Person(jid.User) // absent: there is no account below
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.account(jid)
	known := "in"
	if a == nil || a.devices[0] == nil {
		a, known = nil, "out"
	}
	var out []node
	for _, q := range query.GetChildren() {
		switch {
		case q.Tag == "contact":
			out = append(out, node{Tag: "contact", Attrs: attrs{"type": known}, Content: asked})
		case a == nil:
		case q.Tag == "devices":
			out = append(out, a.deviceList())
		case q.Tag == "lid":
			out = append(out, node{Tag: "lid", Attrs: attrs{"val": a.lidJID()}})
		case q.Tag == "status":
			out = append(out, node{Tag: "status", Content: []byte(a.about)})
		case q.Tag == "picture" && a.pictureID != "":
			out = append(out, node{Tag: "picture", Attrs: attrs{"id": a.pictureID}})
		}
	}
	return node{Tag: "user", Attrs: attrs{"jid": jid}, Content: out}
}

func (a *account) ids() []uint16 {
	var ids []uint16
	for id := range a.devices {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (a *account) deviceList() node {
	var devices []node
	for _, id := range a.ids() {
		devices = append(devices, node{Tag: "device", Attrs: attrs{"id": int(id), "key-index": int(id)}})
	}
	return node{Tag: "devices", Content: []node{{Tag: "device-list", Content: devices}}}
}

// announceDevices lets everybody forget what they know of an account's devices. The caller has the lock.
func (s *Server) announceDevices(a *account) {
	for _, other := range s.accounts {
		for _, d := range other.devices {
			if d.conn == nil || !d.conn.active {
				continue // asks anew after its login
			}
			for _, known := range []types.JID{a.jid(), a.lidJID()} {
				n := node{
					Tag: "notification", Attrs: attrs{"id": s.id(), "type": "devices", "from": known, "t": now()},
					Content: []node{{Tag: "update", Attrs: attrs{"device_hash": "2:"}}},
				}
				if other == a && known == a.jid() {
					n.Attrs["type"], n.Content = "account_sync", []node{{Tag: "devices", Attrs: attrs{"dhash": "2:"}}}
				}
				s.deliver(d, n)
			}
		}
	}
}
