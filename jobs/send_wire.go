package jobs

import (
	"strings"

	"kurir/message"
	"kurir/models"
	"kurir/wire"
)

// wireOf is a claimed message as its worker gets it. Media are named by their ID in our store: a worker never gets a URL,
// since only the gateway fetches what a tenant names.
func wireOf(claim *models.Claim, h models.Hold, m *models.Claimed) wire.Send {
	send := wire.Send{MessageID: m.ID.String(), WhatsappID: m.WhatsappID, Epoch: claim.Epoch, Generation: h.Generation, Seq: m.Seq,
		To: m.ToNumber, Type: strings.ToLower(m.MessageType), Message: m.Content, Caption: text(m.Caption), Filename: text(m.Filename)}
	if m.MediaID != nil {
		medium := message.Media{}
		if m.Media != nil {
			medium = *m.Media
		}
		medium.ID, medium.URL = m.MediaID.String(), ""
		send.Media = &medium
	}
	if m.Details != nil {
		send.Details = *m.Details
		send.Contacts = make([]message.Card, len(m.Details.Contacts))
		for i, card := range m.Details.Contacts {
			send.Contacts[i] = card.Filled()
		}
	}
	return send
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
