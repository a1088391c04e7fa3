package wafake

import (
	"crypto/rand"
	"strconv"

	"go.mau.fi/whatsmeow/types"
)

// groupQuery answers queries about groups. The whole of it has the lock.
func (s *Server) groupQuery(c *conn, n *node) (node, string) {
	children := n.GetChildren()
	if len(children) == 0 {
		return node{}, "400"
	}
	what := children[0]
	s.meet(&what)
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.device == nil {
		return node{}, "401"
	}
	me := c.device.account
	if address(n, "to") == types.GroupServerJID {
		return s.groupsQuery(me, &what, text(n, "type"))
	}
	g := s.groups[address(n, "to")]
	switch {
	case g == nil:
		return node{}, "404"
	case g.member(me) == nil:
		return node{}, "403"
	}
	if text(n, "type") == "get" {
		switch what.Tag {
		case "query":
			return g.describe(), ""
		case "invite":
			return node{Tag: "invite", Attrs: attrs{"code": g.invite}}, ""
		}
		return node{}, "501"
	}
	if g.member(me).rank == "" {
		return node{}, "403"
	}
	return s.groupChange(g, me, &what)
}

// meet gives everybody who is named in a query a phone.
func (s *Server) meet(n *node) {
	for _, one := range n.GetChildrenByTag("participant") {
		if jid := address(&one, "jid"); jid.Server == types.DefaultUserServer {
			_, _ = s.Person(jid.User) // who is absent is told of below
		}
	}
}

// groupsQuery answers queries that aren't about a group that the client names.
func (s *Server) groupsQuery(me *account, what *node, kind string) (node, string) {
	switch what.Tag {
	case "create":
		var others []*account
		for _, one := range what.GetChildrenByTag("participant") {
			if a := s.account(address(&one, "jid")); a != nil {
				others = append(others, a)
			}
		}
		return s.createGroup(me, text(what, "subject"), others, text(what, "key"), false).describe(), ""
	case "participating":
		var mine []node
		for _, g := range s.groups {
			if g.member(me) != nil {
				mine = append(mine, g.describe())
			}
		}
		return node{Tag: "groups", Content: mine}, ""
	case "leave":
		one := child(what, "group")
		g := s.groups[address(&one, "id")]
		if g == nil || g.member(me) == nil {
			return node{}, "404"
		}
		s.alter(g, me, me, "remove")
		return node{Tag: "leave", Content: []node{one}}, ""
	case "invite":
		g := s.invites[text(what, "code")]
		if g == nil {
			return node{}, "406"
		}
		if kind == "get" {
			return g.describe(), ""
		}
		s.alter(g, me, me, "add")
		return node{Tag: "group", Attrs: attrs{"jid": g.jid}}, ""
	}
	return node{}, "501"
}

// groupChange changes a group for one of its administrators.
func (s *Server) groupChange(g *group, me *account, what *node) (node, string) {
	switch what.Tag {
	case "add", "remove", "promote", "demote":
		var done []node
		for _, one := range what.GetChildrenByTag("participant") {
			jid := address(&one, "jid")
			a := s.account(jid)
			answer := node{Tag: "participant", Attrs: attrs{"jid": jid}}
			if a == nil || (what.Tag != "add" && g.member(a) == nil) {
				answer.Attrs["error"] = "404"
			} else {
				s.alter(g, me, a, what.Tag)
			}
			done = append(done, answer)
		}
		return node{Tag: what.Tag, Content: done}, ""
	case "subject":
		raw, _ := what.Content.([]byte)
		g.subject = string(raw)
		s.tell(g, me, node{Tag: "subject", Attrs: attrs{"subject": g.subject, "s_t": now(), "s_o": me.jid()}})
	case "description":
		g.topic, g.topicID = string(content(what, "body")), text(what, "id")
		s.tell(g, me, node{Tag: "description", Attrs: attrs{"id": g.topicID}, Content: []node{{Tag: "body", Content: []byte(g.topic)}}})
	case "announcement", "locked":
		g.flags[what.Tag] = true
		s.tell(g, me, node{Tag: what.Tag, Attrs: attrs{"v_id": strconv.Itoa(s.number())}})
	case "not_announcement":
		delete(g.flags, "announcement")
		s.tell(g, me, node{Tag: what.Tag, Attrs: attrs{"v_id": strconv.Itoa(s.number())}})
	case "unlocked":
		delete(g.flags, "locked")
		s.tell(g, me, node{Tag: what.Tag})
	case "invite":
		delete(s.invites, g.invite)
		g.invite = rand.Text()
		s.invites[g.invite] = g
		return node{Tag: "invite", Attrs: attrs{"code": g.invite}}, ""
	default:
		return node{}, "501"
	}
	return node{}, ""
}
