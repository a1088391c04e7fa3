package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"kurir/address"
	"kurir/fault"
	"kurir/message"
	"kurir/models"
)

// EditInput changes a message's text.
type EditInput struct {
	MessagePath
	SendHeaders
	Body struct {
		Message string `json:"message" minLength:"1" maxLength:"65536" doc:"The new text, or caption" example:"Hello again"`
	}
}

// editMessage sends an edit of a message that went out. One that was never tried is changed where it waits.
func (a *API) editMessage(ctx context.Context, in *EditInput) (*Started[SentData], error) {
	m, s, err := a.ownMessage(ctx, in.MessageID)
	if err != nil {
		return nil, err
	}
	if m.Status == models.MessagePending && editable(strings.ToLower(m.MessageType)) {
		if message.Blank(in.Body.Message) {
			return nil, fault.Field("message", "expected a text: there is nothing but white space")
		}
		if m.MessageType != "TEXT" && len([]rune(in.Body.Message)) > message.MaxCaption {
			return nil, fault.Field("message", "expected at most 1024 characters: it is a caption")
		}
		done, err := models.EditPending(ctx, a.db.Pool, m, in.Body.Message)
		switch {
		case err != nil:
			return nil, databaseFault(err)
		case !done:
			return nil, errNotSent
		}
		return settledHere(m, "pending"), nil
	}
	return a.sendAbout(ctx, m, s, in.SendHeaders, &message.Draft{Type: message.Edit, Message: &in.Body.Message})
}

// settledHere answers a call that had nothing to send.
func settledHere(m *models.Message, status string) *Started[SentData] {
	id := m.ID.String()
	return started(http.StatusOK, m.ID, "", SentData{ID: id, MessageID: id, JobID: id, Status: status})
}

// sendAbout sends a message about another one.
func (a *API) sendAbout(ctx context.Context, m *models.Message, s *models.Session, headers SendHeaders, d *message.Draft) (*Started[SentData], error) {
	d.MessageID = m.ID.String()
	return a.accept(ctx, s.UID, headers, d)
}

// RevokeInput deletes a message for everyone.
type RevokeInput struct {
	MessagePath
	SendHeaders
}

// revokeMessage has a message that went out deleted for everyone. One that was never tried is cancelled.
func (a *API) revokeMessage(ctx context.Context, in *RevokeInput) (*Started[SentData], error) {
	m, s, err := a.ownMessage(ctx, in.MessageID)
	if err != nil {
		return nil, err
	}
	if m.Status == models.MessagePending {
		ok, woken, err := models.CancelMessage(ctx, a.db, m, s.ID)
		switch {
		case err != nil:
			return nil, databaseFault(err)
		case !ok:
			return nil, errNotSent
		}
		a.waker.Webhooks(woken...)
		return settledHere(m, "cancelled"), nil
	}
	return a.sendAbout(ctx, m, s, in.SendHeaders, &message.Draft{Type: message.Delete})
}

// ReactInput reacts to a message.
type ReactInput struct {
	MessagePath
	SendHeaders
	Body struct {
		Emoji string `json:"emoji" maxLength:"64" doc:"One emoji; empty takes the reaction back" example:"👍"`
	}
}

func (a *API) react(ctx context.Context, in *ReactInput) (*Started[SentData], error) {
	m, s, err := a.ownMessage(ctx, in.MessageID)
	if err != nil {
		return nil, err
	}
	if in.Body.Emoji != "" && !message.IsEmoji(in.Body.Emoji) {
		return nil, fault.Field("emoji", "expected one emoji, or nothing to take the reaction back")
	}
	return a.sendAbout(ctx, m, s, in.SendHeaders, &message.Draft{Type: message.Reaction, Message: &in.Body.Emoji})
}

// ForwardInput sends a copy of a message.
type ForwardInput struct {
	MessagePath
	SendHeaders
	Body struct {
		To string `json:"to" minLength:"1" maxLength:"128" doc:"Phone number with country code, or a WhatsApp address" example:"6281234567890"`
	}
}

var errNotForwardable = fault.New(fault.Conflict, "not_forwardable", "There is nothing in this message that could be forwarded.")

func (a *API) forward(ctx context.Context, in *ForwardInput) (*Started[SentData], error) {
	m, _, err := a.ownMessage(ctx, in.MessageID)
	if err != nil {
		return nil, err
	}
	to, err := address.Parse(in.Body.To)
	if err != nil {
		return nil, fault.Field("to", err.Error())
	}
	copied, ok := m.Forwarded()
	if !ok {
		return nil, errNotForwardable
	}
	if copied.MediaID != nil {
		if err := a.use(ctx, copied, *copied.MediaID); err != nil {
			return nil, err
		}
	}
	copied.ID, copied.Chat, copied.To, copied.ExpiresAt = newResourceID(ctx), to, to, time.Now().Add(a.cfg.MessageTTL)
	return a.store(ctx, copied, in.SendHeaders)
}

// RetryInput sends a message again.
type RetryInput struct {
	MessagePath
	Prefer string `header:"Prefer" doc:"wait=N, up to 30: answer when the message is sent or has failed" example:"wait=10"`
	Body   *struct {
		Force bool `json:"force,omitempty" doc:"Also if nobody knows whether it went out. The person could get it twice" example:"false"`
	}
}

func (a *API) retryMessage(ctx context.Context, in *RetryInput) (*Started[SentData], error) {
	m, s, err := a.ownMessage(ctx, in.MessageID)
	if err != nil {
		return nil, err
	}
	if err := a.proved(callerOf(ctx).user); err != nil {
		return nil, err
	}
	force := in.Body != nil && in.Body.Force
	if !m.Retryable(force) {
		return nil, models.ErrNotRetryable
	}
	until, err := a.retryUntil(ctx, m, time.Now())
	if err != nil {
		return nil, err
	}
	if err := models.RetryMessage(ctx, a.db, m, force, until); err != nil {
		return nil, stored(err)
	}
	a.waker.Messages(models.Woken{Lane: s.UID})
	return a.sent(ctx, m.ID, SendHeaders{Prefer: in.Prefer})
}

// retryUntil is when a message that is sent again expires. What is about another message must still be allowed by WhatsApp,
// as when it was new: phones would ignore it, and its target would be changed here alone.
func (a *API) retryUntil(ctx context.Context, m *models.Message, now time.Time) (time.Time, error) {
	again := &models.NewMessage{Session: m.SessionUID, Type: m.MessageType, ExpiresAt: now.Add(a.cfg.MessageTTL)}
	if m.TargetID == nil {
		return again.ExpiresAt, nil
	}
	target, err := models.MessageNamed(ctx, a.db.Pool, m.SessionUID, m.TargetID.String())
	if err := found(err, models.ErrNotRetryable); err != nil {
		return time.Time{}, err
	}
	err = about(again, target, now)
	return again.ExpiresAt, err
}

// CancelInput cancels messages that wait.
type CancelInput struct {
	SessionPath
	Body *CancelFilter
}

// CancelFilter chooses them. What it leaves out does not restrict.
type CancelFilter struct {
	Chat     string          `json:"chat,omitempty" maxLength:"128" doc:"Phone number or WhatsApp address of the conversation" example:"6281234567890"`
	Type     string          `json:"type,omitempty" enum:"text,image,video,audio,voice,document,sticker,location,contact,poll,reaction,edit,delete" example:"text"`
	After    *time.Time      `json:"after,omitempty" nullable:"false" doc:"Accepted at this time or later"`
	Before   *time.Time      `json:"before,omitempty" nullable:"false" doc:"Accepted before this time"`
	Metadata json.RawMessage `json:"metadata,omitempty" doc:"An object: those whose metadata hold at least this"`
}

// CancelledData is the result.
type CancelledData struct {
	Cancelled int  `json:"cancelled" doc:"How many were cancelled; each has its event"`
	More      bool `json:"more" doc:"There may be more: ask again"`
}

// cancelTime is how long one call goes on cancelling.
const cancelTime = 20 * time.Second

func (a *API) cancelMessages(ctx context.Context, in *CancelInput) (*Reply[CancelledData], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if in.Body == nil {
		in.Body = &CancelFilter{}
	}
	f, err := in.Body.filter()
	if err != nil {
		return nil, err
	}
	done, end := CancelledData{More: true}, time.Now().Add(cancelTime)
	for from := int64(0); time.Now().Before(end); {
		n, next, woken, err := models.CancelMessages(ctx, a.db, s, f, from)
		if err != nil {
			return nil, databaseFault(err)
		}
		a.waker.Webhooks(woken...)
		if done.Cancelled += n; n > 0 {
			a.waker.Messages(models.Woken{Lane: s.UID})
		}
		if next == 0 {
			done.More = false
			break
		}
		from = next
	}
	return reply(done), nil
}

func (f CancelFilter) filter() (models.PendingFilter, error) {
	p := models.PendingFilter{Type: strings.ToUpper(f.Type)}
	if f.After != nil {
		p.After = notBefore1970(*f.After)
	}
	if f.Before != nil {
		p.Before = notBefore1970(*f.Before)
	}
	var wrongChat, wrongMetadata error
	if f.Chat != "" {
		jid, err := address.Parse(f.Chat)
		if err != nil {
			wrongChat = fault.Field("chat", err.Error())
		}
		p.Chat = jid
	}
	p.Metadata, wrongMetadata = parseObject("metadata", f.Metadata, message.MaxMetadata)
	return p, errors.Join(wrongChat, wrongMetadata)
}
