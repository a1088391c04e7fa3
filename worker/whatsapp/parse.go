package whatsapp

import (
	"cmp"
	"regexp"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/reflect/protoreflect"

	"kurir/message"
	"kurir/wire"
)

// said is what a message says, beside who said it where.
type said struct {
	wire.ReceivedData
	medium whatsmeow.DownloadableMessage
	info   *waE2E.ContextInfo
	target *waCommon.MessageKey // of a message about another one
	root   *waCommon.MessageKey // of a comment
}

// unwrap opens the wrappers that whatsmeow leaves closed: around a picture of an album, what mentions groups, a poll, what was forwarded
// from a bot.
func unwrap(m *waE2E.Message) *waE2E.Message {
	for {
		inner := cmp.Or(m.GetAssociatedChildMessage().GetMessage(), m.GetGroupMentionedMessage().GetMessage(),
			m.GetPollCreationMessageV4().GetMessage(), m.GetBotForwardedMessage().GetMessage())
		if inner == nil {
			return m
		}
		m = (&events.Message{RawMessage: inner}).UnwrapRaw().Message
	}
}

// parse reads a message, unwrapped. False: it is about WhatsApp's own affairs, and none of a person's.
func parse(m *waE2E.Message) (s said, ok bool) {
	switch {
	case parseContent(m, &s), parseAbout(m, &s), parseChoice(m, &s), parseBusiness(m, &s):
	case m.GetCommentMessage() != nil && parseContent(unwrap(m.GetCommentMessage().GetMessage()), &s):
		s.root = m.GetCommentMessage().GetTargetMessageKey()
	case internal(m):
		return s, false
	default:
		s.Type, s.target = message.Unknown, unread(m)
	}
	if s.info != nil {
		s.Forwarded = s.info.GetIsForwarded()
		s.Mentions = s.info.GetMentionedJID()
	}
	return s, true
}

// unread is what a message is about that cannot be read.
func unread(m *waE2E.Message) *waCommon.MessageKey {
	return cmp.Or(m.GetEncReactionMessage().GetTargetMessageKey(), m.GetEncCommentMessage().GetTargetMessageKey(),
		m.GetCommentMessage().GetTargetMessageKey(), m.GetSecretEncryptedMessage().GetTargetMessageKey())
}

// ofDevices are fields that are between devices, or say nothing of a person's: a key for a group, a list of the phone's keys, a setting of
// the chat, the frame of an album whose pictures are messages of their own.
var ofDevices = map[protoreflect.Name]bool{
	"senderKeyDistributionMessage": true, "fastRatchetKeySenderKeyDistributionMessage": true, "protocolMessage": true, "keepInChatMessage": true,
	"pinInChatMessage": true, "placeholderMessage": true, "encEventResponseMessage": true, "stickerSyncRmrMessage": true,
	"messageHistoryBundle": true, "messageHistoryNotice": true, "albumMessage": true,
}

// internal reports whether a message is between devices, or says nothing.
func internal(m *waE2E.Message) bool {
	content, devices := false, false
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		devices = devices || ofDevices[f.Name()]
		content = content || !ofDevices[f.Name()] && f.Name() != "messageContextInfo"
		return true
	})
	return !content && (devices || len(m.ProtoReflect().GetUnknown()) == 0)
}

func parseContent(m *waE2E.Message, s *said) bool {
	return parseText(m, s) || parseMedium(m, s) || parseThing(m, s)
}

func parseText(m *waE2E.Message, s *said) bool {
	switch {
	case m == nil:
		return false
	case m.Conversation != nil:
		s.Message = m.GetConversation()
	case m.GetExtendedTextMessage() != nil:
		s.Message, s.info = m.GetExtendedTextMessage().GetText(), m.GetExtendedTextMessage().GetContextInfo()
	default:
		return false
	}
	s.Type = message.Text
	return true
}

func parseMedium(m *waE2E.Message, s *said) bool {
	switch {
	case m.GetImageMessage() != nil:
		v := m.GetImageMessage()
		s.Type, s.medium, s.Caption, s.info = message.Image, v, v.GetCaption(), v.GetContextInfo()
	case m.GetVideoMessage() != nil, m.GetPtvMessage() != nil: // the latter is round
		v := m.GetVideoMessage()
		if v == nil {
			v = m.GetPtvMessage()
		}
		s.Type, s.medium, s.Caption, s.info = message.Video, v, v.GetCaption(), v.GetContextInfo()
	case m.GetAudioMessage() != nil:
		v := m.GetAudioMessage()
		s.Type, s.medium, s.info = message.Audio, v, v.GetContextInfo()
		if v.GetPTT() {
			s.Type = message.Voice
		}
	case m.GetDocumentMessage() != nil:
		v := m.GetDocumentMessage()
		s.Type, s.medium, s.Caption, s.Filename, s.info = message.Document, v, v.GetCaption(), v.GetFileName(), v.GetContextInfo()
		if s.Filename == "" {
			s.Filename = v.GetTitle()
		}
	case m.GetStickerMessage() != nil:
		v := m.GetStickerMessage()
		s.Type, s.medium, s.info = message.Sticker, v, v.GetContextInfo()
	default:
		return false
	}
	return true
}

func parseThing(m *waE2E.Message, s *said) bool {
	switch {
	case m.GetLocationMessage() != nil:
		v := m.GetLocationMessage()
		s.Type, s.info = message.Location, v.GetContextInfo()
		s.Location = &message.Place{Latitude: v.GetDegreesLatitude(), Longitude: v.GetDegreesLongitude(), Name: v.GetName(), Address: v.GetAddress()}
	case m.GetLiveLocationMessage() != nil:
		v := m.GetLiveLocationMessage()
		s.Type, s.info = message.Location, v.GetContextInfo()
		s.Location = &message.Place{Latitude: v.GetDegreesLatitude(), Longitude: v.GetDegreesLongitude(), Name: v.GetCaption()}
	case m.GetContactMessage() != nil:
		v := m.GetContactMessage()
		s.Type, s.info, s.Contacts = message.Contact, v.GetContextInfo(), []message.Card{card(v)}
	case m.GetContactsArrayMessage() != nil:
		v := m.GetContactsArrayMessage()
		s.Type, s.info = message.Contact, v.GetContextInfo()
		for _, one := range v.GetContacts() {
			s.Contacts = append(s.Contacts, card(one))
		}
	default:
		p, ok := pollOf(m)
		if !ok {
			return false
		}
		s.Type, s.info, s.Poll = message.Poll, p.GetContextInfo(), question(p)
	}
	return true
}

func question(p *waE2E.PollCreationMessage) *message.Question {
	q := &message.Question{Question: p.GetName(), Choices: int(p.GetSelectableOptionsCount())}
	for _, o := range p.GetOptions() {
		q.Options = append(q.Options, o.GetOptionName())
	}
	return q
}

var waid = regexp.MustCompile(`(?i)\bwaid=([0-9]{5,15})`)

// card reads a contact. Its number is the one that WhatsApp itself has put into the vCard.
func card(c *waE2E.ContactMessage) message.Card {
	out := message.Card{Name: c.GetDisplayName(), VCard: c.GetVcard()}
	if found := waid.FindStringSubmatch(out.VCard); found != nil {
		out.Phone = "+" + found[1]
	}
	return out
}

func parseAbout(m *waE2E.Message, s *said) bool {
	p := m.GetProtocolMessage()
	switch {
	case m.GetReactionMessage() != nil:
		s.Type, s.Message, s.target = message.Reaction, m.GetReactionMessage().GetText(), m.GetReactionMessage().GetKey()
	case m.GetPollUpdateMessage() != nil:
		s.Type, s.target, s.Poll = message.Vote, m.GetPollUpdateMessage().GetPollCreationMessageKey(), &message.Question{}
	case p != nil && p.GetType() == waE2E.ProtocolMessage_REVOKE && p.GetKey() != nil:
		s.Type, s.target = message.Delete, p.GetKey()
	case p.GetType() == waE2E.ProtocolMessage_MESSAGE_EDIT && p.GetKey() != nil:
		var now said
		if !parseText(p.GetEditedMessage(), &now) && !parseMedium(p.GetEditedMessage(), &now) {
			return false
		}
		s.Type, s.target, s.Message, s.info = message.Edit, p.GetKey(), now.Message+now.Caption, now.info
	default:
		return false
	}
	return true
}

// parseChoice reads the answers to buttons and lists as the texts that they show.
func parseChoice(m *waE2E.Message, s *said) bool {
	switch {
	case m.GetButtonsResponseMessage() != nil:
		v := m.GetButtonsResponseMessage()
		s.Message, s.info = v.GetSelectedDisplayText(), v.GetContextInfo()
	case m.GetListResponseMessage() != nil:
		v := m.GetListResponseMessage()
		s.Message, s.info = v.GetTitle(), v.GetContextInfo()
	case m.GetTemplateButtonReplyMessage() != nil:
		v := m.GetTemplateButtonReplyMessage()
		s.Message, s.info = v.GetSelectedDisplayText(), v.GetContextInfo()
	case m.GetInteractiveResponseMessage().GetBody().GetText() != "":
		v := m.GetInteractiveResponseMessage()
		s.Message, s.info = v.GetBody().GetText(), v.GetContextInfo()
	default:
		return false
	}
	s.Type = message.Text
	return true
}
