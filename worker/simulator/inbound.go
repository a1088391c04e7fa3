package simulator

import (
	"strings"
	"time"

	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator/simnet"
)

// pass hands an event of the network to the sink. The network hears of it when the gateway has stored it.
func (c *conn) pass(l *link, e *simnet.Event) {
	if e == nil {
		return
	}
	n := e.N
	event := worker.Event{
		Kind: e.Kind, Message: e.WhatsappID, Sender: e.Sender, Timestamp: time.UnixMilli(e.At).UTC(),
		Ack: func() { l.ack(n) },
	}
	switch e.Kind {
	case simnet.KindMessage:
		event.Type, event.Data = wire.EventMessageReceived, received(e)
	case simnet.KindDelivered, simnet.KindRead:
		status := strings.TrimPrefix(e.Kind, "receipt.")
		event.Type = wire.EventMessageReceipt
		event.Data = wire.ReceiptData{WhatsappID: e.WhatsappID, Chat: e.Chat, Status: status}
	default: // of a later network; nothing here can use it
		l.ack(n)
		return
	}
	c.sink(event)
}

func received(e *simnet.Event) wire.ReceivedData {
	return wire.ReceivedData{
		WhatsappID: e.WhatsappID, Chat: e.Chat, Sender: e.Sender, From: contact(e), FromMe: e.FromMe, Type: e.Type,
		Message: e.Text, MediaURL: e.MediaURL, Caption: e.Caption, Filename: e.Filename,
	}
}

// contact is the author. The simulated network has no LIDs.
func contact(e *simnet.Event) wire.Contact {
	var c wire.Contact
	if number, ok := strings.CutSuffix(e.Sender, "@s.whatsapp.net"); ok {
		number = "+" + number
		c.Phone = &number
	}
	if e.Name != "" {
		name := e.Name
		c.Name = &name
	}
	return c
}
