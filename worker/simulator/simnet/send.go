package simnet

import (
	"encoding/hex"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"kurir/message"
	"kurir/wire"
)

// Codes of sends that fail for good.
const (
	CodeNotOnWhatsApp    = "not_on_whatsapp"
	codeInvalidRecipient = "invalid_recipient"
	codeInvalidID        = "invalid_whatsapp_id"
	codeNotInGroup       = "not_in_group"
	codeNoMedium         = "no_media"
	codeNoTarget         = "no_target"
	defaultFailCode      = "simulated_failure"
)

// faults are the sends that are to go wrong next.
type faults struct{ fail, loseSend, loseAnswer, ignoreAsk atomic.Int64 }

// due takes one from a counter of things to come.
func due(counter *atomic.Int64) bool {
	for {
		left := counter.Load()
		if left <= 0 {
			return false
		}
		if counter.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

// take judges one send, shows it and answers on c.
func (n *Network) take(c *conn, id int64, m *wire.Send) {
	if due(&n.faults.loseSend) {
		c.cancel()
		return
	}
	set := n.settings.Load()
	now := time.Now().UTC().Truncate(time.Millisecond)
	if r := c.s.throttled(now); r != nil {
		c.queue(&Frame{Op: OpResult, N: id, Result: r})
		return
	}
	to, code, sentence := n.refuse(set, m)
	if code != "" {
		c.queue(&Frame{Op: OpResult, N: id, Result: &wire.SendResult{
			Outcome: wire.OutcomeFailed, Code: code, Error: sentence, Timestamp: now,
		}})
		return
	}
	medium, ok := n.downloaded(m)
	if !ok { // it came before a restart: the worker uploads it again
		c.queue(&Frame{Op: OpResult, N: id, Result: &wire.SendResult{
			Outcome: wire.OutcomeUnknown, Error: "the medium is not on the network", Timestamp: now,
		}})
		return
	}

	p, s := n.phones.get(to), c.s
	s.mu.Lock()
	if !s.linked {
		s.mu.Unlock()
		return // its connection is being hung up
	}
	if !n.mayWrite(s, p.number) {
		s.mu.Unlock()
		c.queue(&Frame{Op: OpResult, N: id, Result: &wire.SendResult{
			Outcome: wire.OutcomeFailed, Code: codeNotInGroup, Error: "the session is not in this group", Timestamp: now,
		}})
		return
	}
	shown := Shown{
		WhatsappID: m.WhatsappID, MessageID: m.MessageID, SessionID: s.id, From: "+" + s.number, Type: m.Type,
		Text: m.Message, MediaURL: m.MediaURL, Caption: m.Caption, Filename: m.Filename, Seq: m.Seq, At: now,
		Medium: medium, Details: m.Details,
	}
	v := n.show(s, p, shown)
	if v.show {
		n.journal.add(entry{Op: opShown, Number: p.number, Shown: &shown})
	}
	if due(&n.faults.loseAnswer) {
		c.cancel()
	} else {
		c.queue(&Frame{Op: OpResult, N: id, Result: &wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: v.at}})
	}
	from := s.number
	if v.show {
		n.answer(set, s, p, &shown)
	}
	s.mu.Unlock()

	if v.show {
		n.arriveInGroup(s, from, p.number, &shown)
	}
	if owner := p.owner.Load(); v.show && owner != nil && owner != s {
		owner.emit(arrival(jidOf(from), &shown))
	}
}

// refuse tells which sends the network does not take, and reads the recipient.
func (n *Network) refuse(set *settings, m *wire.Send) (to, code, sentence string) {
	to, err := normalNumber(m.To)
	switch {
	case err != nil:
		return "", codeInvalidRecipient, err.Error()
	case m.WhatsappID == "":
		return "", codeInvalidID, "the message has no WhatsApp ID"
	case !Sends(m.Type):
		return "", wire.CodeUnsupported, "the simulated network has no such type of message"
	case message.HasMedia(m.Type) && m.Media == nil:
		return "", codeNoMedium, "the message has no medium"
	case message.About(m.Type) && (m.Target == nil || m.Target.WhatsappID == ""):
		return "", codeNoTarget, "the message names no target"
	case strings.HasSuffix(to, absentSuffix):
		return "", CodeNotOnWhatsApp, "the number is not on WhatsApp"
	case due(&n.faults.fail), set.FailRate > 0 && rand.Float64() < set.FailRate:
		return "", set.FailCode, "the simulated network was told to fail this message"
	}
	return to, "", ""
}

// show puts a message on a phone, unless it is there, and counts what the report tells. Callers hold s.mu.
func (n *Network) show(s *session, p *phone, m Shown) verdict {
	v := n.ledger.record(p.number, m.WhatsappID, m.MessageID, m.At)
	if v.duplicate {
		n.duplicates.Add(1)
	}
	if !v.show {
		n.deduplicated.Add(1)
		return v
	}
	n.messages.Add(1)
	s.messages++
	if !s.rises(p.number, m.Seq) {
		n.reordered.Add(1)
	}
	p.show(m)
	s.knows(p.number, "")
	n.showMembers(s, p.number, m)
	return v
}

// answer sends what the phone gives back: delivered, read, and the person's reply. Callers hold s.mu.
func (n *Network) answer(set *settings, s *session, p *phone, m *Shown) {
	delivered, read := receipt(KindDelivered, p, m), receipt(KindRead, p, m)
	if m.Type == message.Voice {
		read.Kind = KindPlayed
	}
	var reply []Event
	if set.Reply == ReplyEcho && m.Type == "text" && p.owner.Load() == nil && !strings.Contains(p.number, "@") {
		reply = []Event{echo(p, m)}
		p.write(writtenOf(s, &reply[0]))
	}
	first, second := time.Duration(set.ReceiptDelay), time.Duration(set.ReadDelay)
	if first <= 0 && second <= 0 {
		s.emitLocked(delivered, read)
		s.emitLocked(reply...)
		return
	}
	delivered.At += first.Milliseconds()
	read.At += (first + second).Milliseconds()
	time.AfterFunc(first, func() {
		s.emit(delivered)
		// Started only now: two timers side by side could go off in either order.
		time.AfterFunc(second, func() { s.emit(append([]Event{read}, reply...)...) })
	})
}

func receipt(kind string, p *phone, m *Shown) Event {
	return Event{Kind: kind, WhatsappID: m.WhatsappID, Chat: p.jid, At: m.At.UnixMilli()}
}

// arrival is m as another linked session receives it.
func arrival(from string, m *Shown) Event {
	return Event{
		Kind: KindMessage, WhatsappID: m.WhatsappID, Chat: from, Sender: from, At: m.At.UnixMilli(),
		Type: m.Type, Text: m.Text, MediaURL: m.MediaURL, Caption: m.Caption, Filename: m.Filename,
		Medium: m.Medium, Details: m.Details,
	}
}

// echo is the person's reply. Its ID follows from the message's, so that one message has one reply.
func echo(p *phone, m *Shown) Event {
	h := fnv.New128a()
	_, _ = h.Write([]byte(p.number + "\x00" + m.WhatsappID)) // never fails
	id := "3A" + strings.ToUpper(hex.EncodeToString(h.Sum(nil))[:18])
	return Event{
		Kind: KindMessage, WhatsappID: id, Chat: p.jid, Sender: p.jid, At: m.At.UnixMilli(),
		Type: "text", Text: "echo: " + m.Text,
	}
}
