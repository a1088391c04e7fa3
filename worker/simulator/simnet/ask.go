package simnet

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"kurir/wire"
)

// Ask is a call of the worker protocol, passed on by a worker, and Answer what the network says.
type Ask struct {
	Call string          `json:"call"` // name of a wire.Call
	Data json.RawMessage `json:"data"`
}

// Answer has data, or the code of a refusal.
type Answer struct {
	Data  json.RawMessage `json:"data,omitempty"`
	Code  string          `json:"code,omitempty"`
	Error string          `json:"error,omitempty"`
}

// handler answers one call for a session whose lock is held.
type handler func(n *Network, s *session, data json.RawMessage) (any, error)

// handlers is every call that the network knows. It has no labels.
var handlers = map[string]handler{
	wire.CheckContacts.Name:      on(wire.CheckContacts, (*Network).checkContacts),
	wire.ListContacts.Name:       on(wire.ListContacts, (*Network).listContacts),
	wire.GetContact.Name:         on(wire.GetContact, (*Network).contact),
	wire.GetPicture.Name:         on(wire.GetPicture, (*Network).picture),
	wire.ListGroups.Name:         on(wire.ListGroups, (*Network).listGroups),
	wire.GetGroup.Name:           on(wire.GetGroup, (*Network).group),
	wire.CreateGroup.Name:        on(wire.CreateGroup, (*Network).createGroup),
	wire.ChangeParticipants.Name: on(wire.ChangeParticipants, (*Network).changeParticipants),
	wire.GetInvite.Name:          on(wire.GetInvite, (*Network).invite),
	wire.RevokeInvite.Name:       on(wire.RevokeInvite, (*Network).revokeInvite),
	wire.LeaveGroup.Name:         on(wire.LeaveGroup, (*Network).leaveGroup),
	wire.JoinGroup.Name:          on(wire.JoinGroup, (*Network).joinGroup),
	wire.SetPresence.Name:        on(wire.SetPresence, (*Network).setPresence),
	wire.SubscribePresence.Name:  on(wire.SubscribePresence, (*Network).subscribe),
	wire.MarkRead.Name:           on(wire.MarkRead, (*Network).markRead),
	wire.GetPairingCode.Name:     on(wire.GetPairingCode, (*Network).pairingCode),
}

func on[I, O any](_ wire.Call[I, O], do func(*Network, *session, I) (O, error)) handler {
	return func(n *Network, s *session, data json.RawMessage) (any, error) {
		var in I
		if err := json.Unmarshal(data, &in); err != nil {
			return nil, wire.Refuse(wire.CodeInvalidRequest, "the data has another form")
		}
		return do(n, s, in)
	}
}

// answerAsk answers c's question, unless it is to be ignored, or c lost the session meanwhile.
func (n *Network) answerAsk(c *conn, id int64, a *Ask) {
	if due(&n.faults.ignoreAsk) {
		return
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.conn != c {
		return
	}
	c.queue(&Frame{Op: OpAnswer, N: id, Answer: n.ask(c.s, a)})
}

func (n *Network) ask(s *session, a *Ask) *Answer {
	handle := handlers[a.Call]
	if handle == nil {
		return &Answer{Code: wire.CodeUnsupported, Error: "the simulated network cannot do that"}
	}
	if !s.linked && a.Call != wire.GetPairingCode.Name {
		return &Answer{Code: wire.CodeNotConnected, Error: "the session is not linked"}
	}
	out, err := handle(n, s, a.Data)
	var refused *wire.Error
	if errors.As(err, &refused) {
		return &Answer{Code: refused.Code, Error: refused.Message}
	}
	data, encodeErr := json.Marshal(out)
	if err = errors.Join(err, encodeErr); err != nil {
		return &Answer{Code: wire.CodeInvalidRequest, Error: err.Error()}
	}
	return &Answer{Data: data}
}

// exists reports whether a number is on the network.
func exists(number string) bool { return !strings.HasSuffix(number, absentSuffix) }

func (n *Network) checkContacts(_ *session, in wire.Numbers) (out wire.Checked, err error) {
	for _, asked := range in.Numbers {
		number, err := normalNumber(asked)
		c := wire.CheckedNumber{Number: asked, Exists: err == nil && exists(number)}
		if c.Exists {
			jid := jidOf(number)
			c.JID = &jid
		}
		out.Numbers = append(out.Numbers, c)
	}
	return out, nil
}

const about = "Hey there! I am using a simulated network."

// person is what a session's phone knows of a number.
func (s *session) person(number string) wire.Person {
	phone, text := "+"+number, about
	p := wire.Person{JID: jidOf(number), Phone: &phone, About: &text}
	if name := s.contacts[number]; name != "" {
		p.Name = &name
	}
	return p
}

func (n *Network) listContacts(s *session, in wire.Page) (out wire.People, err error) {
	numbers, more := page(s.contacts, in, jidOf)
	out.More = more
	for _, number := range numbers {
		out.Contacts = append(out.Contacts, s.person(number))
	}
	return out, nil
}

func personAt(jid string) (number string, err error) {
	number, err = normalNumber(jid)
	if err != nil || strings.Contains(number, "@") || !exists(number) {
		return "", wire.Refuse(wire.CodeContactNotFound, "nobody has this address")
	}
	return number, nil
}

func (n *Network) contact(s *session, in wire.Address) (wire.Person, error) {
	number, err := personAt(in.JID)
	if err != nil {
		return wire.Person{}, err
	}
	return s.person(number), nil
}

// picture: who has a number that ends in 9 has no picture. The worker knows where the network is.
func (n *Network) picture(_ *session, in wire.Address) (wire.Picture, error) {
	number, err := personAt(in.JID)
	if err != nil || strings.HasSuffix(number, "9") {
		return wire.Picture{}, err
	}
	path, id := "/phones/"+number+"/picture", number
	return wire.Picture{URL: &path, ID: &id}, nil
}

const pairingLasts = 160 * time.Second

// pairing is a code that is to be entered on a phone.
type pairing struct {
	number, code string
	expires      time.Time
}

func (n *Network) pairingCode(s *session, in wire.Pairing) (wire.PairingCode, error) {
	number, err := normalNumber(in.PhoneNumber)
	switch {
	case err != nil || !exists(number):
		return wire.PairingCode{}, wire.Refuse(wire.CodeContactNotFound, "there is no such phone")
	case s.linked:
		return wire.PairingCode{}, wire.Refuse(wire.CodeAlreadyLinked, "the session is linked")
	}
	text := codeText(8)
	s.pairing = &pairing{number: number, code: text[:4] + "-" + text[4:], expires: time.Now().Add(pairingLasts).UTC()}
	return wire.PairingCode{Code: s.pairing.code, ExpiresAt: s.pairing.expires}, nil
}
