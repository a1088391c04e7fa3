package whatsapp

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"kurir/message"
	"kurir/wire"
)

var own = types.JID{User: "6281", Device: 3, Server: types.DefaultUserServer}

func newComposer(chat string) *composer {
	jid, _ := types.ParseJID(chat)
	id := own
	return &composer{client: whatsmeow.NewClient(&store.Device{ID: &id}, nil), own: own, chat: jid, medium: &whatsmeow.UploadResponse{
		URL: "https://mmg.whatsapp.net/x", DirectPath: "/x", MediaKey: []byte{1}, FileEncSHA256: []byte{2}, FileSHA256: []byte{3}, FileLength: 4,
	}}
}

// What is composed is read again as it was, but for what WhatsApp has no place for.
func TestWhatIsComposedIsReadAgain(t *testing.T) {
	t.Parallel()
	no := false
	medium := &wire.Media{ID: "x", MIMEType: "image/png", Size: 4}
	for _, m := range []wire.Send{
		{Type: message.Text, Message: "hello"},
		{Type: message.Text, Message: "named @6289", Details: message.Details{Mentions: []string{"6289@s.whatsapp.net"}, Forwarded: true, LinkPreview: &no}},
		{Type: message.Image, Caption: "look", Media: medium},
		{Type: message.Video, Caption: "look", Media: medium, Details: message.Details{Forwarded: true}},
		{Type: message.Audio, Media: medium},
		{Type: message.Voice, Media: medium},
		{Type: message.Document, Caption: "the bill", Filename: "bill.pdf", Media: medium},
		{Type: message.Sticker, Media: medium},
		{Type: message.Location, Details: message.Details{Location: &message.Place{Latitude: -6.9, Longitude: 107.6, Name: "Gedung Sate", Address: "Bandung"}}},
		{Type: message.Contact, Details: message.Details{Contacts: []message.Card{{Name: "Sari", Phone: "+6281234", VCard: "BEGIN:VCARD\r\nTEL;waid=6281234:+6281234\r\nEND:VCARD"}}}},
		{Type: message.Contact, Details: message.Details{Contacts: []message.Card{{Name: "Sari", VCard: "A"}, {Name: "Budi", VCard: "B"}}}},
		{Type: message.Poll, Details: message.Details{Poll: &message.Question{Question: "?", Options: []string{"Tea", "Coffee"}, Choices: 1}}},
		{Type: message.Poll, Details: message.Details{Poll: &message.Question{Question: "?", Options: []string{"Tea", "Coffee"}}}},
		{Type: message.Reaction, Message: "❤️"},
		{Type: message.Reaction},
		{Type: message.Edit, Message: "corrected"},
		{Type: message.Delete},
	} {
		if message.About(m.Type) {
			m.Target = &message.Ref{WhatsappID: "T", FromMe: true}
		}
		made, err := newComposer("6282@s.whatsapp.net").compose(&m)
		require.NoError(t, err)
		require.NotNil(t, made, m.Type)
		raw, err := proto.Marshal(made)
		require.NoError(t, err)
		arrived := new(waE2E.Message)
		require.NoError(t, proto.Unmarshal(raw, arrived))
		if edited := arrived.GetEditedMessage(); edited != nil { // whatsmeow unwraps it
			arrived = edited.GetMessage()
		}
		got, ok := parse(arrived)
		require.True(t, ok, m.Type)
		require.Equal(t, []string{m.Type, m.Message, m.Caption, m.Filename}, []string{got.Type, got.Message, got.Caption, got.Filename})
		require.Equal(t, message.HasMedia(m.Type), got.medium != nil, m.Type)
		if message.About(m.Type) {
			require.Equal(t, "T", got.target.GetID())
			require.True(t, got.target.GetFromMe())
		}
		want := m.Details
		want.Target, want.LinkPreview = nil, nil
		require.Equal(t, want, got.Details, m.Type)
	}
}

func TestAMessageAboutSomebodyElses(t *testing.T) {
	t.Parallel()
	theirs := &message.Ref{WhatsappID: "T", Sender: "6289@s.whatsapp.net"}
	m := wire.Send{Type: message.Reaction, Message: "x", Details: message.Details{Target: theirs}}
	made, err := newComposer("120363@g.us").compose(&m)
	require.NoError(t, err)
	key := made.GetReactionMessage().GetKey()
	require.Equal(t, []any{false, "6289@s.whatsapp.net"}, []any{key.GetFromMe(), key.GetParticipant()})
	m = wire.Send{Type: message.Text, Message: "yes", Details: message.Details{ReplyTo: theirs}}
	made, err = newComposer("120363@g.us").compose(&m)
	require.NoError(t, err)
	require.Equal(t, "6289@s.whatsapp.net", made.GetExtendedTextMessage().GetContextInfo().GetParticipant())
	require.NotNil(t, made.GetExtendedTextMessage().GetContextInfo().GetQuotedMessage())
	m.ReplyTo = &message.Ref{WhatsappID: "O", FromMe: true}
	made, err = newComposer("120363@g.us").compose(&m)
	require.NoError(t, err)
	require.Equal(t, "6281@s.whatsapp.net", made.GetExtendedTextMessage().GetContextInfo().GetParticipant())
	m = wire.Send{Type: message.Delete, Details: message.Details{Target: &message.Ref{WhatsappID: "T", Sender: "no JID at all:@:"}}}
	_, err = newComposer("120363@g.us").compose(&m)
	require.Error(t, err)
}

func TestTypesThatNobodyKnows(t *testing.T) {
	t.Parallel()
	m := wire.Send{Type: "hologram"}
	c := newComposer("6282@s.whatsapp.net")
	c.medium = nil
	made, err := c.compose(&m)
	require.NoError(t, err)
	require.Nil(t, made)
}

// What is between devices is nobody's message; whatever else cannot be read is one, of an unknown type.
func TestWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	key := &waCommon.MessageKey{ID: proto.String("T")}
	for name, m := range map[string]*waE2E.Message{
		"nothing":      nil,
		"empty":        {},
		"context only": {MessageContextInfo: &waE2E.MessageContextInfo{MessageSecret: []byte{1}}},
		"keys":         {SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{}},
		"setting":      {ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_EPHEMERAL_SETTING.Enum(), Key: key}},
		"an album":     {AlbumMessage: &waE2E.AlbumMessage{ExpectedImageCount: proto.Uint32(2)}, MessageContextInfo: &waE2E.MessageContextInfo{}},
		"history":      {ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum()}},
	} {
		_, ok := parse(m)
		require.False(t, ok, name)
	}
	later := &waE2E.Message{}
	later.ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 0x01, 'x'}) // a field of a later version
	for name, m := range map[string]*waE2E.Message{
		"of a later version": later, "an event": {EventMessage: &waE2E.EventMessage{Name: proto.String("party")}},
		"an event with a key": {EventMessage: &waE2E.EventMessage{}, SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{}},
		"no template":         {TemplateMessage: &waE2E.TemplateMessage{}}, "no comment": {CommentMessage: &waE2E.CommentMessage{}},
	} {
		got, ok := parse(m)
		require.True(t, ok, name)
		require.Equal(t, message.Unknown, got.Type)
	}
	got, ok := parse(&waE2E.Message{SenderKeyDistributionMessage: &waE2E.SenderKeyDistributionMessage{}, Conversation: proto.String("and a text")})
	require.True(t, ok)
	require.Equal(t, "and a text", got.Message)
	got, _ = parse(&waE2E.Message{ButtonsResponseMessage: &waE2E.ButtonsResponseMessage{Response: &waE2E.ButtonsResponseMessage_SelectedDisplayText{SelectedDisplayText: "Yes"}}})
	require.Equal(t, "Yes", got.Message)
}

func wrapped(m *waE2E.Message) *waE2E.FutureProofMessage {
	return &waE2E.FutureProofMessage{Message: m}
}

// What whatsmeow leaves in wrappers, or as businesses send it, is read as what a phone shows of it.
func TestWhatPhonesShow(t *testing.T) {
	t.Parallel()
	picture, place := &waE2E.ImageMessage{Caption: proto.String("hidden")}, &waE2E.LocationMessage{Name: proto.String("Gedung Sate")}
	of := func(name string) *waE2E.ContextInfo { return &waE2E.ContextInfo{StanzaID: &name} }
	key := &waCommon.MessageKey{ID: proto.String("ROOT")}
	template := &waE2E.TemplateMessage_HydratedFourRowTemplate{HydratedContentText: proto.String("Your code is 1234"), HydratedFooterText: proto.String("Kurir"),
		Title: &waE2E.TemplateMessage_HydratedFourRowTemplate_HydratedTitleText{HydratedTitleText: "Sign in"}}
	buttons := &waE2E.InteractiveMessage{Body: &waE2E.InteractiveMessage_Body{Text: proto.String("Choose")}, ContextInfo: of("I")}
	carousel := &waE2E.InteractiveMessage{InteractiveMessage: &waE2E.InteractiveMessage_CarouselMessage_{
		CarouselMessage: &waE2E.InteractiveMessage_CarouselMessage{Cards: []*waE2E.InteractiveMessage{buttons, buttons}}}}
	for name, c := range map[string]struct {
		m                   *waE2E.Message
		kind, text, caption string
		about               string // the message that it quotes, comments on or could not be read for
	}{
		"a picture of an album":       {&waE2E.Message{AssociatedChildMessage: wrapped(&waE2E.Message{ImageMessage: picture})}, message.Image, "", "hidden", ""},
		"a mention of groups":         {&waE2E.Message{GroupMentionedMessage: wrapped(text1("@all"))}, message.Text, "@all", "", ""},
		"wrappers in each other":      {&waE2E.Message{GroupMentionedMessage: wrapped(&waE2E.Message{EphemeralMessage: wrapped(text1("x"))})}, message.Text, "x", "", ""},
		"a poll in a wrapper":         {&waE2E.Message{PollCreationMessageV4: wrapped(&waE2E.Message{PollCreationMessage: &waE2E.PollCreationMessage{}})}, message.Poll, "", "", ""},
		"an empty wrapper":            {&waE2E.Message{GroupMentionedMessage: &waE2E.FutureProofMessage{}}, message.Unknown, "", "", ""},
		"a comment":                   {&waE2E.Message{CommentMessage: &waE2E.CommentMessage{Message: text1("fine"), TargetMessageKey: key}}, message.Text, "fine", "", "ROOT"},
		"a comment of an event":       {&waE2E.Message{CommentMessage: &waE2E.CommentMessage{Message: &waE2E.Message{EventMessage: &waE2E.EventMessage{}}, TargetMessageKey: key}}, message.Unknown, "", "", "ROOT"},
		"a sealed reaction":           {&waE2E.Message{EncReactionMessage: &waE2E.EncReactionMessage{TargetMessageKey: key}}, message.Unknown, "", "", "ROOT"},
		"a sealed comment":            {&waE2E.Message{EncCommentMessage: &waE2E.EncCommentMessage{TargetMessageKey: key}}, message.Unknown, "", "", "ROOT"},
		"a sealed edit":               {&waE2E.Message{SecretEncryptedMessage: &waE2E.SecretEncryptedMessage{TargetMessageKey: key}}, message.Unknown, "", "", "ROOT"},
		"a template":                  {&waE2E.Message{TemplateMessage: &waE2E.TemplateMessage{HydratedTemplate: template, ContextInfo: of("T")}}, message.Text, "Sign in\nYour code is 1234\nKurir", "", "T"},
		"a template of former times":  {&waE2E.Message{HighlyStructuredMessage: &waE2E.HighlyStructuredMessage{HydratedHsm: &waE2E.TemplateMessage{Format: &waE2E.TemplateMessage_HydratedFourRowTemplate_{HydratedFourRowTemplate: template}}}}, message.Text, "Sign in\nYour code is 1234\nKurir", "", ""},
		"a template with a picture":   {&waE2E.Message{TemplateMessage: &waE2E.TemplateMessage{HydratedTemplate: &waE2E.TemplateMessage_HydratedFourRowTemplate{HydratedContentText: proto.String("Sale"), Title: &waE2E.TemplateMessage_HydratedFourRowTemplate_ImageMessage{ImageMessage: picture}}}}, message.Image, "", "Sale", ""},
		"a template that is buttons":  {&waE2E.Message{TemplateMessage: &waE2E.TemplateMessage{Format: &waE2E.TemplateMessage_InteractiveMessageTemplate{InteractiveMessageTemplate: buttons}}}, message.Text, "Choose", "", "I"},
		"buttons":                     {&waE2E.Message{InteractiveMessage: buttons}, message.Text, "Choose", "", "I"},
		"cards":                       {&waE2E.Message{InteractiveMessage: carousel}, message.Text, "Choose\nChoose", "", ""},
		"buttons under a place":       {&waE2E.Message{ButtonsMessage: &waE2E.ButtonsMessage{ContentText: proto.String("Here?"), Header: &waE2E.ButtonsMessage_LocationMessage{LocationMessage: place}}}, message.Location, "Here?", "", ""},
		"buttons of former times":     {&waE2E.Message{ButtonsMessage: &waE2E.ButtonsMessage{ContentText: proto.String("Yes?"), Header: &waE2E.ButtonsMessage_Text{Text: "Well"}, ContextInfo: of("B")}}, message.Text, "Well\nYes?", "", "B"},
		"a list":                      {&waE2E.Message{ListMessage: &waE2E.ListMessage{Title: proto.String("Menu"), Description: proto.String("of today"), ContextInfo: of("L")}}, message.Text, "Menu\nof today", "", "L"},
		"an answer to buttons":        {&waE2E.Message{InteractiveResponseMessage: &waE2E.InteractiveResponseMessage{Body: &waE2E.InteractiveResponseMessage_Body{Text: proto.String("Tea")}}}, message.Text, "Tea", "", ""},
		"an answer that says nothing": {&waE2E.Message{InteractiveResponseMessage: &waE2E.InteractiveResponseMessage{}}, message.Unknown, "", "", ""},
	} {
		got, ok := parse(unwrap(c.m))
		require.True(t, ok, name)
		require.Equal(t, []string{c.kind, c.text, c.caption}, []string{got.Type, got.Message, got.Caption}, name)
		require.Equal(t, message.HasMedia(c.kind), got.medium != nil, name)
		require.Equal(t, c.about, got.info.GetStanzaID()+got.target.GetID()+got.root.GetID(), name)
	}
}
