package simnet

import "net/http"

// Report is what the network witnessed, GET /report.
type Report struct {
	Messages          int64                    `json:"messages"`          // shown on phones
	Duplicates        int64                    `json:"duplicates"`        // one message under two WhatsApp IDs, or one WhatsApp ID for two things
	Reordered         int64                    `json:"reordered"`         // shown after a later one of the same session and chat
	DoubleConnections int64                    `json:"doubleConnections"` // moments at which two workers held one session
	Deduplicated      int64                    `json:"deduplicated"`      // sends of what was on the phone already: harmless
	PerSession        map[string]SessionReport `json:"perSession"`        // by uid
}

// SessionReport is the part of one session.
type SessionReport struct {
	ConnectedTo    string `json:"connectedTo"` // worker, "" if nobody holds it
	Epoch          int64  `json:"epoch"`       // of the last login
	Messages       int64  `json:"messages"`    // shown
	Linked         bool   `json:"linked"`
	PhoneNumber    string `json:"phoneNumber,omitempty"`
	Unacknowledged int    `json:"unacknowledged"` // events
}

// Report tells what the network has seen. Messages outlive a restart with a journal; double connections do not.
func (n *Network) Report() Report {
	r := Report{
		Messages: n.messages.Load(), Duplicates: n.duplicates.Load(), Reordered: n.reordered.Load(),
		DoubleConnections: n.doubles.Load(), Deduplicated: n.deduplicated.Load(),
		PerSession: map[string]SessionReport{},
	}
	for _, s := range n.all() {
		r.PerSession[s.id] = s.report()
	}
	return r
}

func (s *session) report() SessionReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := SessionReport{Epoch: s.epoch, Messages: s.messages, Linked: s.linked}
	if s.conn != nil {
		r.ConnectedTo = s.conn.worker
	}
	if s.number != "" {
		r.PhoneNumber = "+" + s.number
	}
	s.events.unacked(func(Event) { r.Unacknowledged++ })
	return r
}

func (n *Network) all() []*session {
	n.mu.RLock()
	defer n.mu.RUnlock()
	list := make([]*session, 0, len(n.sessions))
	for _, s := range n.sessions {
		list = append(list, s)
	}
	return list
}

func (n *Network) getReport(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, n.Report())
}

// PhoneScreen is GET /phones/{number}/messages.
type PhoneScreen struct {
	Number   string   `json:"number"`
	Messages []Shown  `json:"messages"`          // in the order in which they appeared
	Written  []Shown  `json:"written,omitempty"` // by the phone's owner, since the network started
	Typing   []Typed  `json:"typing,omitempty"`
	Calls    []Called `json:"calls,omitempty"` // that the owner made
}

func (n *Network) getPhone(w http.ResponseWriter, r *http.Request) {
	number, err := normalNumber(r.PathValue("number"))
	if err != nil {
		answerAs(w, nil, err)
		return
	}
	screen := PhoneScreen{Number: "+" + number, Messages: []Shown{}}
	if p := n.phones.find(number); p != nil {
		p.picture(&screen)
	}
	reply(w, http.StatusOK, screen)
}
