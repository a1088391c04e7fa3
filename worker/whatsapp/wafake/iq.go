package wafake

import (
	"go.mau.fi/whatsmeow/types"
)

// handleIQ answers a client's query, or takes its answer.
func (s *Server) handleIQ(c *conn, n *node) {
	if kind := text(n, "type"); kind == "result" || kind == "error" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.link != nil && c.link.request != "" && text(n, "id") == c.link.request {
			s.linked(c, n)
		}
		return
	}
	answer, code := s.answer(c, n)
	a := attrs{"id": text(n, "id"), "type": "result", "from": types.ServerJID}
	if to := address(n, "to"); !to.IsEmpty() {
		a["from"] = to
	}
	out := node{Tag: "iq", Attrs: a}
	switch {
	case code != "":
		a["type"] = "error"
		out.Content = []node{{Tag: "error", Attrs: attrs{"code": code, "text": errorTexts[code]}}}
	case answer.Tag != "":
		out.Content = []node{answer}
	}
	c.send(out)
	s.after(c, n)
}

var errorTexts = map[string]string{
	"400": "bad-request", "401": "not-authorized", "403": "forbidden", "404": "item-not-found", "406": "not-acceptable",
	"410": "gone", "501": "feature-not-implemented", "503": "service-unavailable",
}

// answer is the child of the answer to a query, none if its tag is empty, or the code of an error.
func (s *Server) answer(c *conn, n *node) (node, string) {
	switch text(n, "xmlns") {
	case "encrypt":
		return s.encrypt(c, n)
	case "usync":
		return s.usync(c, n), ""
	case "w:g2":
		return s.groupQuery(c, n)
	case "w:m":
		return s.mediaConn(), ""
	case "md":
		return s.companion(c, n)
	case "w:profile:picture":
		return s.picture(n)
	case "privacy":
		return node{Tag: "privacy"}, ""
	case "blocklist":
		return node{Tag: "list"}, ""
	case "w:sync:app:state":
		return s.appState(n), ""
	case "status":
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.device != nil {
			c.device.account.about = string(content(n, "status"))
		}
		return node{}, ""
	case "w:p", "passive", "urn:xmpp:whatsapp:dirty", "urn:xmpp:whatsapp:push", "disappearing_mode", "abt", "w":
		return node{}, ""
	}
	return node{}, "501"
}

// after does what has to follow the answer on the wire.
func (s *Server) after(c *conn, n *node) {
	switch {
	case text(n, "xmlns") == "passive" && child(n, "active").Tag != "":
		s.mu.Lock()
		defer s.mu.Unlock()
		s.activate(c)
	case text(n, "xmlns") == "md" && c.link != nil && c.link.code != nil && content(n, "link_code_companion_reg", "link_code_pairing_wrapped_key_bundle") != nil:
		s.finishCode(c, n)
	case text(n, "xmlns") == "md" && child(n, "remove-companion-device").Tag != "":
		s.mu.Lock()
		defer s.mu.Unlock()
		whom := child(n, "remove-companion-device")
		if d := s.device(address(&whom, "jid")); d != nil && c.device != nil && d.account == c.device.account && d.id != 0 {
			s.remove(d)
		}
	}
}

// companion answers queries about linking.
func (s *Server) companion(c *conn, n *node) (node, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reg := child(n, "link_code_companion_reg")
	switch {
	case reg.Tag == "":
		return node{}, ""
	case c.link == nil:
		return node{}, "400"
	case text(&reg, "stage") == "companion_hello":
		return s.hello(c, n), ""
	}
	return node{}, ""
}

// appState is an account without any settings.
func (s *Server) appState(n *node) node {
	asked := child(n, "sync", "collection")
	return node{Tag: "sync", Content: []node{{
		Tag: "collection", Attrs: attrs{"name": text(&asked, "name"), "version": "0", "type": "result"},
	}}}
}

func (s *Server) picture(n *node) (node, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.account(address(n, "target"))
	if a == nil || a.pictureID == "" {
		return node{}, "404"
	}
	path := s.keep(a.picture)
	return node{Tag: "picture", Attrs: attrs{
		"id": a.pictureID, "type": "image", "url": "https://" + mediaHost + path, "direct_path": path,
	}}, ""
}
