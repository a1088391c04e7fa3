package wafake

import (
	"context"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// Shown is a message on a phone. A phone shows one ID of a chat once, however often it comes.
type Shown struct {
	types.MessageInfo
	Message   *waE2E.Message
	Times     int                  // how often it came and could be read
	Reactions map[types.JID]string // who put which emoji to it
	Edited    bool                 // Message has the present text
	Deleted   bool
}

// Text is what the message says: its text or its caption.
func (m Shown) Text() string {
	switch {
	case m.Message.GetConversation() != "":
		return m.Message.GetConversation()
	case m.Message.GetExtendedTextMessage() != nil:
		return m.Message.GetExtendedTextMessage().GetText()
	case m.Message.GetImageMessage() != nil:
		return m.Message.GetImageMessage().GetCaption()
	case m.Message.GetVideoMessage() != nil:
		return m.Message.GetVideoMessage().GetCaption()
	}
	return m.Message.GetDocumentMessage().GetCaption()
}

// Downloadable is the message's medium, nil if it has none.
func (m Shown) Downloadable() whatsmeow.DownloadableMessage {
	switch {
	case m.Message.GetImageMessage() != nil:
		return m.Message.GetImageMessage()
	case m.Message.GetVideoMessage() != nil:
		return m.Message.GetVideoMessage()
	case m.Message.GetAudioMessage() != nil:
		return m.Message.GetAudioMessage()
	case m.Message.GetDocumentMessage() != nil:
		return m.Message.GetDocumentMessage()
	case m.Message.GetStickerMessage() != nil:
		return m.Message.GetStickerMessage()
	}
	return nil
}

// show takes a message that came. The caller has the lock.
func (p *Person) show(e *events.Message) {
	message := e.Message
	if message == nil || onlyKeys(e.RawMessage) {
		return
	}
	if again := p.at(e.Info.ID); again != nil && again.Chat == e.Info.Chat {
		again.Times++
		return
	}
	target := p.at(message.GetProtocolMessage().GetKey().GetID())
	switch {
	case message.GetReactionMessage() != nil:
		if on := p.at(message.GetReactionMessage().GetKey().GetID()); on != nil {
			if emoji := message.GetReactionMessage().GetText(); emoji == "" {
				delete(on.Reactions, e.Info.Sender.ToNonAD())
			} else {
				on.Reactions[e.Info.Sender.ToNonAD()] = emoji
			}
		}
	case target != nil && message.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_REVOKE:
		target.Deleted = true
	case target != nil && message.GetProtocolMessage().GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT:
		target.Edited, target.Message = true, message.GetProtocolMessage().GetEditedMessage()
	}
	p.shown = append(p.shown, &Shown{MessageInfo: e.Info, Message: message, Times: 1, Reactions: map[types.JID]string{}})
}

// onlyKeys tells the half of a group's first message that has the sender's keys and no content.
func onlyKeys(m *waE2E.Message) bool {
	if m.GetSenderKeyDistributionMessage() == nil {
		return false
	}
	filled := 0
	for _, field := range fields(m) {
		if field != "senderKeyDistributionMessage" && field != "messageContextInfo" {
			filled++
		}
	}
	return filled == 0
}

func (p *Person) at(id types.MessageID) *Shown {
	if id == "" {
		return nil
	}
	for _, m := range p.shown {
		if m.ID == id {
			return m
		}
	}
	return nil
}

func (p *Person) find(id types.MessageID) (Shown, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m := p.at(id); m != nil {
		return *m, true
	}
	return Shown{}, false
}

// Shown is everything that the phone was shown, in order: messages of others and those that the person's other devices
// sent; reactions, edits and deletions, too.
func (p *Person) Shown() []Shown {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Shown, len(p.shown))
	for i, m := range p.shown {
		out[i] = *m
	}
	return out
}

// Await waits until the phone has been shown a message, and returns it.
func (p *Person) Await(id types.MessageID) (Shown, error) {
	var m Shown
	err := p.Until(func() (found bool) {
		m, found = p.find(id)
		return found
	})
	return m, err
}

// Download is a message's medium.
func (p *Person) Download(ctx context.Context, m Shown) ([]byte, error) {
	return p.Client.Download(ctx, m.Downloadable())
}
