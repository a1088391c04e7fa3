// Package enginetest is the conformance suite of worker.Engine: what the worker and the gateway rely on, said once and
// run against every engine. It is a test helper and knows nothing of any network; Network is how a test reaches
// the far side of one.
package enginetest

import (
	"testing"
	"time"

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
}

// Message is one message on a phone.
type Message struct {
	WhatsappID string
	Text       string
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
}

type suite struct {
	newEngine func(t *testing.T) (worker.Engine, Network)
}
