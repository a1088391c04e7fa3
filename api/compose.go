package api

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/message"
	"kurir/models"
)

// compose turns a draft into a message of a session, without an ID. Only drafts that name another message or a medium
// cost a look into the database.
func (a *API) compose(ctx context.Context, session uuid.UUID, d *message.Draft, now time.Time) (*models.NewMessage, error) {
	if problems := message.Validate(d, now); len(problems) > 0 {
		return nil, problemsFault(problems)
	}
	kind := d.Kind()
	m := &models.NewMessage{Session: session, Type: strings.ToUpper(kind), Content: d.Text(), Details: d.Details(),
		MediaURL: optional(d.MediaURL), Caption: optional(d.Caption), Filename: optional(d.Filename)}
	m.SendAt, m.ExpiresAt = d.Schedule(now, a.cfg.MessageTTL)
	if d.Priority == "high" {
		m.Priority = 1
	}
	var err error
	if m.Metadata, err = parseObject("metadata", d.Metadata, message.MaxMetadata); err != nil {
		return nil, err
	}
	if message.HasMedia(kind) {
		if err := a.attach(ctx, m, d); err != nil {
			return nil, err
		}
	}
	if d.To != "" {
		m.To, m.Chat = d.To, d.To
	}
	if message.About(kind) {
		if err := a.aim(ctx, m, d, now); err != nil {
			return nil, err
		}
	}
	if d.ReplyTo != "" {
		if err := a.answer(ctx, m, d.ReplyTo); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// attach finds a message's medium, or looks at the address where it will be fetched. What came inside of the request is in
// the store by now, where the route takes that.
func (a *API) attach(ctx context.Context, m *models.NewMessage, d *message.Draft) error {
	switch {
	case d.MediaBase64 != "":
		return fault.Field("mediaBase64", "a message of a batch can't hold its medium: upload it before, and name it in mediaId")
	case d.MediaURL != "":
		if err := a.guard.CheckURL(d.MediaURL); err != nil {
			return fault.Field("mediaUrl", err.Error())
		}
		return nil
	}
	id, err := idOf(d.MediaID, models.ErrNoMedia)
	if err != nil {
		return err
	}
	return a.use(ctx, m, id)
}

// use keeps a medium in the store for a message, if it is fit for it.
func (a *API) use(ctx context.Context, m *models.NewMessage, id uuid.UUID) error {
	medium, err := a.cfg.Media.Use(ctx, callerOf(ctx).user.ID, id)
	if err != nil {
		return stored(err)
	}
	if err := a.cfg.Media.Rules().Check(strings.ToLower(m.Type), medium.MIMEType, medium.Size); err != nil {
		return err
	}
	m.MediaID, m.Media = &medium.ID, medium.Message()
	return nil
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// problemsFault is the refusal of a draft.
func problemsFault(problems []message.Problem) error {
	f := fault.Field(problems[0].Field, problems[0].Message)
	f.Details = nil
	for _, p := range problems[:min(len(problems), maxDetails)] {
		f.Details = append(f.Details, fault.Detail{Field: short(p.Field), Message: short(p.Message)})
	}
	return f
}

// named finds the message that a client names by our ID or by WhatsApp's.
func (a *API) named(ctx context.Context, session uuid.UUID, field, name string) (*models.Message, error) {
	m, err := models.MessageNamed(ctx, a.db.Pool, session, name)
	if err := found(err, fault.Field(field, "there is no such message in this session")); err != nil {
		return nil, err
	}
	return m, nil
}

// answer makes a message a reply.
func (a *API) answer(ctx context.Context, m *models.NewMessage, name string) error {
	to, err := a.named(ctx, m.Session, "replyTo", name)
	if err != nil {
		return err
	}
	if err := a.inChat(ctx, to, m.Chat, fault.Field("replyTo", "this message is in another chat")); err != nil {
		return err
	}
	details(m).ReplyTo = models.RefTo(to)
	return nil
}

// inChat refuses a message of another chat: what one person wrote is not for another one.
func (a *API) inChat(ctx context.Context, m *models.Message, chat string, refusal error) error {
	same, err := models.SameChat(ctx, a.db.Pool, m.SessionUID, m.Chat, chat)
	switch {
	case err != nil:
		return databaseFault(err)
	case !same:
		return refusal
	}
	return nil
}

func details(m *models.NewMessage) *message.Details {
	if m.Details == nil {
		m.Details = &message.Details{}
	}
	return m.Details
}

// aim ties a reaction, edit or deletion to the message that it is about, whose chat it goes to.
func (a *API) aim(ctx context.Context, m *models.NewMessage, d *message.Draft, now time.Time) error {
	target, err := a.named(ctx, m.Session, "messageId", d.MessageID)
	if err != nil {
		return err
	}
	if m.Chat != "" {
		if err := a.inChat(ctx, target, m.Chat, fault.Field("to", "the message that this is about is in another chat")); err != nil {
			return err
		}
	}
	return about(m, target, now)
}

// Faults of what is about another message.
var (
	errNotSent      = fault.New(fault.Conflict, "not_sent", "The message has not been sent, so nothing can be said about it yet.")
	errTooLate      = fault.New(fault.Conflict, "too_late", "WhatsApp allows this only for a time after the message was sent.")
	errNotEditable  = fault.New(fault.Conflict, "not_editable", "Only text and captions that this session sent itself can be edited.")
	errNotRevocable = fault.New(fault.Conflict, "not_revocable", "Only what this session sent itself, and has not deleted yet, can be deleted for everyone.")
	errNoReaction   = fault.New(fault.Conflict, "no_reaction", "There can be no reaction to this message: it is about another one, or was deleted.")
)

// How long after a message was sent WhatsApp lets its author change it.
const (
	editWindow   = 15 * time.Minute
	revokeWindow = 60 * time.Hour
)

// about fills in a message about a target, if WhatsApp allows it. What cannot be sent while it is allowed expires.
func about(m *models.NewMessage, target *models.Message, now time.Time) error {
	own := target.Direction == models.Outbound
	kind, targetKind := strings.ToLower(m.Type), strings.ToLower(target.MessageType)
	window := time.Duration(0)
	switch {
	case kind == message.Edit && (!own || target.DeletedAt != nil || !editable(targetKind)):
		return errNotEditable
	case kind == message.Delete && (!own || target.DeletedAt != nil || targetKind == message.Edit || targetKind == message.Delete):
		return errNotRevocable
	case kind == message.Reaction && (target.DeletedAt != nil || message.About(targetKind)):
		return errNoReaction
	case own && !models.WentOut(target.Status) && !(kind == message.Delete && target.Status == models.MessageUnknown):
		return errNotSent
	case kind == message.Edit:
		window = editWindow
	case kind == message.Delete:
		window = revokeWindow
	}
	if window > 0 {
		start := m.SendAt
		if start == nil {
			start = &now
		}
		end := target.CreatedAt.Add(window)
		if target.SentAt != nil {
			end = target.SentAt.Add(window)
		}
		if !start.Before(end) {
			return errTooLate
		}
		if m.ExpiresAt.After(end) {
			m.ExpiresAt = end
		}
	}
	id := target.ID
	m.TargetID, m.Chat, m.To = &id, target.Chat, target.Chat
	details(m).Target = models.RefTo(target)
	return nil
}

// editable types are those whose text can be changed.
func editable(kind string) bool {
	return kind == message.Text || kind == message.Image || kind == message.Video || kind == message.Document
}
