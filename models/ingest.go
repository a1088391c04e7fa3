package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/message"
	"kurir/wire"
)

// ErrStaleTerm refuses a worker whose term is over.
var ErrStaleTerm = fault.New(fault.Conflict, wire.CodeStaleTerm, "Another term of this worker is current. Register again.")

// Ingested is what a batch of worker events led to.
type Ingested struct {
	Next      int64       // the seq that the gateway expects next: everything below is stored
	Connected []Woken     // sessions that are connected now, or whose doubt a receipt has ended: their lanes may have waited for it
	Webhooks  []Woken     // webhooks with something to deliver
	Linked    []uuid.UUID // users whose sessions changed in what they may do
	Sent      []time.Duration
	Told      map[string]int // events that it led to, by type
}

func (in *Ingested) tell(event string, n int) {
	if in.Told == nil {
		in.Told = map[string]int{}
	}
	in.Told[event] += n
}

// IngestEvents stores what a worker reports. The row of the worker's stream is locked, so that batches of one worker follow one
// another, and the batch must begin at the seq that is expected, or below: what is known already is passed over. If
// PostgreSQL refuses something in the batch, each event is stored by itself, and the one that can't be is logged and
// counts as stored: the network must not redeliver it forever.
func IngestEvents(ctx context.Context, db *DB, log *slog.Logger, worker string, batch wire.EventBatch) (*Ingested, error) {
	in, err := ingest(ctx, db, log, worker, batch, false)
	if errors.Is(err, ErrStaleTerm) {
		return nil, WhyNotCurrent(ctx, db, worker)
	}
	if err == nil || !refused(err) {
		return in, err
	}
	log.Warn("ingest: batch refused, storing event by event", "worker", worker, "events", len(batch.Events), "error", err)
	all := &Ingested{}
	for _, e := range batch.Events {
		one := wire.EventBatch{Term: batch.Term, Events: []wire.Event{e}}
		in, err := ingest(ctx, db, log, worker, one, false)
		if err != nil && refused(err) {
			log.Error("ingest: event cannot be stored, dropped", "worker", worker, "session", e.SessionID, "type", e.Type, "event", e.EventID, "error", err)
			in, err = ingest(ctx, db, log, worker, one, true)
		}
		if err != nil {
			return nil, err
		}
		all.Next = in.Next
		all.Connected = append(all.Connected, in.Connected...)
		all.Webhooks = append(all.Webhooks, in.Webhooks...)
		all.Sent = append(all.Sent, in.Sent...)
		for event, n := range in.Told {
			all.tell(event, n)
		}
	}
	return all, nil
}

// ingest stores one batch in one transaction; drop only acknowledges it.
func ingest(ctx context.Context, db *DB, log *slog.Logger, worker string, batch wire.EventBatch, drop bool) (*Ingested, error) {
	var in *Ingested
	err := db.InPgxTxLast(ctx, func(tx pgx.Tx, last *pgx.Batch) error {
		in = &Ingested{}
		var term int64
		err := tx.QueryRow(ctx, `SELECT CASE WHEN w.term = e.term THEN e.term ELSE 0 END, e.next_seq FROM worker_streams e JOIN workers w ON w.id = e.worker_id
			WHERE e.worker_id = $1 FOR NO KEY UPDATE OF e`, worker).Scan(&term, &in.Next)
		if ok, err := Found(err); err != nil {
			return fmt.Errorf("lock worker %s: %w", worker, err)
		} else if !ok || term != batch.Term {
			return ErrStaleTerm
		}
		events := batch.Events
		for len(events) > 0 && events[0].Seq < in.Next {
			events = events[1:]
		}
		for i := range events {
			if events[i].Seq != in.Next+int64(i) {
				events = events[:i] // a gap: the answer says what is expected
				break
			}
		}
		if len(events) == 0 {
			return nil
		}
		if !drop {
			if err := newIngest(tx, log, worker, term, in, last).store(ctx, events); err != nil {
				return err
			}
		}
		in.Next += int64(len(events))
		last.Queue(`UPDATE worker_streams SET next_seq = $2 WHERE worker_id = $1`, worker, in.Next)
		return nil
	})
	return in, err
}

// ingestion is one batch on its way into the tables.
type ingestion struct {
	tx       pgx.Tx
	log      *slog.Logger
	worker   string
	term     int64
	now      time.Time
	out      *Ingested
	last     *pgx.Batch // what is written at the end, in the round trip of the commit: others wait for the locks
	sessions map[string]*Session
	messages map[string]*Message // outbound ones that a receipt names, by session uid and WhatsApp ID
	inbound  map[uuid.UUID]*Message
	raised   []*Message
	about    []*Message         // facts about other messages, in order, that have yet to take effect
	known    map[uuid.UUID]bool // events around messages that were told before
	presence map[string]*parsed // the last of each person
	calls    []*parsed          // new calls
	freed    []uuid.UUID        // sessions of messages that were backing off until a receipt came, or may go since somebody wrote
	events   []Event
}

func newIngest(tx pgx.Tx, log *slog.Logger, worker string, term int64, out *Ingested, last *pgx.Batch) *ingestion {
	return &ingestion{tx: tx, log: log, worker: worker, term: term, now: time.Now(), out: out, last: last}
}

// flush writes at once what was to be written at the end, for who has to see it.
func (g *ingestion) flush(ctx context.Context) error {
	if g.last.Len() == 0 {
		return nil
	}
	now := *g.last
	*g.last = pgx.Batch{}
	return g.tx.SendBatch(ctx, &now).Close()
}

// parsed is an event with its data decoded.
type parsed struct {
	wire.Event
	session  *Session
	status   wire.StatusData
	qr       wire.QRData
	receipt  wire.ReceiptData
	received wire.ReceivedData
	inbound  *Message
	presence wire.PresenceData
	call     wire.CallData
	group    wire.GroupData
}

// store reads all rows that the batch names, then walks it in order, so that events come out as they came in, then
// has all rows written back with the last batch of statements.
func (g *ingestion) store(ctx context.Context, events []wire.Event) error {
	list, err := g.parse(ctx, events)
	if err != nil {
		return err
	}
	if err := g.lockReceipted(ctx, list); err != nil {
		return err
	}
	if err := g.insertInbound(ctx, list); err != nil {
		return err
	}
	if err := g.findKnown(ctx, list); err != nil {
		return err
	}
	for i := range list {
		switch p := &list[i]; p.Type {
		case wire.EventSessionStatus, wire.EventSessionQR:
			err = g.sessionEvent(ctx, p)
		case wire.EventMessageReceipt:
			g.raise(p)
		case wire.EventMessageReceived:
			g.tellReceived(p)
		case wire.EventPresence, wire.EventCall, wire.EventGroup:
			g.around(p)
		}
		if err != nil {
			return err
		}
	}
	if err := g.takeEffect(ctx); err != nil {
		return err
	}
	g.writeRaised(g.last)
	if err := g.answerCalls(ctx); err != nil {
		return err
	}
	g.wakeFreed(g.last)
	for i := range g.events {
		g.out.tell(g.events[i].Type, 1)
	}
	return queueEmit(g.last, g.events, &g.out.Webhooks)
}

// emit tells of something. trace is the span that caused it; of what became of a message, the message's own.
func (g *ingestion) emit(s *Session, event string, data any, at time.Time, trace *string) {
	g.events = append(g.events, Event{Session: s.UID, Type: event, Data: data, At: at, Trace: trace})
}

// parse decodes the batch and finds its sessions; those with session events are locked, in sorted order. An event
// of an unknown or deleted session, or of an unknown type, is logged and left out.
func (g *ingestion) parse(ctx context.Context, events []wire.Event) ([]parsed, error) {
	var all, changing []string
	for _, e := range events {
		all = append(all, e.SessionID)
		if strings.HasPrefix(e.Type, "session.") {
			changing = append(changing, e.SessionID)
		}
	}
	if err := g.readSessions(ctx, all, changing); err != nil {
		return nil, err
	}
	list := make([]parsed, 0, len(events))
	for _, e := range events {
		p := parsed{Event: e, session: g.sessions[e.SessionID]}
		var into any
		switch e.Type {
		case wire.EventSessionStatus:
			into = &p.status
		case wire.EventSessionQR:
			into = &p.qr
		case wire.EventMessageReceipt:
			into = &p.receipt
		case wire.EventMessageReceived:
			into = &p.received
		case wire.EventPresence:
			into = &p.presence
		case wire.EventCall:
			into = &p.call
		case wire.EventGroup:
			into = &p.group
		}
		var err error
		switch {
		case p.session == nil || p.session.DeletedAt != nil:
			err = errors.New("no such session")
		case into == nil:
			err = errors.New("unknown type")
		default:
			if err = json.Unmarshal(e.Data, into); err == nil {
				err = p.clean()
			}
		}
		if err != nil {
			g.log.Warn("ingest: event left out", "worker", g.worker, "session", e.SessionID, "type", e.Type, "event", e.EventID, "error", err)
			continue
		}
		list = append(list, p)
	}
	return list, nil
}

func (g *ingestion) readSessions(ctx context.Context, all, changing []string) error {
	g.sessions = make(map[string]*Session)
	read := func(uids []string, lock string) error {
		rows, err := g.tx.Query(ctx, `SELECT uid, id, user_id, coalesce(worker_id, ''), phone_number, linked_at, status, reason, epoch, desired, deleted_at, cooldown_reason
			FROM sessions WHERE uid = ANY($1::text[]::uuid[]) ORDER BY uid`+lock, validUUIDs(uids))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			s := &Session{WorkerID: new(string)}
			if err := rows.Scan(&s.UID, &s.ID, &s.UserID, s.WorkerID, &s.PhoneNumber, &s.LinkedAt, &s.Status, &s.Reason, &s.Epoch, &s.Desired, &s.DeletedAt, &s.CooldownReason); err != nil {
				return err
			}
			g.sessions[s.UID.String()] = s
		}
		return rows.Err()
	}
	if err := read(all, ""); err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	if len(changing) > 0 {
		if err := read(changing, " FOR NO KEY UPDATE"); err != nil {
			return fmt.Errorf("lock sessions: %w", err)
		}
	}
	return nil
}

func validUUIDs(list []string) []string {
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(s string) bool { return uuid.Validate(s) != nil })
}

// lockReceipted reads the messages that receipts name, locked in the order of their IDs. A WhatsApp ID that is not one
// of ours, or whose message is gone, is simply not found.
func (g *ingestion) lockReceipted(ctx context.Context, list []parsed) error {
	var lowest, highest, sessions []uuid.UUID
	var ids []string
	for i := range list {
		if list[i].Type != wire.EventMessageReceipt {
			continue
		}
		if lo, hi, ok := idRange(list[i].receipt.WhatsappID); ok {
			lowest, highest = append(lowest, lo), append(highest, hi)
			sessions, ids = append(sessions, list[i].session.UID), append(ids, list[i].receipt.WhatsappID)
		}
	}
	g.messages = make(map[string]*Message, len(ids))
	if len(ids) == 0 {
		return nil
	}
	rows, err := g.tx.Query(ctx, `WITH found AS (
			SELECT DISTINCT x.id FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]) AS r (lowest, highest, session_uid, whatsapp_id)
			CROSS JOIN LATERAL (SELECT m.id FROM messages m WHERE m.id >= r.lowest AND m.id <= r.highest AND m.id BETWEEN $5 AND $6
				AND m.session_uid = r.session_uid AND m.whatsapp_id = r.whatsapp_id LIMIT 1) x)
		SELECT m.* FROM (SELECT id FROM found ORDER BY id) f
			CROSS JOIN LATERAL (SELECT `+messageColumns+` FROM messages m WHERE m.id = f.id AND m.id BETWEEN $5 AND $6 FOR NO KEY UPDATE) m`,
		lowest, highest, sessions, ids, slices.MinFunc(lowest, compareIDs), slices.MaxFunc(highest, compareIDs))
	if err != nil {
		return fmt.Errorf("lock messages: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		m := new(Message)
		if err := rows.Scan(scanMessage(m)...); err != nil {
			return fmt.Errorf("lock messages: %w", err)
		}
		g.messages[m.SessionUID.String()+m.WhatsappID] = m
	}
	return rows.Err()
}

// raise lifts a message to the status of a receipt, with an event for every rank passed.
func (g *ingestion) raise(p *parsed) {
	m := g.messages[p.session.UID.String()+p.receipt.WhatsappID]
	if m == nil || m.Direction != Outbound {
		return
	}
	from, to := rank(m.Status), rank(receiptStatus(p.receipt.Status))
	if to <= from {
		return
	}
	if from == 0 && message.About(strings.ToLower(m.MessageType)) {
		g.about = append(g.about, m)
	}
	if m.NextAttemptAt != nil {
		g.freed = append(g.freed, m.SessionUID)
	}
	if m.SentAt == nil {
		g.out.Sent = append(g.out.Sent, g.now.Sub(m.DueSince()))
	}
	for _, step := range []struct {
		status string
		at     **time.Time
	}{{MessageSent, &m.SentAt}, {MessageDelivered, &m.DeliveredAt}, {MessageRead, &m.ReadAt}} {
		if r := rank(step.status); r <= from || r > to {
			continue
		}
		if *step.at == nil {
			at := p.Timestamp
			*step.at = &at
		}
		m.Status, m.ErrorCode, m.ErrorMessage, m.NextAttemptAt, m.FinishedAt = step.status, nil, nil, nil, nil
		g.emit(p.session, eventOf[step.status], m.Resource(p.session.ID), p.Timestamp, m.Trace)
	}
	g.raised = append(g.raised, m)
}

// receiptStatus is the status that a receipt raises to: who has listened to a voice note has read it.
func receiptStatus(status string) string {
	if status == wire.StatusPlayed {
		return MessageRead
	}
	return strings.ToUpper(status)
}

// writeRaised adds the writing back of raised messages to a batch.
func (g *ingestion) writeRaised(b *pgx.Batch) {
	if len(g.raised) == 0 {
		return
	}
	byID := make(map[uuid.UUID]*Message, len(g.raised))
	for _, m := range g.raised {
		byID[m.ID] = m
	}
	var ids []uuid.UUID
	var status []string
	var sent, delivered, read []*time.Time
	for id, m := range byID {
		ids, status = append(ids, id), append(status, m.Status)
		sent, delivered, read = append(sent, m.SentAt), append(delivered, m.DeliveredAt), append(read, m.ReadAt)
	}
	b.Queue(`UPDATE messages m SET status = r.status, sent_at = r.sent_at, delivered_at = r.delivered_at, read_at = r.read_at,
			error_code = NULL, error_message = NULL, next_attempt_at = NULL, waiting_for = NULL, finished_at = NULL, updated_at = now()
		FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[]) AS r (id, status, sent_at, delivered_at, read_at)
		WHERE m.id = ANY(ARRAY[r.id])`, ids, status, sent, delivered, read)
}

// wakeFreed makes lanes due at once whose next due time was that of a message which a receipt has settled: its chat
// waits no longer.
func (g *ingestion) wakeFreed(b *pgx.Batch) {
	if len(g.freed) == 0 {
		return
	}
	b.Queue(`UPDATE lanes l SET next_due_at = least(l.next_due_at, now())
		FROM (SELECT id FROM lanes WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE) locked WHERE l.id = locked.id`, g.freed)
	g.out.Connected = append(g.out.Connected, Unheld(g.freed...)...)
}

// insertInbound stores messages that came in. Their IDs are made from what the network knows, so that a
// redelivery finds itself stored and tells nobody again. What the network may tell with another time is looked for besides.
func (g *ingestion) insertInbound(ctx context.Context, list []parsed) error {
	g.inbound = make(map[uuid.UUID]*Message)
	var rows, again []*Message
	for i := range list {
		p := &list[i]
		if p.Type != wire.EventMessageReceived {
			continue
		}
		m := inboundMessage(p, g.now)
		p.inbound = m
		if g.inbound[m.ID] != nil || p.received.Again && slices.ContainsFunc(rows, m.copies) {
			continue
		}
		g.inbound[m.ID] = m
		rows = append(rows, m)
		if p.received.Again {
			again = append(again, m)
		}
	}
	if err := g.findCopies(ctx, again); err != nil {
		return err
	}
	rows = slices.DeleteFunc(rows, func(m *Message) bool { return g.inbound[m.ID] == nil })
	if len(rows) == 0 {
		return nil
	}
	if err := quoted(ctx, g.tx, rows); err != nil {
		return err
	}
	slices.SortFunc(rows, func(a, b *Message) int { return strings.Compare(string(a.ID[:]), string(b.ID[:])) })
	batch := &pgx.Batch{}
	for _, m := range rows {
		batch.Queue(`INSERT INTO messages (id, session_uid, direction, chat, from_number, from_lid, from_name, from_me, to_number,
				message_type, content, media_url, filename, caption, status, whatsapp_id, sent_at, delivered_at, created_at,
				media_id, media, details, error_code, error_message)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $17, $19, $20, $21, $22, $23)
			ON CONFLICT DO NOTHING`,
			m.ID, m.SessionUID, m.Direction, m.Chat, m.FromNumber, m.FromLID, m.FromName, m.FromMe, m.ToNumber,
			m.MessageType, m.Content, m.MediaURL, m.Filename, m.Caption, m.Status, m.WhatsappID, m.SentAt, m.DeliveredAt,
			m.MediaID, m.Media, m.Details, m.ErrorCode, m.ErrorMessage).
			Exec(func(tag pgconnTag) error {
				if tag.RowsAffected() == 0 {
					delete(g.inbound, m.ID) // known already
				}
				return nil
			})
	}
	if err := g.tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("insert inbound messages: %w", err)
	}
	return g.hear(ctx, rows)
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
