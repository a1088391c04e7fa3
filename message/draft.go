package message

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Draft is a message as a client asks for it. The tags bound what any type takes; Validate knows what each does.
type Draft struct {
	To      string  `json:"to,omitempty" maxLength:"128" doc:"Phone number with country code, or a WhatsApp address. Not needed with messageId, whose chat it is" example:"6281234567890"`
	Type    string  `json:"type,omitempty" enum:"text,image,video,audio,voice,document,sticker,location,contact,poll,reaction,edit,delete" doc:"text where it is left out" example:"text"`
	Message *string `json:"message,omitempty" nullable:"false" maxLength:"65536" doc:"The text; of a reaction the emoji; of an edit the new text" example:"Hello from Kurir!"`

	LinkPreview *bool    `json:"linkPreview,omitempty" nullable:"false" doc:"false: no preview of a link in the text"`
	ReplyTo     string   `json:"replyTo,omitempty" maxLength:"128" doc:"The message that it answers: our ID, or WhatsApp's, of one in the same chat" example:"0199c0de-0000-7000-8000-000000000001"`
	Mentions    []string `json:"mentions,omitempty" maxItems:"256" nullable:"false" doc:"People whom it names: numbers or addresses. In the text they stand as @ and their digits" example:"[\"6281234567890\"]"`
	Forwarded   bool     `json:"forwarded,omitempty" doc:"Show it as forwarded"`

	MediaURL    string `json:"mediaUrl,omitempty" maxLength:"2048" doc:"Where we fetch the medium, over HTTP or HTTPS" example:"https://example.com/cat.jpg"`
	MediaBase64 string `json:"mediaBase64,omitempty" doc:"The medium itself, in base64 or as a data URL" example:"iVBORw0KGgo="`
	MediaID     string `json:"mediaId,omitempty" maxLength:"36" doc:"A medium that is in our store" example:"5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f"`
	MIMEType    string `json:"mimetype,omitempty" maxLength:"100" doc:"What the medium is said to be, where its content does not tell" example:"image/jpeg"`
	Caption     string `json:"caption,omitempty" maxLength:"1024" doc:"The text under the medium" example:"Our cat"`
	Filename    string `json:"filename,omitempty" maxLength:"255" doc:"The name under which the file is shown and saved" example:"price list.pdf"`

	Location *Place     `json:"location,omitempty"`
	Contact  *Card      `json:"contact,omitempty" doc:"The same as contacts with one"`
	Contacts []Card     `json:"contacts,omitempty" maxItems:"50" nullable:"false"`
	Poll     *DraftPoll `json:"poll,omitempty"`

	MessageID string `json:"messageId,omitempty" maxLength:"128" doc:"What a reaction, edit or delete is about: our ID, or WhatsApp's" example:"0199c0de-0000-7000-8000-000000000001"`

	SendAt    *time.Time      `json:"sendAt,omitempty" nullable:"false" doc:"Not before this time, up to 30 days ahead. A time that is past is now"`
	ExpiresAt *time.Time      `json:"expiresAt,omitempty" nullable:"false" doc:"If it could not be sent by then it is given up"`
	TTL       *int64          `json:"ttl,omitempty" nullable:"false" minimum:"1" maximum:"2592000" doc:"The same as expiresAt, in seconds from sendAt or now" example:"3600"`
	Priority  string          `json:"priority,omitempty" enum:"high,normal" doc:"high goes out before what waits in other chats, never before what waits in its own" example:"normal"`
	Metadata  json.RawMessage `json:"metadata,omitempty" doc:"A JSON object of yours, up to 1 KB; it comes back in every event"`
}

// DraftPoll is a poll that is asked for: one choice, unless it says otherwise.
type DraftPoll struct {
	Question string   `json:"question" minLength:"1" maxLength:"255" example:"Tea or coffee?"`
	Options  []string `json:"options" minItems:"2" maxItems:"12" nullable:"false" example:"[\"Tea\",\"Coffee\"]"`
	Choices  *int     `json:"choices,omitempty" nullable:"false" minimum:"0" maximum:"12" doc:"How many may be chosen: 1 where it is left out, 0 for as many as one likes" example:"1"`
}

// Kind is the draft's type, with the default.
func (d *Draft) Kind() string {
	if d.Type == "" {
		return Text
	}
	return d.Type
}

// Text is the draft's text, "" where there is none.
func (d *Draft) Text() string {
	if d.Message == nil {
		return ""
	}
	return *d.Message
}

// Schedule says when a draft may go out, nil for at once, and when it is given up: ttl is the default from then on.
func (d *Draft) Schedule(now time.Time, ttl time.Duration) (sendAt *time.Time, expiresAt time.Time) {
	from := now
	if d.SendAt != nil && d.SendAt.After(now) {
		sendAt, from = d.SendAt, *d.SendAt
	}
	switch {
	case d.ExpiresAt != nil:
		return sendAt, *d.ExpiresAt
	case d.TTL != nil:
		return sendAt, from.Add(time.Duration(*d.TTL) * time.Second)
	}
	return sendAt, from.Add(ttl)
}

// Details is what the draft holds beside text and medium, nil if nothing. Target and ReplyTo are filled in by who has
// looked them up. The draft is valid.
func (d *Draft) Details() *Details {
	details := Details{Location: d.Location, Contacts: slices.Clone(d.Contacts), LinkPreview: d.LinkPreview, Forwarded: d.Forwarded}
	if d.Contact != nil {
		details.Contacts = []Card{*d.Contact}
	}
	for _, person := range d.Mentions {
		if jid, err := mention(person); err == nil && !slices.Contains(details.Mentions, jid) {
			details.Mentions = append(details.Mentions, jid)
		}
	}
	if d.Poll != nil {
		details.Poll = &Question{Question: d.Poll.Question, Options: d.Poll.Options, Choices: 1}
		if d.Poll.Choices != nil {
			details.Poll.Choices = *d.Poll.Choices
		}
	}
	if details.IsZero() {
		return nil
	}
	return &details
}

// IsZero reports whether there is nothing in it.
func (d *Details) IsZero() bool {
	return d.Location == nil && len(d.Contacts) == 0 && d.Poll == nil && d.Target == nil && d.ReplyTo == nil && len(d.Mentions) == 0 &&
		d.LinkPreview == nil && !d.Forwarded
}

// Filled returns the card with a vCard: its own, or one made of name and phone.
func (c Card) Filled() Card {
	if c.VCard != "" {
		return c
	}
	name := vcardEscapes.Replace(c.Name)
	digits := strings.TrimPrefix(c.Phone, "+")
	c.VCard = "BEGIN:VCARD\r\nVERSION:3.0\r\nN:;" + name + ";;;\r\nFN:" + name +
		"\r\nTEL;type=CELL;waid=" + digits + ":+" + digits + "\r\nEND:VCARD"
	return c
}

var vcardEscapes = strings.NewReplacer("\\", "\\\\", "\r\n", "\\n", "\n", "\\n", "\r", "", ",", "\\,", ";", "\\;")
