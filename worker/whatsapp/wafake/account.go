package wafake

import (
	"fmt"
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// account is a number with its devices: 0 is the phone, the others are linked.
type account struct {
	number  string
	lid     string // user of the LID
	name    string
	about   string
	devices map[uint16]*device
	ban     *ban
	hidden  bool // others are told its LID, not its number
	social
}

// ban is why an account is refused at login.
type ban struct{ reason, code, expire string }

// device is one of an account's, with what the network keeps for it.
type device struct {
	account  *account
	id       uint16
	static   [32]byte // its Noise key: who has it may log in
	keys     bundle
	platform string
	queue    []*pending
	conn     *conn  // nil while it is not connected
	from     string // label of its last client
}

func (d *device) jid() types.JID {
	return types.JID{User: d.account.number, Device: d.id, Server: types.DefaultUserServer}
}

func (d *device) lid() types.JID {
	return types.JID{User: d.account.lid, Device: d.id, Server: types.HiddenUserServer}
}

// as is the device's address of the kind that another address is of, and its address of the other kind.
func (d *device) as(like types.JID) (same, other types.JID) {
	if like.Server == types.HiddenUserServer {
		return d.lid(), d.jid()
	}
	return d.jid(), d.lid()
}

func (a *account) jid() types.JID { return types.NewJID(a.number, types.DefaultUserServer) }

func (a *account) lidJID() types.JID { return types.NewJID(a.lid, types.HiddenUserServer) }

// free is the lowest ID that no linked device has. So a number that is linked anew after its device was removed has the
// JID that it had, the case in which keys of old may be in the way.
func (a *account) free() uint16 {
	for id := uint16(1); ; id++ {
		if a.devices[id] == nil {
			return id
		}
	}
}

// account finds an account by either of its addresses. The caller has the lock.
func (s *Server) account(jid types.JID) *account {
	switch jid.Server {
	case types.HiddenUserServer:
		return s.lids[jid.User]
	case types.DefaultUserServer, types.LegacyUserServer:
		return s.accounts[jid.User]
	}
	return nil
}

// device finds a device by either of its addresses. The caller has the lock.
func (s *Server) device(jid types.JID) *device {
	if a := s.account(jid); a != nil {
		return a.devices[jid.Device]
	}
	return nil
}

// open opens an account for a number that has none. The caller has the lock.
func (s *Server) open(number string) *account {
	a := s.accounts[number]
	if a == nil {
		a = &account{number: number, lid: fmt.Sprintf("%d", 100_000_000_000_000+len(s.accounts)+1), devices: map[uint16]*device{}}
		a.name = "Person " + number[max(0, len(number)-4):]
		s.accounts[number], s.lids[a.lid] = a, a
	}
	return a
}

// Absent says that a number is not on WhatsApp. All others are: whoever is written to or looked for is there, with a
// phone that is on.
func (s *Server) Absent(number string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.absent[digits(number)] = true
}

// Hide lets a person's messages come from its LID, and nobody is told its number.
func (s *Server) Hide(number string) error {
	p, err := s.Person(number)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accounts[p.Number].hidden = true
	return nil
}

// LID is the other address of a number.
func (s *Server) LID(number string) (types.JID, error) {
	if _, err := s.Person(number); err != nil {
		return types.EmptyJID, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accounts[digits(number)].lidJID(), nil
}

func digits(number string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, number)
}
