package simulator

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator/simnet"
)

// pass hands an event of the network to the sink. The network hears of it when the gateway has stored it.
func (c *conn) pass(l *link, e *simnet.Event) {
	if e == nil {
		return
	}
	event := worker.Event{Kind: e.Kind, Message: e.WhatsappID, Sender: e.Sender, Timestamp: time.UnixMilli(e.At).UTC()}
	if n := e.N; n > 0 {
		event.Ack = func() { l.ack(n) }
	}
	switch e.Kind {
	case simnet.KindMessage:
		event.Type, event.Data = wire.EventMessageReceived, received(e)
		l.intake.Message(event, c.fetch(e.Medium))
		return
	case simnet.KindDelivered, simnet.KindRead, simnet.KindPlayed:
		status := strings.TrimPrefix(e.Kind, "receipt.")
		event.Type = wire.EventMessageReceipt
		event.Data = wire.ReceiptData{WhatsappID: e.WhatsappID, Chat: e.Chat, Participant: e.Sender, Status: status}
	case simnet.KindPresence:
		event.Type, event.Data = wire.EventPresence, presence(e)
		event.Message = fmt.Sprintf("%s/%d", e.Chat, e.At)
	case simnet.KindCall:
		event.Type, event.Data = wire.EventCall, c.call(l, e)
	case simnet.KindGroup:
		event.Type, event.Data = wire.EventGroup, group(e)
	default: // of a later network; nothing here can use it
		if event.Ack != nil {
			event.Ack()
		}
		return
	}
	c.sink(event)
}

func received(e *simnet.Event) wire.ReceivedData {
	kind := e.Type
	if kind != message.Vote && !slices.Contains(message.Types(), kind) {
		kind = message.Unknown
	}
	return wire.ReceivedData{
		WhatsappID: e.WhatsappID, Chat: e.Chat, Sender: e.Sender, From: contact(e.Sender, e.Phone, e.LID, e.Name), FromMe: e.FromMe, Type: kind,
		Message: e.Text, MediaURL: e.MediaURL, Caption: e.Caption, Filename: e.Filename, Details: e.Details,
	}
}

// fetch downloads a medium of the network; nil: the message has none.
func (c *conn) fetch(m *simnet.Medium) worker.Fetch {
	if m == nil {
		return nil
	}
	return func(ctx context.Context) (io.ReadCloser, error) { return c.engine.download(ctx, m) }
}

// contact is somebody as far as JID and network tell. A LID doesn't tell the number.
func contact(jid, phone, lid, name string) wire.Contact {
	var c wire.Contact
	if phone != "" {
		phone = "+" + strings.TrimPrefix(phone, "+") // the network takes both
	}
	if number, ok := strings.CutSuffix(jid, "@s.whatsapp.net"); ok {
		phone = "+" + number
	}
	if strings.HasSuffix(jid, "@lid") {
		lid = jid
	}
	for _, known := range []struct {
		value string
		field **string
	}{{phone, &c.Phone}, {lid, &c.LID}, {name, &c.Name}} {
		if known.value != "" {
			*known.field = &known.value
		}
	}
	return c
}

func presence(e *simnet.Event) wire.PresenceData {
	d := wire.PresenceData{Chat: e.Chat, Sender: e.Sender, From: contact(e.Sender, e.Phone, e.LID, e.Name), Presence: e.Presence}
	if e.LastSeen > 0 {
		at := time.UnixMilli(e.LastSeen).UTC()
		d.LastSeen = &at
	}
	return d
}

// call refuses a call where that is wanted. If the connection breaks before the network hears of it, the call comes again.
func (c *conn) call(l *link, e *simnet.Event) wire.CallData {
	d := wire.CallData{CallID: e.WhatsappID, Chat: e.Chat, Sender: e.Sender, From: contact(e.Sender, e.Phone, e.LID, e.Name), Video: e.Video}
	if c.session.RejectCalls != nil && c.session.RejectCalls() {
		l.reject(d.CallID)
		d.Rejected = true
	}
	return d
}

func group(e *simnet.Event) wire.GroupData {
	d := wire.GroupData{ChangeID: e.WhatsappID, Group: e.Chat, Sender: e.Sender}
	if e.Sender != "" {
		by := contact(e.Sender, e.Phone, e.LID, e.Name)
		d.By = &by
	}
	if e.Change == nil {
		return d
	}
	d.Action, d.Name, d.Description = e.Change.Action, e.Change.Name, e.Change.Description
	for _, m := range e.Change.Members {
		d.Members = append(d.Members, wire.Member{JID: m.JID, Contact: contact(m.JID, m.Phone, m.LID, m.Name)})
	}
	return d
}
