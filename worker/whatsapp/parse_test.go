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
		"history":      {ProtocolMessage: &waE2E.ProtocolMessage{Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum()}},
	} {
		_, ok := parse(m)
		require.False(t, ok, name)
	}
	later := &waE2E.Message{}
	later.ProtoReflect().SetUnknown([]byte{0xfa, 0x3f, 0x01, 'x'}) // a field of a later version
	for name, m := range map[string]*waE2E.Message{
		"of a later version": later, "an event": {EventMessage: &waE2E.EventMessage{Name: proto.String("party")}},
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
