package simnet

import (
	"net/http"
	"sync"
)

// people is what the network tells of those who write: the name that they show, and under which LID they go.
type people struct {
	mu    sync.RWMutex
	known map[string]Person // by JID
}

func (p *people) get(jid string) Person {
	p.mu.RLock()
	defer p.mu.RUnlock()
	known := p.known[jid]
	known.JID = jid
	return known
}

func (p *people) set(who Person) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[string]Person{}
	}
	p.known[who.JID] = who
}

// identify fills in what is known of an event's sender and does not stand in it.
func (p *people) identify(e *Event) {
	who := p.get(e.Sender)
	if e.Name == "" {
		e.Name = who.Name
	}
	if e.Phone == "" {
		e.Phone = who.Phone
	}
	if e.LID == "" {
		e.LID = who.LID
	}
}

// introduce serves POST /inject/contact: from now on, events of this person carry these. One who has a number and a LID
// goes by either.
func (n *Network) introduce(in Person) (any, error) {
	jid, err := normalNumber(in.JID)
	if err != nil {
		return nil, refusef(http.StatusUnprocessableEntity, "jid: %v", err)
	}
	in.JID = jidOf(jid)
	n.people.set(in)
	if in.LID != "" && in.LID != in.JID {
		other := in
		other.JID = in.LID
		if number, isNumber := numberOf(in.JID); isNumber && in.Phone == "" {
			other.Phone = number
		}
		n.people.set(other)
	}
	return ok{true}, nil
}
