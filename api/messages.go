package api

import (
	"context"
	"strings"
	"time"

	"kurir/address"
	"kurir/fault"
	"kurir/models"
	"kurir/webhook"
)

// MessagePath names a message.
type MessagePath struct {
	MessageID string `path:"messageId" maxLength:"64" doc:"The message's ID" format:"uuid"`
}

var errNoMessage = fault.New(fault.NotFound, "message_not_found", "There is no such message.")

func (a *API) ownMessage(ctx context.Context, text string) (*models.Message, *models.Session, error) {
	id, err := idOf(text, errNoMessage)
	if err != nil {
		return nil, nil, err
	}
	p := callerOf(ctx)
	m, s, err := models.MessageOf(ctx, a.db, p.user.ID, p.session, id)
	return m, s, found(err, errNoMessage)
}

func messageResource(m *models.Message, s *models.Session) webhook.Message {
	r := m.Resource(s.ID)
	if waiting := m.Waits(s, time.Now()); waiting != "" {
		r.WaitingFor = &waiting
	}
	return r
}

func (a *API) getMessage(ctx context.Context, in *MessagePath) (*Reply[webhook.Message], error) {
	m, s, err := a.ownMessage(ctx, in.MessageID)
	if err != nil {
		return nil, err
	}
	return reply(messageResource(m, s)), nil
}

var errNotPending = fault.New(fault.Conflict, "not_pending", "The message can no longer be cancelled: it is on its way or settled.")

func (a *API) cancelMessage(ctx context.Context, in *MessagePath) (*Reply[webhook.Message], error) {
	m, s, err := a.ownMessage(ctx, in.MessageID)
	if err != nil {
		return nil, err
	}
	ok, woken, err := models.CancelMessage(ctx, a.db, m, s.ID)
	if err != nil {
		return nil, databaseFault(err)
	}
	if !ok {
		return nil, errNotPending
	}
	a.waker.Webhooks(woken...)
	return a.getMessage(ctx, in)
}

// HistoryInput asks for a session's messages.
type HistoryInput struct {
	SessionPath
	Page
	Direction string    `query:"direction" enum:"inbound,outbound"`
	Status    string    `query:"status" enum:"pending,sending,sent,delivered,read,failed,unknown,cancelled,expired"`
	Type      string    `query:"type" enum:"text,image,video,audio,voice,document,sticker,location,contact,poll,reaction,edit,delete,vote,unknown"`
	Chat      string    `query:"chat" maxLength:"128" doc:"Phone number or WhatsApp address of the conversation"`
	Since     time.Time `query:"since" doc:"Not before this time"`
	Until     time.Time `query:"until" doc:"Before this time"`
}

// History is a page of messages, newest first.
type History struct {
	Messages   []webhook.Message `json:"messages"`
	NextCursor *string           `json:"nextCursor"`
}

func (a *API) listMessages(ctx context.Context, in *HistoryInput) (*Reply[History], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	f := models.MessageFilter{Direction: strings.ToUpper(in.Direction), Status: strings.ToUpper(in.Status), Type: strings.ToUpper(in.Type),
		Since: notBefore1970(in.Since), Until: notBefore1970(in.Until), Limit: in.Limit + 1}
	if in.Chat != "" {
		if f.Chat, err = address.Parse(in.Chat); err != nil {
			return nil, fault.Field("chat", err.Error())
		}
	}
	if f.Before, err = in.after(); err != nil {
		return nil, err
	}
	rows, err := models.Messages(ctx, a.db, s.UID, f)
	if err != nil {
		return nil, databaseFault(err)
	}
	page := first(rows, in.Limit)
	list := History{Messages: make([]webhook.Message, 0, len(page))}
	for i := range page {
		list.Messages = append(list.Messages, messageResource(&page[i], s))
	}
	if len(page) > 0 {
		list.NextCursor = in.next(len(rows), page[len(page)-1].ID)
	}
	return reply(list), nil
}

// notBefore1970 keeps times in the range of the IDs, which count from then. The zero time is none.
func notBefore1970(t time.Time) time.Time {
	if epoch := time.Unix(0, 0); !t.IsZero() && t.Before(epoch) {
		return epoch
	}
	return t
}

// jobOfMessage is the view of a message as a job.
func jobOfMessage(m *models.Message, s *models.Session) JobResource {
	j := JobResource{ID: m.ID.String(), Type: "message:send", Attempts: m.Attempts, Error: m.ErrorMessage, CreatedAt: m.CreatedAt.UTC(),
		FinishedAt: utc(m.FinishedAt), Subject: JobSubject{SessionID: &s.ID}}
	id := m.ID.String()
	j.Subject.MessageID = &id
	switch {
	case m.Status == models.MessagePending:
		j.Status = "queued"
	case m.Status == models.MessageSending:
		j.Status = "running"
	case m.Status == models.MessageCancelled:
		j.Status = "cancelled"
	case models.WentOut(m.Status):
		j.Status, j.FinishedAt = "succeeded", utc(m.SentAt)
	default:
		j.Status = "failed"
	}
	j.Result = map[string]any{"messageId": id, "status": strings.ToLower(m.Status)}
	return j
}
