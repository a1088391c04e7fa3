package wire

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// Call is something that a session's worker asks of the session's network, and answers at once: POST
// /session/{id}/{name} with a Passed body. I is its data, O the answer's.
type Call[I, O any] struct {
	Name   string
	Writes bool // it changes something on the network: after a doubt it is not asked again
}

// Passed is the body of every Call. It is taken at exactly this epoch.
type Passed struct {
	Epoch int64           `json:"epoch"`
	Data  json.RawMessage `json:"data"`
}

// Done answers a call of which there is nothing to tell.
type Done struct{}

// The calls. A worker that does not know one refuses it with CodeNotFound, one whose engine cannot do it with CodeUnsupported.
var (
	CheckContacts = Call[Numbers, Checked]{Name: "contacts/check"}
	ListContacts  = Call[Page, People]{Name: "contacts"}
	GetContact    = Call[Address, Person]{Name: "contacts/get"}
	GetPicture    = Call[Address, Picture]{Name: "picture"}

	ListGroups         = Call[Page, Groups]{Name: "groups"}
	GetGroup           = Call[GroupRef, Group]{Name: "groups/get"}
	CreateGroup        = Call[NewGroup, NewGroupResult]{Name: "groups/create", Writes: true}
	ChangeParticipants = Call[ParticipantChange, ParticipantResults]{Name: "groups/participants", Writes: true}
	GetInvite          = Call[GroupRef, Invite]{Name: "groups/invite"}
	RevokeInvite       = Call[GroupRef, Invite]{Name: "groups/invite/revoke", Writes: true}
	LeaveGroup         = Call[GroupRef, Done]{Name: "groups/leave", Writes: true}
	JoinGroup          = Call[Invite, Joined]{Name: "groups/join", Writes: true}

	SetPresence       = Call[Presence, Done]{Name: "presence", Writes: true}
	SubscribePresence = Call[Address, Done]{Name: "presence/subscribe", Writes: true}
	MarkRead          = Call[ReadMarks, Done]{Name: "read", Writes: true}
	GetPairingCode    = Call[Pairing, PairingCode]{Name: "pairing-code", Writes: true}

	ListLabels = Call[Page, Labels]{Name: "labels"}
	SetLabel   = Call[LabelMark, Done]{Name: "labels/chats", Writes: true}
)

// Pass makes a call. Refusals are *Error, as of Client's methods.
func Pass[I, O any](ctx context.Context, c *Client, sessionID string, epoch int64, call Call[I, O], in I) (out O, err error) {
	data, err := json.Marshal(in)
	if err != nil {
		return out, &unreached{err}
	}
	err = c.call(ctx, http.MethodPost, sessionPath(sessionID, "/"+call.Name), Passed{Epoch: epoch, Data: data}, &out)
	return out, err
}

// Page asks for a part of a list, which is sorted by JID or ID.
type Page struct {
	Limit int    `json:"limit"`
	After string `json:"after,omitempty"` // the last one of the page before
}

// Address is a person: a JID at s.whatsapp.net or lid.
type Address struct {
	JID string `json:"jid"`
}

// Numbers are to be looked up.
type Numbers struct {
	Numbers []string `json:"numbers"` // digits
}

// Checked answers CheckContacts: each number that was asked for, in that order.
type Checked struct {
	Numbers []CheckedNumber `json:"numbers"`
}

// CheckedNumber says whether a number is on the network.
type CheckedNumber struct {
	Number string  `json:"number"` // as it was asked for
	Exists bool    `json:"exists"`
	JID    *string `json:"jid"` // nil unless it exists
	LID    *string `json:"lid"`
}

// Person is what the session's phone knows of somebody. What it does not know is nil.
type Person struct {
	JID   string  `json:"jid"`
	Phone *string `json:"phone"` // digits with a leading +
	LID   *string `json:"lid"`
	Name  *string `json:"name"`
	About *string `json:"about"`
}

// People is a page of the session's contacts.
type People struct {
	Contacts []Person `json:"contacts"`
	More     bool     `json:"more"`
}

// Picture is where the network shows a profile picture; nil if there is none, or none that the session may see.
type Picture struct {
	URL *string `json:"url"`
	ID  *string `json:"id"` // changes with the picture
}

// Roles in a group.
const (
	RoleOwner  = "owner"
	RoleAdmin  = "admin"
	RoleMember = "member"
)

// Group is a group that the session is in.
type Group struct {
	ID           string        `json:"id"` // JID
	Subject      string        `json:"subject"`
	Owner        string        `json:"owner,omitempty"` // JID
	CreatedAt    time.Time     `json:"createdAt"`
	Size         int           `json:"size"`
	Participants []Participant `json:"participants,omitempty"` // not in lists
}

// Participant is somebody in a group.
type Participant struct {
	JID   string  `json:"jid"`
	Phone *string `json:"phone"` // nil if it cannot be resolved
	LID   *string `json:"lid"`   // these nil if unknown
	Name  *string `json:"name"`
	Role  string  `json:"role"`
}

// Groups is a page of the session's groups.
type Groups struct {
	Groups []Group `json:"groups"`
	More   bool    `json:"more"`
}

// GroupRef names a group.
type GroupRef struct {
	Group string `json:"group"` // JID
}

// NewGroup is a group to create.
type NewGroup struct {
	Key          string   `json:"key"` // two creations with one key are one, as far as the network can tell
	Subject      string   `json:"subject"`
	Participants []string `json:"participants"` // JIDs, without the session's own
}

// NewGroupResult is the group, and who could not be added.
type NewGroupResult struct {
	Group
	Results []ParticipantResult `json:"results"`
}

// Changes of a group's participants.
const (
	ChangeAdd     = "add"
	ChangeRemove  = "remove"
	ChangePromote = "promote"
	ChangeDemote  = "demote"
)

// ParticipantChange changes who is in a group, and as what.
type ParticipantChange struct {
	Group        string   `json:"group"`
	Change       string   `json:"change"`
	Participants []string `json:"participants"`
}

// ParticipantResult is what became of one participant. Code is empty if it was done; else not_on_whatsapp, already_member,
// not_member, is_owner, invite_needed or another one of the network's.
type ParticipantResult struct {
	JID  string `json:"jid"`
	Code string `json:"code,omitempty"`
}

// ParticipantResults answers ChangeParticipants.
type ParticipantResults struct {
	Participants []ParticipantResult `json:"participants"`
}

// Invite leads into a group.
type Invite struct {
	Code string `json:"code"`
	Link string `json:"link,omitempty"`
}

// Joined is the group that was joined; Pending if an administrator of it has to agree first.
type Joined struct {
	Group   string `json:"group"`
	Pending bool   `json:"pending,omitempty"`
}

// Presence is what others see of the session.
type Presence struct {
	Chat  string `json:"chat,omitempty"` // JID; of composing, recording and paused only
	State string `json:"state"`
}

// ReadMarks are messages that have been read.
type ReadMarks struct {
	Messages []ReadMark `json:"messages"`
}

// ReadMark is messages of one author in one chat.
type ReadMark struct {
	Chat        string   `json:"chat"`
	Sender      string   `json:"sender"`
	WhatsappIDs []string `json:"whatsappIds"`
}

// Pairing asks for a code that the owner of a phone enters instead of scanning.
type Pairing struct {
	PhoneNumber string `json:"phoneNumber"` // digits
}

// PairingCode answers Pairing.
type PairingCode struct {
	Code      string    `json:"code"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Label marks chats.
type Label struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Color int    `json:"color"`
}

// Labels is a page of the session's labels.
type Labels struct {
	Labels []Label `json:"labels"`
	More   bool    `json:"more"`
}

// LabelMark puts a label on a chat, or takes it off.
type LabelMark struct {
	Label string `json:"label"`
	Chat  string `json:"chat"`
	On    bool   `json:"on"`
}
