package wafake

import "go.mau.fi/whatsmeow/types"

// handleReceipt takes what a device says of messages, and tells their sender.
func (s *Server) handleReceipt(c *conn, n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.device == nil {
		return
	}
	to, kind := address(n, "to"), text(n, "type")
	switch kind {
	case "", "inactive", "sender", "peer_msg", "hist_sync": // these acknowledge the message, too
		for _, id := range receiptIDs(n) {
			c.device.settled("message", id, address(n, "participant"))
		}
	}
	ack := attrs{"class": "receipt", "id": text(n, "id"), "from": to}
	if kind != "" {
		ack["type"] = kind
	}
	c.send(node{Tag: "ack", Attrs: ack})

	out := node{Tag: "receipt", Attrs: attrs{"id": text(n, "id"), "t": now()}, Content: n.Content}
	for _, key := range []string{"type", "recipient", "edit"} {
		if value, ok := n.Attrs[key]; ok {
			out.Attrs[key] = value
		}
	}
	target := to
	if to.Server == types.GroupServer {
		target = address(n, "participant")
		out.Attrs["from"] = to
		out.Attrs["participant"], _ = c.device.as(target)
	} else {
		out.Attrs["from"], _ = c.device.as(to)
	}
	a := s.account(target)
	if a == nil || kind == "peer_msg" || kind == "hist_sync" {
		return
	}
	if to.Server == types.GroupServer && kind != "retry" && s.faults.grouped {
		out = s.inOne(out)
	}
	for _, d := range a.devices {
		if d != c.device && (kind != "retry" || d.id == target.Device) {
			s.deliver(d, out)
		}
	}
}

// inOne is a group's receipt in the form that can speak for several members at once.
func (s *Server) inOne(r node) node {
	who := node{Tag: "user", Attrs: attrs{"jid": r.Attrs["participant"], "t": r.Attrs["t"]}}
	var each []node
	for _, id := range receiptIDs(&r) {
		each = append(each, node{Tag: "participants", Attrs: attrs{"key": id}, Content: []node{who}})
	}
	a := clone(r.Attrs)
	delete(a, "participant")
	a["id"] = s.id()
	return node{Tag: "receipt", Attrs: a, Content: each}
}

// receiptIDs are the messages that a receipt speaks of.
func receiptIDs(n *node) []string {
	ids := []string{text(n, "id")}
	list := child(n, "list")
	for _, item := range list.GetChildrenByTag("item") {
		ids = append(ids, text(&item, "id"))
	}
	return ids
}
