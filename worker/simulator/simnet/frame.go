package simnet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"kurir/message"
	"kurir/wire"
)

// A connection is one WebSocket per session, GET /connect. Every WebSocket message holds one or more frames, one JSON
// object a line; whoever has several at hand sends them together. The worker speaks first, with hello.

// Operations of a worker's frames.
const (
	OpHello  = "hello"  // Hello: log in
	OpSend   = "send"   // N, Send
	OpAck    = "ack"    // Ack: these events are stored
	OpPong   = "pong"   // N of the ping
	OpLogout = "logout" // unlink this device; answered by loggedOut
	OpAsk    = "ask"    // N, Ask: a call that is passed on
	OpTyping = "typing" // Typing: the session's user types, or has stopped
	OpReject = "reject" // Call: refuse this call
)

// Operations of the network's frames.
const (
	OpQR        = "qr"        // QR: not linked, scan this
	OpLinked    = "linked"    // PhoneNumber: the QR was scanned
	OpReady     = "ready"     // PhoneNumber: sends are taken from here on
	OpResult    = "result"    // N of the send, Result
	OpAnswer    = "answer"    // N of the ask, Answer
	OpEvent     = "event"     // Event, delivered again upon each login until it is acknowledged; once only if its N is 0
	OpPing      = "ping"      // N
	OpReplaced  = "replaced"  // another login of this session took over; hang up
	OpLoggedOut = "loggedOut" // the device was unlinked; the network hangs up
	OpBanned    = "banned"    // the number was banned; the network hangs up
)

// Frame is one frame in either direction. Which fields are set depends on Op.
type Frame struct {
	Op          string           `json:"op"`
	N           int64            `json:"n,omitempty"`
	Hello       *Hello           `json:"hello,omitempty"`
	Send        *wire.Send       `json:"send,omitempty"`
	Ack         []int64          `json:"ack,omitempty"`
	QR          *QR              `json:"qr,omitempty"`
	PhoneNumber string           `json:"phoneNumber,omitempty"`
	Result      *wire.SendResult `json:"result,omitempty"`
	Event       *Event           `json:"event,omitempty"`
	Ask         *Ask             `json:"ask,omitempty"`
	Answer      *Answer          `json:"answer,omitempty"`
	Typing      *Typing          `json:"typing,omitempty"`
	Call        string           `json:"call,omitempty"`
}

// Typing tells a chat what the session's user does there.
type Typing struct {
	To       string `json:"to"`       // JID
	Presence string `json:"presence"` // wire.PresenceComposing, ...
}

// Hello logs a session in.
type Hello struct {
	SessionID string `json:"sessionId"`
	Epoch     int64  `json:"epoch"` // recorded, never enforced
	Worker    string `json:"worker"`
}

// QR is one code of the pairing screen.
type QR struct {
	Code      string    `json:"code"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Kinds of Event.
const (
	KindMessage   = "message"
	KindDelivered = "receipt.delivered"
	KindRead      = "receipt.read"
	KindPlayed    = "receipt.played"
	KindPresence  = "presence"
	KindCall      = "call"
	KindGroup     = "group"
)

// Event is something that happened to a session's device. Kind, WhatsappID and Sender are its identity; N is only its
// place in the session's queue, good within one run of the network.
type Event struct {
	N          int64  `json:"n"`
	Kind       string `json:"kind"`
	WhatsappID string `json:"whatsappId"`
	Chat       string `json:"chat"`             // JID
	Sender     string `json:"sender,omitempty"` // JID of a message's author, a receipt's giver, a caller, ...
	At         int64  `json:"at"`               // Unix time in milliseconds; a redelivery has the same
	FromMe     bool   `json:"fromMe,omitempty"`
	Name       string `json:"name,omitempty"` // of the sender
	Type       string `json:"type,omitempty"`
	Text       string `json:"text,omitempty"`
	MediaURL   string `json:"mediaUrl,omitempty"`
	Caption    string `json:"caption,omitempty"`
	Filename   string `json:"filename,omitempty"`

	Phone  string  `json:"phone,omitempty"` // of the sender, where its JID doesn't tell
	LID    string  `json:"lid,omitempty"`   // of the sender
	Medium *Medium `json:"medium,omitempty"`
	message.Details

	Presence string       `json:"presence,omitempty"`
	LastSeen int64        `json:"lastSeen,omitempty"` // Unix time in milliseconds
	Video    bool         `json:"video,omitempty"`
	Change   *GroupChange `json:"change,omitempty"`
}

// Medium is a medium on the network, GET /media/{sha256}.
type Medium struct {
	SHA256   string `json:"sha256"` // of what was uploaded: that is its name
	Size     int64  `json:"size"`
	MIMEType string `json:"mimetype,omitempty"`
}

// GroupChange is what happened to a group, see wire.GroupData.
type GroupChange struct {
	Action      string   `json:"action"`
	Members     []Person `json:"members,omitempty"`
	Name        *string  `json:"name,omitempty"`
	Description *string  `json:"description,omitempty"`
}

// Person is how the network knows somebody.
type Person struct {
	JID   string `json:"jid"`
	Phone string `json:"phone,omitempty"` // digits with a leading +
	LID   string `json:"lid,omitempty"`
	Name  string `json:"name,omitempty"`
}

// AppendFrame adds f to a message.
func AppendFrame(buf *bytes.Buffer, f *Frame) error {
	return json.NewEncoder(buf).Encode(f) // ends in a line feed, which JSON never holds inside
}

// EachFrame hands out the frames of a message in order and stops at the first error.
func EachFrame(message []byte, f func(*Frame) error) error {
	for line := range bytes.Lines(message) {
		var frame Frame
		if err := json.Unmarshal(line, &frame); err != nil {
			return fmt.Errorf("read a frame: %w", err)
		}
		if err := f(&frame); err != nil {
			return err
		}
	}
	return nil
}
