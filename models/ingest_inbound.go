package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/message"
	"kurir/webhook"
	"kurir/wire"
)

// What a worker may say of a message. More than the network itself lets through, so whatever is refused is rubbish.
const (
	maxJID      = 128
	maxName     = 256     // characters; longer ones are cut
	maxMentions = 1_024   // as many as a group has members
	maxDetails  = 256_000 // bytes of JSON
)

// clean takes out what PostgreSQL can't hold and checks that the event is in bounds: what a worker sends must not cost
// more than the event.
func (p *parsed) clean() error {
	switch p.Type {
	case wire.EventMessageReceived:
		return cleanReceived(&p.received)
	case wire.EventPresence:
		d := &p.presence
		return first(jid("chat", &d.Chat), jid("sender", &d.Sender), cleanContact(&d.From), presences(d.Presence))
	case wire.EventCall:
		d := &p.call
		return first(name("callId", &d.CallID), jid("chat", &d.Chat), jid("sender", &d.Sender), cleanContact(&d.From))
	case wire.EventGroup:
		return cleanGroup(&p.group)
	}
	return nil
}

func cleanReceived(d *wire.ReceivedData) error {
	for _, s := range []*string{&d.Message, &d.Caption, &d.Filename, &d.MediaURL, &d.MediaError} {
		*s = printable(*s)
	}
	d.Filename = cut(d.Filename, message.MaxFilename)
	if err := first(name("whatsappId", &d.WhatsappID), jid("chat", &d.Chat), jid("sender", &d.Sender), cleanContact(&d.From)); err != nil {
		return err
	}
	if utf8.RuneCountInString(d.Message) > message.MaxText || utf8.RuneCountInString(d.Caption) > message.MaxText || len(d.MediaURL) > 8192 {
		return errors.New("a text is too long")
	}
	return first(cleanMedia(d.Media), cleanDetails(&d.Details))
}

var (
	sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)
	codeForm  = regexp.MustCompile(`^[a-z_]{1,64}$`)
)

func cleanMedia(m *message.Media) error {
	if m == nil {
		return nil
	}
	m.MIMEType, m.SHA256 = printable(m.MIMEType), printable(m.SHA256)
	switch {
	case uuid.Validate(m.ID) != nil:
		return errors.New("the medium has no ID")
	case m.Size < 0 || len(m.MIMEType) > 255 || m.SHA256 != "" && !sha256Hex.MatchString(m.SHA256):
		return errors.New("the medium is out of form")
	}
	return nil
}

// cleanDetails goes over the JSON, which is what is stored; no ID in it is believed.
func cleanDetails(d *message.Details) error {
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if len(text) > maxDetails {
		return fmt.Errorf("details of %d bytes", len(text))
	}
	if strings.Contains(string(text), `\u0000`) {
		if *d, err = withoutNUL(text); err != nil {
			return err
		}
	}
	if len(d.Mentions) > maxMentions {
		return fmt.Errorf("%d mentions", len(d.Mentions))
	}
	for _, ref := range []*message.Ref{d.Target, d.ReplyTo} {
		if ref == nil {
			continue
		}
		ref.MessageID = ""
		if len(ref.WhatsappID) > maxJID || len(ref.Sender) > maxJID {
			return errors.New("the name of another message is too long")
		}
	}
	if l := d.Location; l != nil && (math.Abs(l.Latitude) > 90 || math.Abs(l.Longitude) > 180) {
		return errors.New("the location is not on Earth")
	}
	return nil
}

// withoutNUL reads details without the NUL bytes in their strings.
func withoutNUL(text []byte) (d message.Details, err error) {
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return d, err
	}
	if text, err = json.Marshal(strip(tree)); err != nil {
		return d, err
	}
	return d, json.Unmarshal(text, &d)
}

func strip(v any) any {
	switch v := v.(type) {
	case string:
		return printable(v)
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = strip(v[key])
		}
	}
	return v
}

func cleanContact(c *wire.Contact) error {
	for _, s := range []**string{&c.Phone, &c.LID, &c.Name} {
		if *s == nil {
			continue
		}
		clean := printable(**s)
		if s == &c.Name {
			clean = cut(clean, maxName)
		}
		*s = optional(clean)
	}
	if c.Phone != nil && len(*c.Phone) > maxJID || c.LID != nil && len(*c.LID) > maxJID {
		return errors.New("a contact's number is too long")
	}
	return nil
}

// jid checks that something names somebody on the network.
func jid(what string, s *string) error { return name(what, s) }

func name(what string, s *string) error {
	if *s = printable(*s); *s == "" || len(*s) > maxJID {
		return fmt.Errorf("%s is empty or too long", what)
	}
	return nil
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// printable drops NUL bytes, the one thing in a text that PostgreSQL has no place for.
func printable(s string) string { return strings.ReplaceAll(s, "\x00", "") }

func cut(s string, characters int) string {
	if utf8.RuneCountInString(s) <= characters {
		return s
	}
	return string([]rune(s)[:characters])
}

func inboundMessage(p *parsed, now time.Time) *Message {
	d, s := &p.received, p.session
	at := p.Timestamp
	own := ""
	if s.PhoneNumber != nil {
		own = strings.TrimPrefix(*s.PhoneNumber, "+") + "@s.whatsapp.net"
	}
	kind := d.Type
	if kind != message.Vote && !slices.Contains(message.Types(), kind) {
		kind = message.Unknown
	}
	m := &Message{ID: InboundID(s.UID, d.Chat, d.Sender, d.WhatsappID, at, now), SessionUID: s.UID, Direction: Inbound, Chat: d.Chat,
		FromNumber: d.From.Phone, FromLID: d.From.LID, FromName: d.From.Name, FromMe: d.FromMe, ToNumber: own,
		MessageType: strings.ToUpper(kind), Content: d.Message, MediaURL: optional(d.MediaURL), Filename: optional(d.Filename), Caption: optional(d.Caption),
		Status: MessageDelivered, WhatsappID: d.WhatsappID, SentAt: &at, DeliveredAt: &now, CreatedAt: at, Trace: optional(p.Trace)}
	if d.FromMe { // written on the linked phone
		m.Direction, m.Status, m.ToNumber, m.DeliveredAt = Outbound, MessageSent, d.Chat, nil
		if m.FromNumber == nil && m.FromLID == nil {
			m.FromNumber = s.PhoneNumber
		}
	}
	if !empty(&d.Details) {
		m.Details = &d.Details
	}
	switch {
	case d.Media != nil:
		id := uuid.MustParse(d.Media.ID) // checked
		m.MediaID, m.Media = &id, d.Media
		m.Media.URL = MediaPath(id)
	case d.MediaError != "":
		code, sentence := wire.CodeMediaRefused, "The medium of this message could not be kept."
		if codeForm.MatchString(d.MediaError) {
			code = d.MediaError
		}
		if code == wire.CodeMediaGone {
			sentence = "The network no longer had the medium of this message."
		}
		m.ErrorCode, m.ErrorMessage = &code, &sentence
	}
	return m
}

func empty(d *message.Details) bool {
	text, err := json.Marshal(d)
	return err == nil && string(text) == "{}"
}

// quoted finds which messages of ours the replies among these answer. What isn't found stays without an ID.
func quoted(ctx context.Context, q Querier, list []*Message) error {
	var sessions []uuid.UUID
	var names []string
	var lowest, highest []*uuid.UUID
	var replies []*message.Ref
	for _, m := range list {
		if m.Details == nil || m.Details.ReplyTo == nil || m.Details.ReplyTo.WhatsappID == "" {
			continue
		}
		ref := m.Details.ReplyTo
		var lo, hi *uuid.UUID
		if l, h, ok := idRange(ref.WhatsappID); ok {
			lo, hi = &l, &h
		}
		sessions, names = append(sessions, m.SessionUID), append(names, ref.WhatsappID)
		lowest, highest, replies = append(lowest, lo), append(highest, hi), append(replies, ref)
	}
	if len(replies) == 0 {
		return nil
	}
	rows, err := q.Query(ctx, `SELECT w.ord, x.id::text FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[])
			WITH ORDINALITY AS w (session_uid, whatsapp_id, lowest, highest, ord)
		CROSS JOIN LATERAL (
			(SELECT m.id FROM messages m WHERE m.id >= w.lowest AND m.id <= w.highest AND m.session_uid = w.session_uid AND m.whatsapp_id = w.whatsapp_id LIMIT 1)
			UNION ALL
			(SELECT m.id FROM messages m WHERE m.seq = 0 AND m.session_uid = w.session_uid AND m.whatsapp_id = w.whatsapp_id LIMIT 1)
			LIMIT 1) x`, sessions, names, lowest, highest)
	if err != nil {
		return fmt.Errorf("find what is replied to: %w", err)
	}
	var ord int
	var id string
	_, err = pgx.ForEachRow(rows, []any{&ord, &id}, func() error {
		replies[ord-1].MessageID = id
		return nil
	})
	return err
}

// copies tells whether two messages that came in are one, with the network's time or without it, as findCopies does of those that are stored.
func (m *Message) copies(of *Message) bool {
	same := func(a, b *string) bool { return a != nil && b != nil && *a == *b }
	ofTwo := !m.FromMe && !isGroup(m.Chat) && !isGroup(of.Chat)
	return m.SessionUID == of.SessionUID && m.WhatsappID == of.WhatsappID && m.FromMe == of.FromMe && (m.Chat == of.Chat || ofTwo) &&
		(m.FromMe || same(m.FromNumber, of.FromNumber) || same(m.FromLID, of.FromLID))
}

// findCopies takes those out of g.inbound that are stored with another time. Somebody may be named by his number in one copy and by his LID
// in the other, and so may the chat with him. Who has a copy of the same message at the same time, through another worker, waits for the
// lock, and then sees the one that was stored.
func (g *ingestion) findCopies(ctx context.Context, again []*Message) error {
	if len(again) == 0 {
		return nil
	}
	n := len(again)
	locks, sessions, ids, chats := make([]string, n), make([]uuid.UUID, n), make([]string, n), make([]string, n)
	numbers, lids, own := make([]*string, n), make([]*string, n), make([]bool, n)
	for i, m := range again {
		locks[i] = "message:" + m.SessionUID.String() + m.WhatsappID
		sessions[i], ids[i], chats[i], numbers[i], lids[i], own[i] = m.SessionUID, m.WhatsappID, m.Chat, m.FromNumber, m.FromLID, m.FromMe
	}
	slices.Sort(locks)
	batch := &pgx.Batch{}
	batch.Queue(`SELECT pg_advisory_xact_lock(hashtextextended(k, 0)) FROM unnest($1::text[]) k`, locks)
	batch.Queue(`SELECT w.ord FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[])
			WITH ORDINALITY AS w (session_uid, whatsapp_id, chat, number, lid, from_me, ord)
		CROSS JOIN LATERAL (SELECT FROM messages m WHERE m.seq = 0 AND m.session_uid = w.session_uid AND m.whatsapp_id = w.whatsapp_id AND m.from_me = w.from_me
			AND (m.chat = w.chat OR NOT w.from_me AND m.chat NOT LIKE '%@g.us' AND w.chat NOT LIKE '%@g.us')
			AND (w.from_me OR m.from_number = w.number OR m.from_lid = w.lid) LIMIT 1) x`, sessions, ids, chats, numbers, lids, own).
		Query(func(rows pgx.Rows) error {
			var ord int
			_, err := pgx.ForEachRow(rows, []any{&ord}, func() error {
				delete(g.inbound, again[ord-1].ID) // known already
				return nil
			})
			return err
		})
	if err := g.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("find copies of messages: %w", err)
	}
	return nil
}

// tellReceived tells of a message that is new. One about another message takes effect on that one instead, see takeEffect.
func (g *ingestion) tellReceived(p *parsed) {
	m := p.inbound
	if m == nil || g.inbound[m.ID] != m {
		return
	}
	if kind := strings.ToLower(m.MessageType); message.About(kind) {
		g.about = append(g.about, m)
		return
	}
	g.emit(p.session, webhook.EventMessageReceived, m.Resource(p.session.ID), p.Timestamp, m.Trace)
}

// eventAbout is the event that tells of a message about another one.
var eventAbout = map[string]string{
	"EDIT": webhook.EventMessageEdited, "DELETE": webhook.EventMessageDeleted, "REACTION": webhook.EventMessageReaction,
	"VOTE": webhook.EventMessageReceived,
}

// takeEffect changes the messages that others are about. The event carries the changed message; where we don't know
// that one, and for votes, it carries the message that came in, with what it says of its target.
func (g *ingestion) takeEffect(ctx context.Context) error {
	if len(g.about) == 0 {
		return nil
	}
	var raised pgx.Batch
	g.writeRaised(&raised)
	if err := g.tx.SendBatch(ctx, &raised).Close(); err != nil { // their targets may be among what this batch raised
		return fmt.Errorf("write raised messages: %w", err)
	}
	effects, err := applyTargets(ctx, g.tx, g.about)
	if err != nil {
		return err
	}
	g.events = append(g.events, effects...)
	for _, m := range g.about {
		if g.inbound[m.ID] == m && (m.TargetID == nil || m.MessageType == "VOTE") {
			s := g.sessions[m.SessionUID.String()]
			var data any = m.Resource(s.ID)
			if m.MessageType == "REACTION" {
				data = m.reacted(m.Resource(s.ID))
			}
			g.emit(s, eventAbout[m.MessageType], data, m.CreatedAt, m.Trace)
		}
	}
	return nil
}
