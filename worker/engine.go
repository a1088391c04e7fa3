// Package worker is a worker node: it registers with the gateway, keeps its lease, holds sessions on an engine and
// passes what happens to them to the gateway. It imports wire and never models: everything that it knows of the
// database comes over the protocol.
package worker

import (
	"context"
	"errors"
	"io"
	"time"

	"kurir/wire"
)

// Engine connects sessions to a messaging network.
type Engine interface {
	// Name is "simulator" or "whatsapp".
	Name() string
	// Open starts a connection and returns at once; progress comes through sink as session.status and
	// session.qr events. The connection retries by itself until Close or Logout. Open on a session that
	// is already open at this engine is an error of the caller.
	Open(ctx context.Context, s Session, sink Sink) (Conn, error)
	// Close ends whatever the engine shares between connections.
	Close() error
}

// Session is what an engine needs to know of a session.
type Session struct {
	ID     string // uid
	UserID string
	Name   string
	Epoch  int64
	Proxy  string // URL, with user name and password; "": none. An engine whose network needs none passes over it
	// Lease reports whether the worker may connect and write to the network now. An engine asks
	// before every connect and every write.
	Lease func() bool
	// RejectCalls reports whether a call that comes in now is to be refused; nil: no call is.
	RejectCalls func() bool
	// Media is the gateway's store of media; nil: there is none, and messages with a medium can't be sent now.
	Media MediaStore
	// Room is shared by all sessions of a node, see Intake; nil: only what one connection holds back is bounded.
	Room *Room
}

// MediaStore is where the media of messages are, both ways: the gateway. Engines stream; they keep no medium whole.
type MediaStore interface {
	// Open streams a medium. ErrMediaGone: there is none under this ID, or no more; other errors pass.
	Open(ctx context.Context, id string) (io.ReadCloser, error)
	// Put stores the medium of a message that came in and answers how the store knows it. ErrMediaRefused: it will never
	// be taken; other errors pass. The same content may be put again.
	Put(ctx context.Context, r io.Reader) (wire.Media, error)
}

// Errors of a MediaStore, and of an Event's Fetch, that repeating will not change.
var (
	ErrMediaGone    = errors.New("the medium is gone")
	ErrMediaRefused = errors.New("the medium is refused")
)

// Sink takes an engine's events. It does not block for longer than it takes to store the event in memory.
type Sink func(Event)

// Event is what an engine reports. Ack, where set, is called once, after the gateway has stored the event: then, and only
// then, the engine acknowledges to the network. It is never called if the worker dies first.
type Event struct {
	Type      string // wire.EventSessionStatus, ...
	Kind      string // first half of the network's identity of the event, see wire.EventID
	Message   string // second half, "" for session events, which get an identity of their own
	Sender    string // participant, "" if none
	Timestamp time.Time
	Data      any // wire.StatusData, wire.QRData, wire.ReceivedData, wire.ReceiptData, wire.PresenceData, wire.CallData or wire.GroupData
	Ack       func()
}

// Conn is one session's connection.
type Conn interface {
	// State is what the engine knows now, without asking the network.
	State() wire.SessionState
	// Send hands a message to the network. A nil error means that the result tells the outcome; an error
	// means that nothing was sent (ErrNotConnected; ErrLeaseLost; ErrMediaUnavailable, where the medium can't be had
	// now or takes long to carry, see Carrier; ErrUnsupported, of a type that the engine can't send). Two calls with
	// one WhatsappID show the message once, and a reaction, edit or delete takes effect once. A medium that is gone
	// fails for good, wire.CodeMediaGone.
	Send(ctx context.Context, m wire.Send) (wire.SendResult, error)
	// Close disconnects and keeps the credentials. It is safe to call twice.
	Close(ctx context.Context) error
	// Logout unlinks the device, forgets the credentials and disconnects.
	Logout(ctx context.Context) error
}

// Reconnecter is a Conn that can renew its connection to the network. An engine that cannot leaves it out.
type Reconnecter interface {
	// Reconnect closes the present connection, after the sends in hand for as long as ctx allows, and lets the next one
	// begin at once, on the same session and epoch. It returns when the old one is closed; how the new one fares is
	// told by session.status events. Without the lease it does nothing and returns ErrLeaseLost.
	Reconnect(ctx context.Context) error
}

// Settler is a Conn whose acknowledgements of what came in take time. An engine whose acknowledgements do not leaves it out.
type Settler interface {
	// Settle waits for those that are on their way, for as long as ctx allows. A session that is let go of may write until then.
	Settle(ctx context.Context)
}

// Errors of Conn.Send: nothing was sent.
var (
	ErrNotConnected = errors.New("session is not connected")
	ErrLeaseLost    = errors.New("the worker's lease has lapsed")
	ErrUnsupported  = errors.New("the engine cannot do this")

	ErrMediaUnavailable = errors.New("the message's medium is not at hand")
)
