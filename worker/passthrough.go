package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"kurir/wire"
)

// What a Conn may be able to do beside sending. An engine leaves out what its network cannot. Every method asks for the
// lease before it writes, and returns soon after ctx has ended. Its errors are ErrNotConnected and ErrLeaseLost, which
// prove that nothing was asked of the network; a *wire.Error, with which the network refuses; or any other, which leaves
// open what was done.

// Contacts is a Conn that can look people up.
type Contacts interface {
	CheckContacts(ctx context.Context, n wire.Numbers) (wire.Checked, error)
	ListContacts(ctx context.Context, p wire.Page) (wire.People, error)
	Contact(ctx context.Context, a wire.Address) (wire.Person, error)
	Picture(ctx context.Context, a wire.Address) (wire.Picture, error)
}

// Groups is a Conn that can be in groups.
type Groups interface {
	ListGroups(ctx context.Context, p wire.Page) (wire.Groups, error)
	Group(ctx context.Context, g wire.GroupRef) (wire.Group, error)
	CreateGroup(ctx context.Context, g wire.NewGroup) (wire.NewGroupResult, error)
	ChangeParticipants(ctx context.Context, c wire.ParticipantChange) (wire.ParticipantResults, error)
	Invite(ctx context.Context, g wire.GroupRef) (wire.Invite, error)
	RevokeInvite(ctx context.Context, g wire.GroupRef) (wire.Invite, error)
	LeaveGroup(ctx context.Context, g wire.GroupRef) (wire.Done, error)
	JoinGroup(ctx context.Context, i wire.Invite) (wire.Joined, error)
}

// Presencer is a Conn that can show and watch who is there.
type Presencer interface {
	SetPresence(ctx context.Context, p wire.Presence) (wire.Done, error)
	SubscribePresence(ctx context.Context, a wire.Address) (wire.Done, error)
}

// Reader is a Conn that can say that messages have been read.
type Reader interface {
	MarkRead(ctx context.Context, m wire.ReadMarks) (wire.Done, error)
}

// Pairer is a Conn that can be linked by a code instead of a QR. PairingCode refuses with CodeAlreadyLinked, or with
// CodeQRNotReady while the session does not show a QR.
type Pairer interface {
	PairingCode(ctx context.Context, p wire.Pairing) (wire.PairingCode, error)
}

// Labeler is a Conn that can label chats.
type Labeler interface {
	ListLabels(ctx context.Context, p wire.Page) (wire.Labels, error)
	SetLabel(ctx context.Context, m wire.LabelMark) (wire.Done, error)
}

// passTimeout is for the network to answer. It is shorter than the gateway's patience, so that the gateway can tell a
// network that is silent from a worker that hangs.
const passTimeout = 8 * time.Second

// passer carries out one call on a connection.
type passer struct {
	name   string
	writes bool
	do     func(ctx context.Context, c Conn, data json.RawMessage) (any, error)
}

// passers is every call.
var passers = []passer{
	pass(wire.CheckContacts, Contacts.CheckContacts),
	pass(wire.ListContacts, Contacts.ListContacts),
	pass(wire.GetContact, Contacts.Contact),
	pass(wire.GetPicture, Contacts.Picture),
	pass(wire.ListGroups, Groups.ListGroups),
	pass(wire.GetGroup, Groups.Group),
	pass(wire.CreateGroup, Groups.CreateGroup),
	pass(wire.ChangeParticipants, Groups.ChangeParticipants),
	pass(wire.GetInvite, Groups.Invite),
	pass(wire.RevokeInvite, Groups.RevokeInvite),
	pass(wire.LeaveGroup, Groups.LeaveGroup),
	pass(wire.JoinGroup, Groups.JoinGroup),
	pass(wire.SetPresence, Presencer.SetPresence),
	pass(wire.SubscribePresence, Presencer.SubscribePresence),
	pass(wire.MarkRead, Reader.MarkRead),
	pass(wire.GetPairingCode, Pairer.PairingCode),
	pass(wire.ListLabels, Labeler.ListLabels),
	pass(wire.SetLabel, Labeler.SetLabel),
}

func pass[C, I, O any](call wire.Call[I, O], do func(C, context.Context, I) (O, error)) passer {
	return passer{name: call.Name, writes: call.Writes, do: func(ctx context.Context, c Conn, data json.RawMessage) (any, error) {
		able, ok := c.(C)
		if !ok {
			return nil, ErrUnsupported
		}
		var in I
		if err := json.Unmarshal(data, &in); err != nil {
			return nil, wire.Refuse(wire.CodeInvalidRequest, "data is not the JSON that this call takes")
		}
		return do(able, ctx, in)
	}}
}

// Pass makes a call on a session's connection, if the session is held at exactly this epoch. What changes something is
// carried to its end even if the caller has gone, and a release waits for it as for a send.
func (n *Node) Pass(ctx context.Context, sessionID, call string, p wire.Passed) (any, error) {
	i := slices.IndexFunc(passers, func(p passer) bool { return p.name == call })
	if i < 0 {
		return nil, wire.Refuse(wire.CodeNotFound, "there is no such route")
	}
	s := n.session(sessionID)
	if s == nil {
		return nil, n.absent()
	}
	leave, err := s.enter(p.Epoch, passers[i].writes)
	if err != nil {
		return nil, err
	}
	defer leave()
	if passers[i].writes {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.PassTimeout)
	defer cancel()
	answer, err := passers[i].do(ctx, s.conn, p.Data)
	var refused *wire.Error
	switch {
	case err == nil:
		return answer, nil
	case errors.As(err, &refused):
		return nil, refused
	case refusal(err) != nil:
		return nil, refusal(err)
	case ctx.Err() != nil:
		return nil, wire.Refuse(wire.CodeEngineTimeout, "the network did not answer in time")
	}
	n.log.WarnContext(ctx, "a call to the network failed", "session", s.id, "call", call, "error", redact(err))
	return nil, wire.Refuse(wire.CodeEngineFailed, "the network could not be asked")
}

// enter checks a call against the session's fences. A call that writes is counted with the sends in hand until leave.
func (s *session) enter(epoch int64, writes bool) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case epoch != s.epoch:
		return nil, wire.Refuse(wire.CodeStaleEpoch, fmt.Sprintf("the session is held at epoch %d", s.epoch))
	case !s.lease.held():
		return nil, wire.Refuse(wire.CodeLeaseLost, ErrLeaseLost.Error())
	case s.closing:
		return nil, wire.Refuse(wire.CodeNotConnected, "the session is being released")
	case !writes:
		return func() {}, nil
	}
	s.sends++
	return s.finish, nil
}

// finish ends a call that enter has counted.
func (s *session) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishLocked()
}

// finishLocked counts one send or call less in hand.
func (s *session) finishLocked() {
	s.sends--
	if s.sends == 0 && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
}
