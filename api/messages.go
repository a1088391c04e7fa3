package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
	"kurir/webhook"
)

// SendFields is a message to send.
type SendFields struct {
	To      string `json:"to" minLength:"1" maxLength:"128" doc:"Phone number with country code, or a WhatsApp address" example:"6281234567890"`
	Type    string `json:"type,omitempty" enum:"text" default:"text"`
	Message string `json:"message" minLength:"1" maxLength:"65536" doc:"The text, up to 65,536 characters" example:"Hello from Kurir!"`
}

// SendHeaders are those of a send.
type SendHeaders struct {
	Prefer string `header:"Prefer" doc:"wait=N, up to 30: answer when the message is sent or has failed" example:"wait=10"`
	Key    string `header:"Idempotency-Key" doc:"Two requests with one key are one request: the second answers what the first did. Up to 255 printable ASCII characters, kept for 24 hours. The three addresses that send share their keys"`
}

// SendInput sends with the session in the path.
type SendInput struct {
	SessionPath
	SendHeaders
	Body SendFields
}

// SendByKeyInput sends with the session of the key.
type SendByKeyInput struct {
	SendHeaders
	Body SendFields
}

// SentData is an accepted message. The message is its own job.
type SentData struct {
	ID        string  `json:"id" format:"uuid"`
	MessageID string  `json:"messageId" format:"uuid"`
	JobID     string  `json:"jobId" format:"uuid"`
	Status    string  `json:"status" example:"pending"`
	ErrorCode *string `json:"errorCode,omitempty" doc:"With Prefer: wait, why it failed" example:"not_on_whatsapp"`
	Error     *string `json:"error,omitempty"`
}

func (a *API) send(ctx context.Context, in *SendInput) (*Started[SentData], error) {
	uid, err := a.sessionUID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.accept(ctx, uid, in.SendHeaders, &in.Body)
}

var errWhichSession = fault.New(fault.Forbidden, "session_key_needed", "This address needs the API key of a session. With an account credential, use /sessions/{id}/send.")

func (a *API) sendByKey(ctx context.Context, in *SendByKeyInput) (*Started[SentData], error) {
	p := callerOf(ctx)
	if p.session == nil {
		return nil, errWhichSession
	}
	return a.accept(ctx, *p.session, in.SendHeaders, &in.Body)
}

// sessionUID finds the session to send from, in memory where it can. A session key carries it, and its being valid proves
// that the session is there; whether it takes messages is decided by its lane, when the message is stored.
func (a *API) sessionUID(ctx context.Context, id string) (uuid.UUID, error) {
	p := callerOf(ctx)
	switch {
	case p.session == nil:
		return a.credentials.session(ctx, p.user.ID, id)
	case p.name == id:
		return *p.session, nil
	}
	return uuid.Nil, models.ErrGone
}

func (a *API) accept(ctx context.Context, session uuid.UUID, headers SendHeaders, f *SendFields) (*Started[SentData], error) {
	to, err := parseAddress(f.To)
	if err != nil {
		return nil, err
	}
	m := &models.NewMessage{ID: newResourceID(ctx), Session: session, Chat: to, To: to, Type: strings.ToUpper(f.Type), Content: f.Message,
		ExpiresAt: time.Now().Add(a.cfg.MessageTTL)}
	if err := a.accepter.Accept(ctx, m); err != nil {
		return nil, err
	}
	id := m.ID.String()
	answer, status := SentData{ID: id, MessageID: id, JobID: id, Status: "pending"}, http.StatusAccepted
	wait := waitOf(headers.Prefer)
	if wait > 0 && a.waiter.message(ctx, m.ID, wait) != "" {
		sent, _, err := models.MessageOf(ctx, a.db, callerOf(ctx).user.ID, nil, m.ID)
		if err != nil {
			return nil, databaseFault(err)
		}
		answer.Status, answer.ErrorCode, answer.Error, status = strings.ToLower(sent.Status), sent.ErrorCode, sent.ErrorMessage, http.StatusOK
		if models.WentOut(sent.Status) {
			answer.Status = "sent" // what was waited for, even if receipts have come already
		}
	}
	return started(status, m.ID, applied(wait), answer), nil
}

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
	if waiting := m.Waits(s.Status, time.Now()); waiting != "" {
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
