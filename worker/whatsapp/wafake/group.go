package wafake

import (
	"crypto/rand"
	"slices"
	"strconv"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// group is a group with its members, the owner first.
type group struct {
	jid     types.JID
	subject string
	topic   string
	topicID string
	invite  string
	created time.Time
	members []*member
	flags   map[string]bool // "announcement", "locked"
	lids    bool            // its members know each other by their LIDs
}

// mode is how the group's members address each other.
func (g *group) mode() string {
	if g.lids {
		return "lid"
	}
	return "pn"
}

// as is a device's address in the group, and its other one.
func (g *group) as(d *device) (same, other types.JID) {
	if g.lids {
		return d.lid(), d.jid()
	}
	return d.jid(), d.lid()
}

type member struct {
	account *account
	rank    string // "", "admin", "superadmin"
}

func (g *group) member(a *account) *member {
	for _, m := range g.members {
		if m.account == a {
			return m
		}
	}
	return nil
}

func (g *group) remove(a *account) {
	g.members = slices.DeleteFunc(g.members, func(m *member) bool { return m.account == a })
}

// describe is the group as its members see it.
func (g *group) describe() node {
	a := attrs{
		"id": g.jid.User, "subject": g.subject, "creation": strconv.FormatInt(g.created.Unix(), 10),
		"s_t": strconv.FormatInt(g.created.Unix(), 10), "addressing_mode": g.mode(), "size": len(g.members),
	}
	if len(g.members) > 0 {
		same, _ := g.as(&device{account: g.members[0].account})
		a["creator"], a["s_o"] = same, same
	}
	var children []node
	for _, m := range g.members {
		children = append(children, g.participant(m))
	}
	for flag := range g.flags {
		children = append(children, node{Tag: flag})
	}
	if g.topic != "" {
		children = append(children, node{
			Tag: "description", Attrs: attrs{"id": g.topicID, "t": now()},
			Content: []node{{Tag: "body", Content: []byte(g.topic)}},
		})
	}
	return node{Tag: "group", Attrs: a, Content: children}
}

func (g *group) participant(m *member) node {
	a := attrs{"jid": m.account.jid(), "lid": m.account.lidJID()}
	if g.lids {
		a = attrs{"jid": m.account.lidJID(), "phone_number": m.account.jid()}
	}
	if m.rank != "" {
		a["type"] = m.rank
	}
	return node{Tag: "participant", Attrs: a}
}

// routeGroup hands a message to every device of every member.
func (s *Server) routeGroup(from *device, to types.JID, n *node) string {
	g := s.groups[to]
	if g == nil || g.member(from.account) == nil {
		return "401"
	}
	common := sealed(n)
	if one := address(n, "participant"); !one.IsEmpty() { // a resend for one device
		if d := s.device(one); d != nil {
			s.deliver(d, g.message(from, n, common))
		}
		return ""
	}
	own := map[*device][]node{}
	for _, one := range recipients(n) {
		if d := s.device(address(&one, "jid")); d != nil {
			own[d] = sealed(&one)
		}
	}
	for _, m := range g.members {
		for _, d := range m.account.devices {
			if d != from {
				s.deliver(d, g.message(from, n, append(slices.Clone(own[d]), common...)))
			}
		}
	}
	return ""
}

// message is a group's message as one device gets it.
func (g *group) message(from *device, n *node, enc []node) node {
	a := envelope(from, n)
	same, other := g.as(from)
	a["from"], a["participant"], a["addressing_mode"] = g.jid, same, g.mode()
	a[map[string]string{"pn": "participant_lid", "lid": "participant_pn"}[g.mode()]] = other.ToNonAD()
	return node{Tag: "message", Attrs: a, Content: append(enc, companions(n, enc)...)}
}

// NewGroup lets a number make a group, whose members know each other's numbers.
func (s *Server) NewGroup(owner, subject string, members ...string) (types.JID, error) {
	return s.newGroup(owner, subject, false, members)
}

// NewLIDGroup lets a number make a group whose members know each other by their LIDs.
func (s *Server) NewLIDGroup(owner, subject string, members ...string) (types.JID, error) {
	return s.newGroup(owner, subject, true, members)
}

func (s *Server) newGroup(owner, subject string, lids bool, members []string) (types.JID, error) {
	for _, number := range append([]string{owner}, members...) {
		if _, err := s.Person(number); err != nil {
			return types.EmptyJID, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var others []*account
	for _, number := range members {
		others = append(others, s.accounts[digits(number)])
	}
	return s.createGroup(s.accounts[digits(owner)], subject, others, "", lids).jid, nil
}

// createGroup makes a group and tells its members. The caller has the lock.
func (s *Server) createGroup(owner *account, subject string, others []*account, key string, lids bool) *group {
	g := &group{
		jid:     types.NewJID(strconv.Itoa(120363000000000000+len(s.groups)+1), types.GroupServer),
		subject: subject, created: time.Now(), invite: rand.Text(), flags: map[string]bool{}, lids: lids,
		members: []*member{{owner, "superadmin"}},
	}
	for _, a := range others {
		if a != owner && g.member(a) == nil {
			g.members = append(g.members, &member{account: a})
		}
	}
	s.groups[g.jid], s.invites[g.invite] = g, g
	for _, m := range g.members {
		a := attrs{"type": "new", "key": key}
		s.notifyGroup(g, owner, m.account, node{Tag: "create", Attrs: a, Content: []node{g.describe()}})
	}
	return g
}

// notifyGroup tells one account's devices of a change of a group.
func (s *Server) notifyGroup(g *group, by, to *account, change node) {
	same, _ := g.as(&device{account: by})
	for _, d := range to.devices {
		s.deliver(d, node{
			Tag: "notification",
			Attrs: attrs{
				"id": s.id(), "type": "w:gp2", "from": g.jid, "participant": same, "participant_pn": by.jid(),
				"t": now(), "notify": by.name, "addressing_mode": g.mode(),
			},
			Content: []node{change},
		})
	}
}

// tell tells every member of a change.
func (s *Server) tell(g *group, by *account, change node) {
	for _, m := range g.members {
		s.notifyGroup(g, by, m.account, change)
	}
}

// AddMember lets a number add another to a group.
func (s *Server) AddMember(jid types.JID, by, number string) error {
	return s.changeMembers(jid, by, number, "add")
}

// RemoveMember lets a number remove another from a group.
func (s *Server) RemoveMember(jid types.JID, by, number string) error {
	return s.changeMembers(jid, by, number, "remove")
}

func (s *Server) changeMembers(jid types.JID, by, number, action string) error {
	for _, who := range []string{by, number} {
		if _, err := s.Person(who); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alter(s.groups[jid], s.accounts[digits(by)], s.accounts[digits(number)], action)
	return nil
}

// alter changes one member of a group and tells everybody, who was removed included.
func (s *Server) alter(g *group, by, whom *account, action string) {
	if g == nil || whom == nil {
		return
	}
	m := g.member(whom)
	switch action {
	case "add":
		if m != nil {
			return
		}
		m = &member{account: whom}
		g.members = append(g.members, m)
	case "promote", "demote":
		if m == nil {
			return
		}
		m.rank = map[string]string{"promote": "admin"}[action]
	}
	if m == nil {
		return
	}
	s.tell(g, by, node{Tag: action, Content: []node{g.participant(m)}})
	if action == "remove" {
		g.remove(whom)
	}
}
