package whatsapp

import (
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"kurir/message"
	"kurir/wire"
)

// composer makes WhatsApp's messages of the gateway's. What of a message WhatsApp has no place for is left out: the file name of
// a picture, for example.
type composer struct {
	client *whatsmeow.Client
	own    types.JID
	chat   types.JID
	medium *whatsmeow.UploadResponse // of a message that has one
	quoted *waE2E.Message            // what it answers, if we know it
}

// mediaTypes are how WhatsApp encrypts what messages carry.
var mediaTypes = map[string]whatsmeow.MediaType{
	message.Image: whatsmeow.MediaImage, message.Sticker: whatsmeow.MediaImage, message.Video: whatsmeow.MediaVideo,
	message.Audio: whatsmeow.MediaAudio, message.Voice: whatsmeow.MediaAudio, message.Document: whatsmeow.MediaDocument,
}

// compose is nil for a type that can't be sent.
func (c *composer) compose(m *wire.Send) (*waE2E.Message, error) {
	if message.About(m.Type) {
		return c.about(m)
	}
	var out *waE2E.Message
	info := c.context(m)
	switch m.Type {
	case message.Text:
		out = c.text(m, info)
	case message.Location:
		out = &waE2E.Message{LocationMessage: &waE2E.LocationMessage{
			DegreesLatitude: proto.Float64(m.Location.Latitude), DegreesLongitude: proto.Float64(m.Location.Longitude),
			Name: optional(m.Location.Name), Address: optional(m.Location.Address), ContextInfo: info,
		}}
	case message.Contact:
		out = contacts(m.Contacts, info)
	case message.Poll:
		out = c.client.BuildPollCreation(m.Poll.Question, m.Poll.Options, m.Poll.Choices)
		poll, _ := pollOf(out)
		poll.ContextInfo = info
	default:
		if c.medium != nil {
			out = c.withMedium(m, info)
		}
	}
	return out, nil
}

func (c *composer) text(m *wire.Send, info *waE2E.ContextInfo) *waE2E.Message {
	if info == nil && m.LinkPreview == nil {
		return &waE2E.Message{Conversation: proto.String(m.Message)}
	}
	text := &waE2E.ExtendedTextMessage{Text: proto.String(m.Message), ContextInfo: info}
	if m.LinkPreview != nil && !*m.LinkPreview {
		text.PreviewType = waE2E.ExtendedTextMessage_NONE.Enum()
	}
	return &waE2E.Message{ExtendedTextMessage: text}
}

// about makes a message that is about another one.
func (c *composer) about(m *wire.Send) (*waE2E.Message, error) {
	author, err := c.author(m.Target)
	if err != nil {
		return nil, err
	}
	switch m.Type {
	case message.Reaction:
		return c.client.BuildReaction(c.chat, author, m.Target.WhatsappID, m.Message), nil
	case message.Edit:
		text := c.text(&wire.Send{Message: m.Message}, c.context(m))
		return c.client.BuildEdit(c.chat, m.Target.WhatsappID, text), nil
	case message.Delete:
		return c.client.BuildRevoke(c.chat, author, m.Target.WhatsappID), nil
	}
	return nil, nil
}

// author is empty for the session itself.
func (c *composer) author(r *message.Ref) (types.JID, error) {
	if r.FromMe || r.Sender == "" {
		return types.EmptyJID, nil
	}
	return types.ParseJID(r.Sender)
}

// context is what a message says of others: what it answers, whom it names, that it is passed on. It is nil if nothing.
func (c *composer) context(m *wire.Send) *waE2E.ContextInfo {
	var info waE2E.ContextInfo
	if m.ReplyTo != nil {
		info.StanzaID = proto.String(m.ReplyTo.WhatsappID)
		participant := m.ReplyTo.Sender
		if m.ReplyTo.FromMe || participant == "" {
			participant = c.own.ToNonAD().String()
		}
		info.Participant = proto.String(participant)
		info.QuotedMessage = c.quoted
		if info.QuotedMessage == nil { // without one, phones do not show an answer
			info.QuotedMessage = &waE2E.Message{Conversation: proto.String("")}
		}
	}
	info.MentionedJID = m.Mentions
	if m.Forwarded {
		info.IsForwarded, info.ForwardingScore = proto.Bool(true), proto.Uint32(1)
	}
	if m.ReplyTo == nil && len(m.Mentions) == 0 && !m.Forwarded {
		return nil
	}
	return &info
}

func contacts(cards []message.Card, info *waE2E.ContextInfo) *waE2E.Message {
	var list []*waE2E.ContactMessage
	for _, card := range cards {
		list = append(list, &waE2E.ContactMessage{DisplayName: proto.String(card.Name), Vcard: proto.String(card.Filled().VCard)})
	}
	if len(list) == 1 {
		list[0].ContextInfo = info
		return &waE2E.Message{ContactMessage: list[0]}
	}
	return &waE2E.Message{ContactsArrayMessage: &waE2E.ContactsArrayMessage{Contacts: list, ContextInfo: info}}
}

func (c *composer) withMedium(m *wire.Send, info *waE2E.ContextInfo) *waE2E.Message {
	at, kind := c.medium, proto.String(m.Media.MIMEType)
	url, path, length := proto.String(at.URL), proto.String(at.DirectPath), proto.Uint64(at.FileLength)
	switch m.Type {
	case message.Image:
		return &waE2E.Message{ImageMessage: &waE2E.ImageMessage{Caption: optional(m.Caption), Mimetype: kind, ContextInfo: info,
			URL: url, DirectPath: path, MediaKey: at.MediaKey, FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, FileLength: length}}
	case message.Video:
		return &waE2E.Message{VideoMessage: &waE2E.VideoMessage{Caption: optional(m.Caption), Mimetype: kind, ContextInfo: info,
			URL: url, DirectPath: path, MediaKey: at.MediaKey, FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, FileLength: length}}
	case message.Audio, message.Voice:
		voice := m.Type == message.Voice
		return &waE2E.Message{AudioMessage: &waE2E.AudioMessage{PTT: proto.Bool(voice), Mimetype: proto.String(audioType(m.Media.MIMEType, voice)), ContextInfo: info,
			URL: url, DirectPath: path, MediaKey: at.MediaKey, FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, FileLength: length}}
	case message.Document:
		return &waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{Caption: optional(m.Caption), FileName: optional(m.Filename), Title: optional(m.Filename),
			Mimetype: kind, ContextInfo: info,
			URL: url, DirectPath: path, MediaKey: at.MediaKey, FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, FileLength: length}}
	case message.Sticker:
		return &waE2E.Message{StickerMessage: &waE2E.StickerMessage{Mimetype: kind, ContextInfo: info,
			URL: url, DirectPath: path, MediaKey: at.MediaKey, FileEncSHA256: at.FileEncSHA256, FileSHA256: at.FileSHA256, FileLength: length}}
	}
	return nil
}

// audioType is what phones want to hear of a voice note: they play Opus in Ogg only if it is named in full.
func audioType(kind string, voice bool) string {
	base, _, _ := strings.Cut(kind, ";")
	if voice && (base == "audio/ogg" || base == "application/ogg" || base == "audio/opus") {
		return "audio/ogg; codecs=opus"
	}
	return kind
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// pollOf finds the poll of a message, whichever of its versions it is.
func pollOf(m *waE2E.Message) (*waE2E.PollCreationMessage, bool) {
	for _, p := range []*waE2E.PollCreationMessage{m.GetPollCreationMessage(), m.GetPollCreationMessageV2(), m.GetPollCreationMessageV3(), m.GetPollCreationMessageV5()} {
		if p != nil {
			return p, true
		}
	}
	return nil, false
}
