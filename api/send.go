package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/message"
	"kurir/models"
)

// SendHeaders are those of a send.
type SendHeaders struct {
	Prefer string `header:"Prefer" doc:"wait=N, up to 30: answer when the message is sent or has failed" example:"wait=10"`
	Key    string `header:"Idempotency-Key" maxLength:"255" doc:"Two requests with one key are one request: the second answers what the first did. Up to 255 printable ASCII characters, kept for 24 hours. The three addresses that send share their keys"`
}

// SendInput sends with the session in the path.
type SendInput struct {
	SessionPath
	SendHeaders
	Body message.Draft
}

// SendByKeyInput sends with the session of the key.
type SendByKeyInput struct {
	SendHeaders
	Body message.Draft
}

// SentData is an accepted message. The message is its own job.
type SentData struct {
	ID        string  `json:"id" format:"uuid"`
	MessageID string  `json:"messageId" format:"uuid"`
	JobID     string  `json:"jobId" format:"uuid"`
	Status    string  `json:"status" enum:"pending,sent,failed,unknown,cancelled,expired" doc:"With Prefer: wait, how it ended" example:"pending"`
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
		uid, err := a.credentials.session(ctx, p.user.ID, id)
		noteSession(ctx, uid)
		return uid, err
	case p.name == id:
		return *p.session, nil
	}
	return uuid.Nil, models.ErrGone
}

func (a *API) accept(ctx context.Context, session uuid.UUID, headers SendHeaders, d *message.Draft) (*Started[SentData], error) {
	if d.MessageID != "" || d.ReplyTo != "" || d.MediaID != "" { // what costs a look into the database
		if err := a.mayMessage(ctx, callerOf(ctx).user); err != nil {
			return nil, err
		}
	}
	m, err := a.compose(ctx, session, d, time.Now())
	if err != nil {
		return nil, err
	}
	m.ID = newResourceID(ctx)
	return a.store(ctx, m, headers)
}

// store accepts a message and answers when it is durable, or, where the client waits, when it is settled.
func (a *API) store(ctx context.Context, m *models.NewMessage, headers SendHeaders) (*Started[SentData], error) {
	if err := a.proved(callerOf(ctx).user); err != nil {
		return nil, err
	}
	if err := a.counted(ctx, []*models.NewMessage{m}, func() error { return a.accepter.Accept(ctx, m) }); err != nil {
		return nil, err
	}
	return a.sent(ctx, m.ID, headers)
}

func (a *API) sent(ctx context.Context, message uuid.UUID, headers SendHeaders) (*Started[SentData], error) {
	id := message.String()
	answer, status := SentData{ID: id, MessageID: id, JobID: id, Status: "pending"}, http.StatusAccepted
	wait := waitOf(headers.Prefer)
	if wait > 0 && a.waiter.message(ctx, callerOf(ctx).user.ID, message, wait) != "" {
		sent, _, err := models.MessageOf(ctx, a.db, callerOf(ctx).user.ID, nil, message)
		if err != nil {
			return nil, databaseFault(err)
		}
		answer.Status, answer.ErrorCode, answer.Error, status = strings.ToLower(sent.Status), sent.ErrorCode, sent.ErrorMessage, http.StatusOK
		if models.WentOut(sent.Status) {
			answer.Status = "sent" // what was waited for, even if receipts have come already
		}
	}
	return started(status, message, applied(wait), answer), nil
}
