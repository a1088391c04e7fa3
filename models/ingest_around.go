package models

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/webhook"
	"kurir/wire"
)

// What goes on around messages: who is there, who calls, what becomes of groups. These have no rows of their own, only
// events, and a redelivery is recognised by what its event's ID is made from: what the network knows.

// presenceIsOver is how old a presence may be: what is older tells nobody anything.
const presenceIsOver = time.Minute

const maxMembers = 1_024 // of a group

func presences(s string) error {
	switch s {
	case wire.PresenceAvailable, wire.PresenceUnavailable, wire.PresenceComposing, wire.PresenceRecording, wire.PresencePaused:
		return nil
	}
	return fmt.Errorf("presence %.20q is not known", s)
}

func cleanGroup(d *wire.GroupData) error {
	if err := first(name("changeId", &d.ChangeID), jid("group", &d.Group)); err != nil {
		return err
	}
	switch d.Action {
	case wire.GroupCreated, wire.GroupAdded, wire.GroupRemoved, wire.GroupLeft, wire.GroupPromoted, wire.GroupDemoted, wire.GroupChanged:
	default:
		return fmt.Errorf("action %.20q is not known", d.Action)
	}
	if d.Sender = printable(d.Sender); len(d.Sender) > maxJID || len(d.Members) > maxMembers {
		return fmt.Errorf("%d members", len(d.Members))
	}
	if d.By != nil {
		if err := cleanContact(d.By); err != nil {
			return err
		}
	}
	for i := range d.Members {
		if err := first(jid("member", &d.Members[i].JID), cleanContact(&d.Members[i].Contact)); err != nil {
			return err
		}
	}
	for _, s := range []*string{d.Name, d.Description} {
		if s != nil {
			*s = cut(printable(*s), maxDescription)
		}
	}
	return nil
}

const maxDescription = 4_096 // characters

// eventID is made from what the network knows of p, the same at each redelivery. It is the ID of the event that tells of p, unless
// that comes late.
func (p *parsed) eventID(now time.Time) uuid.UUID {
	network, at := p.call.CallID, p.Timestamp
	if p.Type == wire.EventGroup {
		network = p.group.ChangeID
	}
	if p.timeless() {
		at = time.Unix(0, 0)
	}
	return InboundID(p.session.UID, p.Type, p.call.Chat+p.group.Group, network, at, now)
}

// timeless reports that the network tells no time with p, so that each redelivery has another: that the session is in a group now.
func (p *parsed) timeless() bool { return p.group.Action == wire.GroupCreated }

// late reports that streams, which read events by the time in their IDs, might pass over one that is named by what the network knows.
func (p *parsed) late(now time.Time) bool {
	return p.timeless() || now.Sub(p.Timestamp).Abs() > eventSlack/2
}

// presenceKey says whose presence p tells, where.
func (p *parsed) presenceKey() string {
	return p.SessionID + "\x00" + p.presence.Chat + "\x00" + p.presence.Sender
}

// findKnown looks which calls and changes of groups were told before. Of what a person did during the batch only the last
// thing is told.
func (g *ingestion) findKnown(ctx context.Context, list []parsed) error {
	var ids, late []uuid.UUID
	g.presence = map[string]*parsed{}
	for i := range list {
		switch p := &list[i]; p.Type {
		case wire.EventCall, wire.EventGroup:
			ids = append(ids, p.eventID(g.now))
			if p.late(g.now) {
				late = append(late, p.eventID(g.now))
			}
		case wire.EventPresence:
			g.presence[p.presenceKey()] = p
		}
	}
	g.known = map[uuid.UUID]bool{}
	if len(ids) == 0 {
		return nil
	}
	if err := collectIDs(ctx, g.tx, g.known, `SELECT id FROM events WHERE id = ANY($1) UNION ALL SELECT key FROM late_events WHERE key = ANY($1)`, ids); err != nil {
		return fmt.Errorf("find known events: %w", err)
	}
	return g.noteLate(ctx, late)
}

// noteLate keeps the keys of late events that were not told before. Who gets one at the same time, through another worker, waits
// here and then knows it.
func (g *ingestion) noteLate(ctx context.Context, keys []uuid.UUID) error {
	keys = slices.DeleteFunc(keys, func(key uuid.UUID) bool { return g.known[key] })
	if len(keys) == 0 {
		return nil
	}
	mine := map[uuid.UUID]bool{}
	err := collectIDs(ctx, g.tx, mine, `INSERT INTO late_events (key) SELECT DISTINCT key FROM unnest($1::uuid[]) AS k (key) ORDER BY key
		ON CONFLICT DO NOTHING RETURNING key`, keys)
	if err != nil {
		return fmt.Errorf("note late events: %w", err)
	}
	for _, key := range keys {
		if !mine[key] {
			g.known[key] = true
		}
	}
	return nil
}

// lateEventsKept is for how long a redelivery of what came late is recognised.
const lateEventsKept = 60 * 24 * time.Hour

// DropLateEvents forgets up to limit keys of events that came late and were told long ago, and says how many.
func DropLateEvents(ctx context.Context, q Querier, now time.Time, limit int) (int, error) {
	tag, err := q.Exec(ctx, `DELETE FROM late_events WHERE key = ANY (ARRAY (SELECT key FROM late_events WHERE told_at < $1 ORDER BY told_at LIMIT $2))`,
		now.Add(-lateEventsKept), limit)
	return int(tag.RowsAffected()), err
}

// around tells of a presence, a call or a change of a group.
func (g *ingestion) around(p *parsed) {
	if p.Type == wire.EventPresence {
		if g.presence[p.presenceKey()] == p && g.now.Sub(p.Timestamp) < presenceIsOver {
			g.emit(p.session, webhook.EventPresenceUpdated, p.presenceResource(), p.Timestamp, optional(p.Trace))
		}
		return
	}
	id := p.eventID(g.now)
	if g.known[id] {
		return
	}
	g.known[id] = true
	e := Event{ID: id, Session: p.session.UID, At: p.Timestamp, Type: webhook.EventGroupUpdated, Trace: optional(p.Trace)}
	if p.late(g.now) {
		e.ID = NewID()
	}
	if p.Type == wire.EventCall {
		e.Type, e.Data = webhook.EventCallReceived, p.callResource()
		g.calls = append(g.calls, p)
	} else {
		e.Data = p.groupResource()
	}
	g.events = append(g.events, e)
}

func (p *parsed) presenceResource() webhook.Presence {
	d := &p.presence
	return webhook.Presence{Chat: d.Chat, From: contact(d.From), State: d.Presence, LastSeen: d.LastSeen}
}

func (p *parsed) callResource() webhook.Call {
	d := &p.call
	return webhook.Call{ID: d.CallID, Chat: d.Chat, From: contact(d.From), Video: d.Video, Group: strings.HasSuffix(d.Chat, "@g.us"), Rejected: d.Rejected}
}

func (p *parsed) groupResource() webhook.Group {
	d := &p.group
	r := webhook.Group{ID: d.Group, Action: d.Action, Members: make([]webhook.Contact, 0, len(d.Members)), Subject: d.Name, Description: d.Description}
	if d.By != nil {
		by := contact(*d.By)
		r.By = &by
	}
	for _, m := range d.Members {
		r.Members = append(r.Members, contact(m.Contact))
	}
	return r
}

func contact(c wire.Contact) webhook.Contact {
	return webhook.Contact{Phone: c.Phone, LID: c.LID, Name: c.Name}
}

// CallSettings are a session's choices about calls, the part "calls" of its settings.
type CallSettings struct {
	Reject  bool   `json:"reject,omitempty" doc:"Refuse every call"`
	Message string `json:"message,omitempty" maxLength:"4096" doc:"Text that whoever called gets then, once per call"`
}

// Check tells what is wrong with the choices; nil ones are fine.
func (c *CallSettings) Check() error {
	if c != nil && utf8.RuneCountInString(c.Message) > maxCallMessage {
		return fault.Field("settings.calls.message", "expected at most 4,096 characters")
	}
	return nil
}

const maxCallMessage = 4_096

// callsOf are the choices of sessions. One that makes none, or none that can be read, refuses no call.
func callsOf(ctx context.Context, q Querier, sessions []uuid.UUID) (map[uuid.UUID]CallSettings, error) {
	rows, err := q.Query(ctx, `SELECT uid, coalesce((settings->'calls'->>'reject')::boolean, false), coalesce(settings->'calls'->>'message', '')
		FROM sessions WHERE uid = ANY($1) AND jsonb_typeof(settings->'calls'->'reject') = 'boolean'`, sessions)
	if err != nil {
		return nil, err
	}
	all := map[uuid.UUID]CallSettings{}
	var uid uuid.UUID
	var c CallSettings
	_, err = pgx.ForEachRow(rows, []any{&uid, &c.Reject, &c.Message}, func() error {
		all[uid] = c
		return nil
	})
	return all, err
}

// callAnswerWithin is how long after a call its answer is worth sending.
const callAnswerWithin = time.Hour

// answerCalls accepts the text that a session has for those whose call was refused: in the call's own transaction, and
// under an ID that is made from the call's, so that each gets it once. A session whose lane is closed answers nobody.
func (g *ingestion) answerCalls(ctx context.Context) error {
	sessions := slices.Clone(g.freed)
	var callers []*parsed
	var wanting []uuid.UUID
	for _, p := range g.calls {
		if p.call.Rejected && !strings.HasSuffix(p.call.Chat, "@g.us") && g.now.Sub(p.Timestamp) < callAnswerWithin {
			callers, wanting = append(callers, p), append(wanting, p.session.UID)
		}
	}
	if len(callers) == 0 {
		return nil
	}
	settings, err := callsOf(ctx, g.tx, wanting)
	if err != nil {
		return fmt.Errorf("read what is said to callers: %w", err)
	}
	var answers []*acceptance
	for _, p := range callers {
		text := settings[p.session.UID].Message
		if text == "" {
			continue
		}
		answers = append(answers, &acceptance{message: &NewMessage{
			ID: InboundID(p.session.UID, "answer to a call", p.call.Sender, p.call.CallID, p.Timestamp, g.now), Session: p.session.UID,
			Chat: p.call.Chat, To: p.call.Chat, Type: "TEXT", Content: text, ExpiresAt: g.now.Add(callAnswerWithin), Trace: optional(p.Trace),
		}})
		sessions = append(sessions, p.session.UID)
	}
	if len(answers) == 0 {
		return nil
	}
	// All lanes of messages that this transaction will lock, in sorted order; wakeFreed locks some of them again.
	if _, err := g.tx.Exec(ctx, `SELECT id FROM lanes WHERE id = ANY($1) ORDER BY id FOR UPDATE`, sessions); err != nil {
		return fmt.Errorf("lock lanes of answers: %w", err)
	}
	stored, err := insertMessages(ctx, g.tx, answers)
	if err != nil {
		return fmt.Errorf("answer calls: %w", err)
	}
	g.out.Connected = append(g.out.Connected, stored.toWake(answers)...)
	return nil
}
