package whatsapp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
)

// message hands over a message. WhatsApp hears that it has arrived when the gateway has stored it, and not before: until then
// the handler has failed, as far as whatsmeow knows, and what it has decrypted stays in its buffer. Many may wait so at once;
// a handler that waited itself would let one medium hold up all chats.
func (l *link) message(e *events.Message) bool {
	if l.ctx.Err() != nil {
		return l.leave(e)
	}
	if e.SourceWebMsg != nil {
		asTold(e)
	}
	info, hash := e.Info, l.buffer.taken()
	if info.Chat == types.StatusBroadcastJID { // what people show to all is written to nobody
		return true
	}
	if info.IsGroup && info.AddressingMode != "" {
		l.addressing.Store(info.Chat, info.AddressingMode == types.AddressingModeLID)
	}
	said, ok := l.read(e)
	if !ok {
		return true
	}
	if l.ctx.Err() != nil { // it may have been read by half
		return l.leave(e)
	}
	said.Again = e.RetryCount > 0 || e.SourceWebMsg != nil // by its author, or by the phone
	event := received(said, info.Timestamp)
	if e.SourceWebMsg != nil {
		return l.toldAgain(e, event, l.fetch(info.Chat, said.medium))
	}
	event.Ack = sync.OnceFunc(func() {
		if leave, ok := l.c.busy(l); ok { // so that closing waits for it
			go func() {
				defer leave()
				l.acknowledge(info, hash)
			}()
		}
	})
	l.intake.Message(event, l.fetch(info.Chat, said.medium))
	return false
}

// asTold makes a message that the phone tells again what it was: of an edit, whatsmeow has made the message that it edits, and of one
// without a time, or with one that cannot be, one of 1970 or of a far future.
func asTold(e *events.Message) {
	e.Info.ID = e.SourceWebMsg.GetKey().GetID()
	e.UnwrapRaw()
	if now := time.Now(); e.Info.Timestamp.Unix() <= 0 || e.Info.Timestamp.After(now.Add(24*time.Hour)) {
		e.Info.Timestamp = now
	}
}

// leave leaves a message to the next link, which WhatsApp tells it. What the phone says whatsmeow acknowledges when this returns, whatever
// it returns, and the phone does not tell it a second time: so it returns when nothing can be said over this link any more.
func (l *link) leave(e *events.Message) bool {
	if e.SourceWebMsg != nil {
		<-l.over
	}
	return false
}

// toldAgain hands over a message that the phone has told again, and waits until the gateway has it.
func (l *link) toldAgain(e *events.Message, event worker.Event, fetch worker.Fetch) bool {
	defer l.intake.Hurry()()
	stored := make(chan struct{})
	event.Ack = sync.OnceFunc(func() { close(stored) })
	l.intake.Message(event, fetch)
	select {
	case <-stored:
		return true
	case <-l.ctx.Done():
		return l.leave(e)
	}
}

func received(s said, at time.Time) worker.Event {
	return worker.Event{Type: wire.EventMessageReceived, Kind: "message", Message: s.WhatsappID, Sender: s.Sender, Timestamp: at.UTC(), Data: s.ReceivedData}
}

// unreadable counts a message that this device cannot read. Of most, their authors or the phone send another copy, under the same ID. Of
// what is shown once only, phones alone get the content, so that it is told without.
func (l *link) unreadable(e *events.UndecryptableMessage) {
	if e.Info.Chat == types.StatusBroadcastJID {
		return
	}
	l.c.engine.unreadable.Add(1)
	if e.UnavailableType != events.UnavailableTypeViewOnce {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	s := said{ReceivedData: wire.ReceivedData{Type: message.Unknown, Again: true}}
	l.place(ctx, e.Info, &s)
	l.intake.Message(received(s, e.Info.Timestamp), nil)
}

// read is the message as the gateway wants it. False: it is none of a person's. What can't be read is told all the same, as
// unknown.
func (l *link) read(e *events.Message) (s said, ok bool) {
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	s, ok = said{ReceivedData: wire.ReceivedData{Type: message.Unknown}}, true
	func() {
		defer l.c.guard("reading a message")
		e.Message = l.opened(ctx, e)
		content, some := parse(e.Message)
		if some {
			l.about(ctx, e, &content)
		}
		s, ok = content, some
	}()
	func() {
		defer l.c.guard("naming who wrote a message")
		l.place(ctx, e.Info, &s)
	}()
	if err := ctx.Err(); err != nil {
		l.end(fmt.Errorf("%w: %w", errStorage, err))
	}
	return s, ok
}

// opened is a message without its wrappers, and decrypted where it is sealed with the secret of the one that it is about, as in a
// community's announcements. What cannot be read stays sealed.
func (l *link) opened(ctx context.Context, e *events.Message) *waE2E.Message {
	m := unwrap(e.Message)
	sealed := &events.Message{Info: e.Info, Message: m}
	switch {
	case m.GetEncReactionMessage() != nil:
		reaction, err := l.client.DecryptReaction(ctx, sealed)
		if err == nil {
			reaction.Key = m.GetEncReactionMessage().GetTargetMessageKey()
			return &waE2E.Message{ReactionMessage: reaction}
		}
		l.c.log.Info("a reaction cannot be read", "error", redact(err.Error()))
	case m.GetEncCommentMessage() != nil:
		comment, err := l.client.DecryptComment(ctx, sealed)
		if err == nil {
			return &waE2E.Message{CommentMessage: &waE2E.CommentMessage{Message: comment, TargetMessageKey: m.GetEncCommentMessage().GetTargetMessageKey()}}
		}
		l.c.log.Info("a comment cannot be read", "error", redact(err.Error()))
	}
	return m
}

// place fills in who said something where.
func (l *link) place(ctx context.Context, info types.MessageInfo, s *said) {
	chatAlt := info.SenderAlt
	if info.IsFromMe {
		chatAlt = info.RecipientAlt
	}
	s.WhatsappID, s.FromMe = info.ID, info.IsFromMe
	s.Chat, s.Sender = info.Chat.ToNonAD().String(), info.Sender.ToNonAD().String() // should it panic below
	s.Chat = l.people.name(ctx, info.Chat, chatAlt)
	if info.Chat.Server == types.BroadcastServer && !info.IsFromMe { // somebody's list, of which nobody else is to know
		s.Chat = l.people.name(ctx, info.Sender, info.SenderAlt)
	}
	s.Sender = l.people.name(ctx, info.Sender, info.SenderAlt)
	s.From = l.people.contact(ctx, info.Sender, info.SenderAlt, info.PushName)
}

// about fills in what a message says of others.
func (l *link) about(ctx context.Context, e *events.Message, s *said) {
	if s.target != nil {
		s.Target = l.ref(ctx, e.Info, s.target)
	}
	if s.root != nil {
		s.ReplyTo = l.ref(ctx, e.Info, s.root)
	} else if id := s.info.GetStanzaID(); id != "" && s.Type != message.Edit {
		s.ReplyTo = l.refTo(ctx, id, s.info.GetParticipant())
	}
	l.people.byNumber(ctx, s)
	switch s.Type {
	case message.Poll:
		if err := l.c.holder.keepPoll(ctx, e.Info.ID, s.Poll.Options); err != nil {
			l.failed(err)
		}
	case message.Vote:
		var known bool
		if s.Poll.Options, known = l.votes(ctx, e, s.Target.WhatsappID); !known {
			s.Type, s.Poll = message.Unknown, nil // a vote without options would be one that is taken back
		}
	}
}

// failed ends the link, as the database did not do what a poll or a vote needs, so that WhatsApp delivers it again. What the database will never
// take is said in the log only.
func (l *link) failed(err error) {
	if unfit(err) {
		l.c.log.Info("a poll or a vote is told without its options: the database does not take what it says", "error", redact(err.Error()))
		return
	}
	l.end(fmt.Errorf("%w: %w", errStorage, err))
}

// ref is the message that another one is about. In its key, "from me" is meant by who sent it.
func (l *link) ref(ctx context.Context, info types.MessageInfo, key *waCommon.MessageKey) *message.Ref {
	ref := &message.Ref{WhatsappID: key.GetID()}
	switch {
	case key.GetFromMe() && info.IsFromMe, !key.GetFromMe() && !info.IsFromMe && !info.IsGroup:
		ref.FromMe = true
	case key.GetFromMe():
		ref.Sender = l.people.name(ctx, info.Sender, info.SenderAlt)
	case info.IsGroup:
		return l.refTo(ctx, key.GetID(), key.GetParticipant())
	default:
		ref.Sender = l.people.name(ctx, info.Chat, info.RecipientAlt)
	}
	return ref
}

// refTo is a message of somebody.
func (l *link) refTo(ctx context.Context, id, author string) *message.Ref {
	jid, err := types.ParseJID(author)
	if err != nil || jid.IsEmpty() {
		return &message.Ref{WhatsappID: id}
	}
	if own := l.people; jid.User == own.own().User || jid.User == own.ownLID().User {
		return &message.Ref{WhatsappID: id, FromMe: true}
	}
	return &message.Ref{WhatsappID: id, Sender: l.people.name(ctx, jid, types.EmptyJID)}
}

// votes are the options that a vote names by their hashes. False: the poll is not known, or the vote cannot be read. If the database
// does not answer, the link ends, and WhatsApp delivers the vote again.
func (l *link) votes(ctx context.Context, e *events.Message, poll string) (chosen []string, known bool) {
	options, err := l.c.holder.poll(ctx, poll)
	if err != nil {
		l.failed(err)
		return nil, false
	}
	vote, err := l.client.DecryptPollVote(ctx, e)
	if err != nil {
		l.c.log.Info("a vote cannot be read", "error", redact(err.Error()))
		return nil, false
	}
	for _, hash := range vote.GetSelectedOptions() {
		i := slices.IndexFunc(options, func(o string) bool {
			sum := sha256.Sum256([]byte(o))
			return bytes.Equal(sum[:], hash)
		})
		if i < 0 {
			return nil, false
		}
		chosen = append(chosen, options[i])
	}
	return chosen, true
}

// acknowledge tells WhatsApp that a message has arrived, as whatsmeow would have. If the link has ended, WhatsApp delivers the
// message again, and that delivery is acknowledged.
func (l *link) acknowledge(info types.MessageInfo, hash *[32]byte) {
	defer l.c.guard("an acknowledgement")
	if l.ctx.Err() != nil || !l.c.session.Lease() {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	node := origin(info)
	inner := l.client.DangerousInternals() //nolint:staticcheck // the only way to acknowledge later than when the handler returns
	if info.Chat.Server == types.NewsletterServer {
		inner.SendAck(ctx, node, 0)
		return
	}
	if hash != nil {
		if err := l.buffer.ClearBufferedEventPlaintext(ctx, *hash); err != nil {
			l.c.log.Warn("a message stays in the buffer", "error", redact(err.Error()))
		}
	}
	inner.SendMessageReceipt(ctx, &info, node)
}

// origin is the stanza of a message, as far as its receipt needs it.
func origin(info types.MessageInfo) *waBinary.Node {
	attrs := waBinary.Attrs{"id": info.ID, "from": info.Sender}
	switch {
	case info.Chat.Server == types.NewsletterServer:
		attrs["from"] = info.Chat
	case info.IsGroup:
		attrs["from"], attrs["participant"] = info.Chat, info.Sender
		if !info.BroadcastListOwner.IsEmpty() {
			attrs["recipient"] = info.BroadcastListOwner
		}
	case info.IsFromMe && info.Chat != info.Sender.ToNonAD():
		attrs["recipient"] = info.Chat
	}
	return &waBinary.Node{Tag: "message", Attrs: attrs}
}

// receipt statuses that the gateway knows. The others are between the session's own devices.
var receiptStatuses = map[types.ReceiptType]string{
	types.ReceiptTypeDelivered: "delivered", types.ReceiptTypeRead: "read", types.ReceiptTypePlayed: wire.StatusPlayed,
}

// receipt hands over a receipt, which may be of several messages. WhatsApp groups receipts of members of a group; these it
// is told of at once, whatever becomes of them.
func (l *link) receipt(e *events.Receipt) bool {
	status, ok := receiptStatuses[e.Type]
	if !ok || e.IsFromMe {
		return true
	}
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	chat, participant := l.people.name(ctx, e.Chat, e.SenderAlt), ""
	if e.IsGroup {
		participant = l.people.name(ctx, e.Sender, e.SenderAlt)
	}
	list := make([]worker.Event, len(e.MessageIDs))
	for i, id := range e.MessageIDs {
		list[i] = worker.Event{
			Type: wire.EventMessageReceipt, Kind: "receipt." + status, Message: id, Sender: participant, Timestamp: e.Timestamp.UTC(),
			Data: wire.ReceiptData{WhatsappID: id, Chat: chat, Participant: participant, Status: status},
		}
	}
	return l.settled(list...)
}
