// Package enginetest is the conformance suite of worker.Engine: what the worker and the gateway rely on, said once and
// run against every engine. It is a test helper and knows nothing of any network; Network is how a test reaches
// the far side of one.
package enginetest

import (
	"testing"
	"time"

	"kurir/message"
	"kurir/worker"
)

// Network is the far side of an engine: the network and the phones on it. A method fails its test where it cannot do
// what it is asked.
type Network interface {
	// Scan scans the QR code that the session shows.
	Scan(t *testing.T, session string)
	// Receive lets a person write to the session, and returns the message's WhatsApp ID.
	Receive(t *testing.T, session, from, text string) string
	// Drop breaks the session's connection. The engine may connect again.
	Drop(t *testing.T, session string)
	// Unlink removes the session's device on the phone, Ban bans its number.
	Unlink(t *testing.T, session string)
	Ban(t *testing.T, session string)
	// LoseAnswer lets the next send reach its phone, while the connection breaks before the answer.
	LoseAnswer(t *testing.T)
	// Slow makes sends take this long from now on.
	Slow(t *testing.T, latency time.Duration)
	// Phone tells what the phone of this number shows, in order.
	Phone(t *testing.T, number string) []Message

	// Deliver lets a message come in and returns its WhatsApp ID.
	Deliver(t *testing.T, session string, in Incoming) string
	// Throttle has the network take none of the session's next sends.
	Throttle(t *testing.T, session string, sends int, retryAfter time.Duration, code string)
	// Call lets a person call the session, and returns the call's ID. Rejected tells how often the call was refused.
	Call(t *testing.T, session, from string, video bool) string
	Rejected(t *testing.T, from, call string) int
	// Presence lets the session see what a person does, Typing tells what a phone has seen of the session.
	Presence(t *testing.T, session, from, presence string)
	Typing(t *testing.T, number string) []string
	// AddMember lets by add somebody to a group.
	AddMember(t *testing.T, session, group, by, member string)
}

// Message is one message on a phone.
type Message struct {
	WhatsappID string
	Type       string
	Text       string
	Caption    string
	Filename   string
	MediaHash  string // SHA-256 of what the phone downloaded
	MediaSize  int64
	Details    message.Details
	Edited     bool
	Deleted    bool
	Reactions  []string // emojis
}

// Incoming is a message on its way to a session.
type Incoming struct {
	From     string // number or JID of the author; with FromMe: of the recipient
	Chat     string // JID of a group or channel; "": the chat with From
	FromMe   bool
	Name     string
	Phone    string // of an author under a LID
	Type     string
	Text     string
	Caption  string
	Filename string
	Media    []byte
	MIMEType string
	Missing  bool // there is a medium, but nobody can download it
	Details  message.Details
}

// Run runs the suite. Each call of newEngine makes another engine, as of another worker, on the same network. The
// suite links its own sessions and writes to numbers of its own, so the network may be used before and after.
func Run(t *testing.T, newEngine func(t *testing.T) (worker.Engine, Network)) {
	s := &suite{newEngine: newEngine}
	t.Run("link by QR", s.linkByQR)
	t.Run("a session is open once", s.openOnce)
	t.Run("send and receipts", s.sendAndReceipts)
	t.Run("a second send shows nothing", s.idempotentSend)
	t.Run("not on WhatsApp", s.notOnWhatsApp)
	t.Run("receive", s.receive)
	t.Run("events come again until acknowledged", s.redelivery)
	t.Run("close keeps the credentials", s.closeKeepsCredentials)
	t.Run("logout forgets them", s.logoutForgets)
	t.Run("logout needs the lease", s.logoutNeedsTheLease)
	t.Run("replaced", s.replaced)
	t.Run("reconnect, where the engine can", s.reconnect)
	t.Run("unlinked", s.unlinked)
	t.Run("banned", s.banned)
	t.Run("no lease, no connection", s.noLeaseNoConnection)
	t.Run("no lease, no send", s.noLeaseNoSend)
	t.Run("send while not connected", s.sendWhileNotConnected)
	t.Run("lost answer", s.lostAnswer)
	t.Run("late answer", s.lateAnswer)
	t.Run("close finishes the sends in hand", s.closeFinishesSends)
	t.Run("none lost, none doubled", s.noneLostNoneDoubled)
	s.abilities(t)
	t.Run("send every type", s.sendEveryType)
	t.Run("what is said of a message changes it", s.effects)
	t.Run("a type that nobody knows is unsupported", s.unsupported)
	t.Run("media that cannot be had", s.mediaOut)
	t.Run("media that are slow", s.mediaSlow)
	t.Run("throttled", s.throttled)
	t.Run("typing", s.typing)
	t.Run("receive every type", s.receiveEveryType)
	t.Run("receive media", s.mediaIn)
	t.Run("media that does not come", s.mediaLost)
	t.Run("a medium holds up its chat only", s.mediaOrder)
	t.Run("people under LIDs, groups and channels", s.people)
	t.Run("presence", s.presence)
	t.Run("calls", s.calls)
	t.Run("groups", s.groups)
}

type suite struct {
	newEngine func(t *testing.T) (worker.Engine, Network)
}
