package simnet

import (
	"time"
)

// Typed is one thing that a phone saw somebody do in the chat.
type Typed struct {
	From     string    `json:"from"` // number of the session
	Presence string    `json:"presence"`
	At       time.Time `json:"timestamp"`
}

// Called is one call that a phone made.
type Called struct {
	CallID    string    `json:"callId"`
	SessionID string    `json:"sessionId"`
	Video     bool      `json:"video,omitempty"`
	Rejected  int       `json:"rejected"` // how often the other side said no
	At        time.Time `json:"timestamp"`
}

const typingKept = 100

// seeTyping shows on a phone what a session's user does.
func (n *Network) seeTyping(s *session, t *Typing) {
	to, err := normalNumber(t.To)
	if err != nil {
		return
	}
	s.mu.Lock()
	from := "+" + s.number
	s.mu.Unlock()
	p := n.phones.get(to)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.typing = append(p.typing, Typed{From: from, Presence: t.Presence, At: time.Now().UTC()})
	if len(p.typing) > typingKept {
		p.typing = append([]Typed(nil), p.typing[len(p.typing)-typingKept:]...)
	}
}

// refuseCall tells a caller that the session does not take the call.
func (n *Network) refuseCall(s *session, id string) {
	s.mu.Lock()
	caller := s.callers[id]
	s.mu.Unlock()
	p := n.phones.find(caller)
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.calls {
		if p.calls[i].CallID == id && p.calls[i].SessionID == s.id {
			p.calls[i].Rejected++
		}
	}
}
