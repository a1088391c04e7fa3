// Package message is what can be said over WhatsApp: the types of messages, what each holds and the rules of it. It
// is shared by the public API, the rows, the worker protocol and the events, and performs no I/O.
package message

import (
	"encoding/json"
	"time"
)

// Types of messages, as they stand in JSON; rows have them in upper case.
const (
	Text     = "text"
	Image    = "image"
	Video    = "video"
	Audio    = "audio" // a file to be played
	Voice    = "voice" // a voice note
	Document = "document"
	Sticker  = "sticker"
	Location = "location"
	Contact  = "contact"
	Poll     = "poll"

	// These are about another message, their target. They are messages of their own: they have an ID, wait their turn in
	// the chat, and fail or arrive.
	Reaction = "reaction" // Message is the emoji, "" takes the reaction back
	Edit     = "edit"     // Message is the new text
	Delete   = "delete"   // for everyone

	Vote    = "vote"    // in a poll; comes in only
	Unknown = "unknown" // came in, and this version can't tell what it is
)

// Types lists what can be sent, in the order of the documentation.
func Types() []string {
	return []string{Text, Image, Video, Audio, Voice, Document, Sticker, Location, Contact, Poll, Reaction, Edit, Delete}
}

// HasMedia reports whether messages of a type carry a medium.
func HasMedia(kind string) bool {
	switch kind {
	case Image, Video, Audio, Voice, Document, Sticker:
		return true
	}
	return false
}

// About reports whether messages of a type are about another one.
func About(kind string) bool {
	return kind == Reaction || kind == Edit || kind == Delete || kind == Vote
}

// Media is a medium in the gateway's store.
type Media struct {
	ID       string `json:"id" format:"uuid"`
	URL      string `json:"url,omitempty" doc:"Where it can be downloaded with a key of the account" example:"/api/v1/media/5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f"`
	MIMEType string `json:"mimetype" doc:"As found in the content" example:"image/jpeg"`
	Size     int64  `json:"size" doc:"Bytes" example:"48213"`
	SHA256   string `json:"sha256,omitempty" doc:"Of the content, hexadecimal"`
}

// Ref names another message of the same session.
type Ref struct {
	MessageID  string `json:"messageId,omitempty" format:"uuid" doc:"Absent: the gateway doesn't know it"`
	WhatsappID string `json:"whatsappId"`
	Sender     string `json:"sender,omitempty" doc:"JID of its author; absent: the session itself" example:"6281234567890@s.whatsapp.net"`
	FromMe     bool   `json:"fromMe"`
}

// Place is what a location message shows.
type Place struct {
	Latitude  float64 `json:"latitude" minimum:"-90" maximum:"90" example:"-6.9147"`
	Longitude float64 `json:"longitude" minimum:"-180" maximum:"180" example:"107.6098"`
	Name      string  `json:"name,omitempty" maxLength:"200" example:"Gedung Sate"`
	Address   string  `json:"address,omitempty" maxLength:"500" example:"Jl. Diponegoro No. 22, Bandung"`
}

// Card is one contact of a contact message: a name with a number, or a vCard.
type Card struct {
	Name  string `json:"name" maxLength:"200" example:"Sari"`
	Phone string `json:"phone,omitempty" maxLength:"32" example:"+6281234567890"`
	VCard string `json:"vcard,omitempty" maxLength:"16384" doc:"Made of name and phone where it is left out"`
}

// Question is a poll, and in a vote the choices taken.
type Question struct {
	Question string   `json:"question" maxLength:"255" example:"Tea or coffee?"`
	Options  []string `json:"options" maxItems:"12" example:"[\"Tea\",\"Coffee\"]"`
	Choices  int      `json:"choices,omitempty" minimum:"0" maximum:"12" doc:"How many may be chosen; 0: as many as one likes, 1: one (default)" example:"1"`
}

// MarshalJSON writes a list of options that is not there as an empty one: a vote that was taken back has none.
func (q Question) MarshalJSON() ([]byte, error) {
	type plain Question
	if q.Options == nil {
		q.Options = []string{}
	}
	return json.Marshal(plain(q))
}

// Details is what only some messages hold, beside text and medium.
type Details struct {
	Location    *Place    `json:"location,omitempty"`
	Contacts    []Card    `json:"contacts,omitempty"`
	Poll        *Question `json:"poll,omitempty"`
	Target      *Ref      `json:"target,omitempty" doc:"What a reaction, edit, delete or vote is about"`
	ReplyTo     *Ref      `json:"replyTo,omitempty" doc:"What it answers"`
	Mentions    []string  `json:"mentions,omitempty" doc:"JIDs of the people whom it names"`
	LinkPreview *bool     `json:"linkPreview,omitempty" doc:"false: no preview of a link in the text"`
	Forwarded   bool      `json:"forwarded,omitempty"`
}

// Mark is one reaction to a message, as it is kept with that.
type Mark struct {
	From   string    `json:"from"` // JID of who reacted, by his number if that is known
	LID    string    `json:"lid,omitempty"`
	Name   string    `json:"name,omitempty"`
	FromMe bool      `json:"fromMe"`
	Emoji  string    `json:"emoji"`
	At     time.Time `json:"at"`
}
