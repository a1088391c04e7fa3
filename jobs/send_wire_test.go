package jobs

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/models"
)

func TestWireOf(t *testing.T) {
	id, medium, url, caption, file := uuid.MustParse("0199c0de-0000-7000-8000-000000000001"), uuid.MustParse("5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f"), "https://example.com/x", "c", "f.txt"
	m := &models.Claimed{Message: models.Message{ID: id, WhatsappID: "3EB0", Seq: 7, ToNumber: "628@s.whatsapp.net", MessageType: "DOCUMENT", MediaURL: &url, Caption: &caption, Filename: &file,
		MediaID: &medium, Media: &message.Media{ID: medium.String(), URL: "/api/v1/media/x", MIMEType: "text/plain", Size: 5},
		Details: &message.Details{Contacts: []message.Card{{Name: "S", Phone: "+628"}}, Mentions: []string{"1@lid"}, ReplyTo: &message.Ref{WhatsappID: "A"}}}}
	raw, err := json.Marshal(wireOf(&models.Claim{Epoch: 3}, models.Hold{Generation: 9}, m))
	require.NoError(t, err)
	require.JSONEq(t, `{"messageId":"0199c0de-0000-7000-8000-000000000001","whatsappId":"3EB0","epoch":3,"generation":9,"seq":7,"to":"628@s.whatsapp.net","type":"document",
		"caption":"c","filename":"f.txt","media":{"id":"5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f","mimetype":"text/plain","size":5},"mentions":["1@lid"],"replyTo":{"whatsappId":"A","fromMe":false},
		"contacts":[{"name":"S","phone":"+628","vcard":"BEGIN:VCARD\r\nVERSION:3.0\r\nN:;S;;;\r\nFN:S\r\nTEL;type=CELL;waid=628:+628\r\nEND:VCARD"}]}`, string(raw))
	require.Empty(t, m.Details.Contacts[0].VCard, "the row stays as it is")
	raw, err = json.Marshal(wireOf(&models.Claim{}, models.Hold{}, &models.Claimed{Message: models.Message{MessageType: "TEXT", Content: "hi"}}))
	require.NoError(t, err)
	require.JSONEq(t, `{"messageId":"00000000-0000-0000-0000-000000000000","whatsappId":"","epoch":0,"generation":0,"to":"","type":"text","message":"hi"}`, string(raw))
}
