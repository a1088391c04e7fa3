package api

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"kurir/address"
	"kurir/fault"
	"kurir/models"
	"kurir/wire"
)

// PresenceInput shows others what the session does.
type PresenceInput struct {
	SessionPath
	Body struct {
		Chat  string `json:"chat,omitempty" maxLength:"128" doc:"Where; with composing, recording and paused" example:"6281234567890"`
		State string `json:"state" enum:"available,unavailable,composing,recording,paused" example:"composing"`
	}
}

// ShownPresence is what others see now.
type ShownPresence struct {
	Chat  *string `json:"chat"`
	State string  `json:"state"`
}

func (a *API) setPresence(ctx context.Context, in *PresenceInput) (*Reply[ShownPresence], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	shown, p := ShownPresence{State: in.Body.State}, wire.Presence{State: in.Body.State}
	everywhere := p.State == wire.PresenceAvailable || p.State == wire.PresenceUnavailable
	switch {
	case everywhere && in.Body.Chat != "":
		return nil, fault.Field("chat", "available and unavailable are shown to all, not in a chat")
	case !everywhere:
		if p.Chat, err = parseField("chat", in.Body.Chat); err != nil {
			return nil, err
		}
		shown.Chat = &p.Chat
	}
	if _, err := pass(ctx, a, s, wire.SetPresence, p); err != nil {
		return nil, err
	}
	return reply(shown), nil
}

// SubscribeInput names somebody to watch.
type SubscribeInput struct {
	SessionPath
	Body struct {
		Contact string `json:"contact" minLength:"1" maxLength:"128" doc:"Phone number or WhatsApp address of a person" example:"6281234567890"`
	}
}

// Subscribed is somebody who is watched.
type Subscribed struct {
	Contact string `json:"contact" example:"6281234567890@s.whatsapp.net"`
}

func (a *API) subscribePresence(ctx context.Context, in *SubscribeInput) (*Reply[Subscribed], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	jid, err := parsePerson("contact", in.Body.Contact)
	if err != nil {
		return nil, err
	}
	if _, err := pass(ctx, a, s, wire.SubscribePresence, wire.Address{JID: jid}); err != nil {
		return nil, err
	}
	return reply(Subscribed{jid}), nil
}

// ReadInput names messages that have been read.
type ReadInput struct {
	SessionPath
	Body struct {
		MessageIDs []string `json:"messageIds,omitempty" maxItems:"100" doc:"IDs of messages that came in. Either these or chat" example:"[\"01920e3c-5f5b-7c3a-9d2e-1f2a3b4c5d6e\"]"`
		Chat       string   `json:"chat,omitempty" maxLength:"128" doc:"What came in here and was not marked yet, the last 500 at most" example:"6281234567890"`
	}
}

// ReadAnswer counts.
type ReadAnswer struct {
	Marked int `json:"marked" doc:"Messages that were marked as read"`
}

const maxUnread = 500 // messages of a chat that are marked at once

func (a *API) markRead(ctx context.Context, in *ReadInput) (*Reply[ReadAnswer], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if (len(in.Body.MessageIDs) > 0) == (in.Body.Chat != "") {
		return nil, fault.Field("messageIds", "expected either messageIds or chat")
	}
	list, err := a.toMark(ctx, s, in)
	if err != nil {
		return nil, err
	}
	if err := ready(s); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return reply(ReadAnswer{}), nil
	}
	if _, err := pass(ctx, a, s, wire.MarkRead, readMarks(list)); err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	if err := models.SetRead(ctx, a.db.Pool, s.UID, ids); err != nil {
		return nil, databaseFault(err)
	}
	return reply(ReadAnswer{Marked: len(list)}), nil
}

// toMark finds the messages that a request names.
func (a *API) toMark(ctx context.Context, s *models.Session, in *ReadInput) ([]models.ReceivedMessage, error) {
	if in.Body.Chat != "" {
		chat, err := parseField("chat", in.Body.Chat)
		if err != nil {
			return nil, err
		}
		list, err := models.Unread(ctx, a.db.Pool, s.UID, chat, maxUnread)
		if err != nil {
			return nil, databaseFault(err)
		}
		return list, nil
	}
	var ids []uuid.UUID
	for i, text := range in.Body.MessageIDs {
		id, err := uuid.Parse(text)
		if err != nil || len(text) != 36 {
			return nil, notReceived(i)
		}
		ids = append(ids, id)
	}
	list, err := models.Received(ctx, a.db.Pool, s.UID, ids)
	if err != nil {
		return nil, databaseFault(err)
	}
	for i, id := range ids {
		if !slices.ContainsFunc(list, func(m models.ReceivedMessage) bool { return m.ID == id }) {
			return nil, notReceived(i)
		}
	}
	return list, nil
}

func notReceived(i int) error {
	return fault.Field(fmt.Sprintf("messageIds[%d]", i), "expected the ID of a message that came in to this session")
}

// readMarks groups messages as the network wants them: by chat and author.
func readMarks(list []models.ReceivedMessage) wire.ReadMarks {
	var marks wire.ReadMarks
	for _, m := range list {
		sender := m.Chat
		switch {
		case m.FromNumber != nil:
			sender = strings.TrimPrefix(*m.FromNumber, "+") + "@" + address.Person
		case m.FromLID != nil:
			sender = *m.FromLID
		}
		i := slices.IndexFunc(marks.Messages, func(r wire.ReadMark) bool { return r.Chat == m.Chat && r.Sender == sender })
		if i < 0 {
			i = len(marks.Messages)
			marks.Messages = append(marks.Messages, wire.ReadMark{Chat: m.Chat, Sender: sender})
		}
		marks.Messages[i].WhatsappIDs = append(marks.Messages[i].WhatsappIDs, m.WhatsappID)
	}
	return marks
}

// PairingInput asks for a code instead of a QR.
type PairingInput struct {
	SessionPath
	Body struct {
		PhoneNumber string `json:"phoneNumber" minLength:"1" maxLength:"32" doc:"Number of the phone on which the code will be entered" example:"+6281234567890"`
	}
}

// PairingAnswer is a code to be entered on the phone.
type PairingAnswer struct {
	SessionID string    `json:"sessionId" example:"shop"`
	Code      string    `json:"code" example:"ABCD-EFGH"`
	ExpiresAt time.Time `json:"expiresAt"`
}

func (a *API) pairingCode(ctx context.Context, in *PairingInput) (*Reply[PairingAnswer], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	number, err := parseNumber("phoneNumber", in.Body.PhoneNumber)
	if err != nil {
		return nil, err
	}
	if err := toBeLinked(s); err != nil {
		return nil, err
	}
	if s.Status != models.SessionQRRequired {
		return nil, errQRNotReady
	}
	code, err := ask(ctx, a, s, wire.GetPairingCode, wire.Pairing{PhoneNumber: number})
	if err != nil {
		return nil, err
	}
	return reply(PairingAnswer{SessionID: s.ID, Code: code.Code, ExpiresAt: code.ExpiresAt.UTC()}), nil
}
