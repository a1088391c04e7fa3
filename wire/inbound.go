package wire

import (
	"time"

	"kurir/message"
)

// Media is a medium as gateway and worker speak of it.
type Media = message.Media

// Types of worker events about what goes on around a session's messages.
const (
	// EventPresence tells who is there or types. It is of the moment: a worker whose outbox is long drops it.
	EventPresence = "presence" // PresenceData
	EventCall     = "call"     // CallData
	EventGroup    = "group"    // GroupData
)

// What a person does, in PresenceData.
const (
	PresenceAvailable   = "available"
	PresenceUnavailable = "unavailable"
	PresenceComposing   = "composing"
	PresenceRecording   = "recording"
	PresencePaused      = "paused" // typed or recorded, and stopped
)

// PresenceData is the data of presence.
type PresenceData struct {
	Chat     string     `json:"chat"`   // JID of the conversation
	Sender   string     `json:"sender"` // JID of who it is about
	From     Contact    `json:"from"`
	Presence string     `json:"presence"`
	LastSeen *time.Time `json:"lastSeen,omitempty"` // of an unavailable one, where the network tells
}

// CallData is the data of call: somebody calls. The call itself is never taken.
type CallData struct {
	CallID   string  `json:"callId"` // the network's; a call is one event
	Chat     string  `json:"chat"`   // JID of the conversation, of a group for a group call
	Sender   string  `json:"sender"` // JID of the caller
	From     Contact `json:"from"`
	Video    bool    `json:"video,omitempty"`
	Rejected bool    `json:"rejected,omitempty"` // the engine has refused it, see CreateSession.RejectCalls
}

// What happened to a group, in GroupData.
const (
	GroupCreated  = "created"  // or the session was added to it
	GroupAdded    = "added"    // Members were added or came in by the link
	GroupRemoved  = "removed"  // Members were removed
	GroupLeft     = "left"     // Members left
	GroupPromoted = "promoted" // Members are administrators now
	GroupDemoted  = "demoted"  // ... and no longer
	GroupChanged  = "changed"  // Name or Description
)

// GroupData is the data of group.
type GroupData struct {
	ChangeID    string   `json:"changeId"` // the network's name of the change
	Group       string   `json:"group"`    // JID
	Action      string   `json:"action"`
	Sender      string   `json:"sender,omitempty"` // JID of who did it, "" where the network doesn't tell
	By          *Contact `json:"by,omitempty"`
	Members     []Member `json:"members,omitempty"` // whom it happened to
	Name        *string  `json:"name,omitempty"`    // the new one
	Description *string  `json:"description,omitempty"`
}

// Member is somebody in a group.
type Member struct {
	JID string `json:"jid"`
	Contact
}

// StatusPlayed is the status of a receipt for a voice note that was listened to, beside sent, delivered and read.
const StatusPlayed = "played"

// Why a message is without its medium.
const (
	CodeMediaGone    = "media_gone"    // of a send that fails: the gateway no longer has it; of one that came in: the network
	CodeMediaRefused = "media_refused" // of one that came in: the gateway did not take it
)
