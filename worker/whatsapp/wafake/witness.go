package wafake

import (
	"time"

	"go.mau.fi/whatsmeow/types"
)

// Login is one connection of a device, from login to its end.
type Login struct {
	Device   types.JID
	Client   string    // label of the client, see Server.Configure
	From, To time.Time // To is zero while it lasts
	End      string    // "", "closed", "dropped", "replaced", "banned", "unlinked"
}

// Send is one message as it came from a device, however often.
type Send struct {
	ID     string
	Device types.JID
	To     types.JID
	Client string
	At     time.Time
	Resend bool // of a message that a device could not read
}

// witness remembers what happened on the network. What the people were shown, they remember themselves: Person.Shown.
type witness struct {
	logins  []*Login
	refused []Login
	sends   []Send
}

func (w *witness) login(device types.JID, client string) *Login {
	l := &Login{Device: device, Client: client, From: time.Now()}
	w.logins = append(w.logins, l)
	return l
}

func (l *Login) over(why string) {
	if l.To.IsZero() {
		l.To, l.End = time.Now(), why
	}
}

func (w *witness) sent(c *conn, n *node) {
	w.sends = append(w.sends, Send{
		ID: text(n, "id"), Device: c.device.jid(), To: address(n, "to"), Client: c.from, At: time.Now(),
		Resend: child(n, "participants").Tag == "" && text(n, "category") == "",
	})
}

// Logins are the logins of a number's linked devices, in order.
func (s *Server) Logins(number string) []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Login
	for _, l := range s.witness.logins {
		if l.Device.User == digits(number) && l.Device.Device != 0 {
			out = append(out, *l)
		}
	}
	return out
}

// Refused are the logins of a number's linked devices that were refused, in order. End is the reason's number: "401" of a
// device that was removed, "402" or "403" of a number that is banned, "405" of a client that is outdated.
func (s *Server) Refused(number string) []Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Login
	for _, l := range s.witness.refused {
		if l.Device.User == digits(number) && l.Device.Device != 0 {
			out = append(out, l)
		}
	}
	return out
}

// Sends are the messages that came from a number's linked devices, in order.
func (s *Server) Sends(number string) []Send {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Send
	for _, m := range s.witness.sends {
		if m.Device.User == digits(number) && m.Device.Device != 0 {
			out = append(out, m)
		}
	}
	return out
}

// Fights are the logins that threw another client's out: two held one device at once. A client that connects again
// before the network has seen its old connection end is no fight.
func (s *Server) Fights(number string) []Login {
	logins := s.Logins(number)
	var out []Login
	for i, l := range logins {
		if l.End != "replaced" {
			continue
		}
		for _, next := range logins[i+1:] {
			if next.Device == l.Device {
				if next.Client != l.Client {
					out = append(out, l)
				}
				break
			}
		}
	}
	return out
}
