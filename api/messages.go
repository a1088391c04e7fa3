package api

import (
	"context"
	"strings"
	"time"

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
	if err == nil {
		noteSession(ctx, s.UID)
	}
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
