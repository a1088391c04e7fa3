package models

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/message"
	"kurir/tracing"
)

// NewMessage is a message that is to be accepted. Its ID is fixed before the first attempt.
type NewMessage struct {
	ID        uuid.UUID
	Session   uuid.UUID
	Chat      string // JID
	To        string // JID
	Type      string // upper case
	Content   string
	Metadata  json.RawMessage
	SendAt    *time.Time
	ExpiresAt time.Time

	MediaURL, Filename, Caption *string
	MediaID                     *uuid.UUID
	Media                       *message.Media
	Details                     *message.Details
	TargetID                    *uuid.UUID
	Priority                    int16 // 1 high, 0 normal

	Quota  *int64 // the epoch of the count that let it in; nil: it was not counted
	Before bool   // set by the Accepter: it was stored already, by an earlier try under its ID

	Trace *string // set by the Accepter: the span of the request, where it is traced
}

// Faults of an accept.
var (
	ErrNotLinked = fault.New(fault.Conflict, "session_not_linked", "The session is not linked to a phone, or is stopped. Start it and scan its QR code first.")
	ErrGone      = fault.New(fault.NotFound, "session_not_found", "There is no such session.")
	errStopping  = fault.New(fault.Unavailable, "shutting_down", "The server is restarting. Try again.").After(time.Second)
)

// Accepter stores messages durably. Requests that come at the same time share one statement and one commit (group
// commit): while one batch commits, the next one gathers, so a request that comes alone never waits.
type Accepter struct {
	db       Querier
	log      *slog.Logger
	accepted func(lanes []Woken, batch int)
	in       chan *acceptance
	done     chan struct{} // closed when nothing more is taken
	ended    chan struct{} // closed when all that was taken is stored
	workers  sync.WaitGroup

	turn  sync.Mutex // of a writer to gather
	began time.Time  // when the last batch did
}

type acceptance struct {
	message *NewMessage
	answer  chan error
}

const (
	acceptBatch   = 256 // rows in one statement
	acceptWriters = 2   // batches that may commit side by side
	acceptQueue   = 8192
	// acceptGap lies between the beginnings of two statements, at least, so that batches grow. Who comes after that waits for nobody.
	acceptGap = 5 * time.Millisecond
)

// NewAccepter starts an Accepter. accepted is called after each commit with the lanes that have work now and are to be woken.
func NewAccepter(db Querier, log *slog.Logger, accepted func(lanes []Woken, batch int)) *Accepter {
	a := &Accepter{db: db, log: log, accepted: accepted, in: make(chan *acceptance, acceptQueue), done: make(chan struct{}), ended: make(chan struct{})}
	for range acceptWriters {
		a.workers.Go(a.write)
	}
	return a
}

// Close stores what is in hand and ends.
func (a *Accepter) Close() {
	close(a.done)
	a.workers.Wait()
	close(a.ended)
}

// Accept stores a message and returns when it is durable. An error with kind Unavailable leaves open whether it
// was stored; calling again with the same ID is safe.
func (a *Accepter) Accept(ctx context.Context, m *NewMessage) error {
	m.Trace = tracing.Carried(ctx)
	r := &acceptance{message: m, answer: make(chan error, 1)}
	select {
	case a.in <- r:
	case <-a.done:
		return errStopping
	case <-ctx.Done():
		return errStopping.WithCause(ctx.Err())
	}
	select {
	case err := <-r.answer:
		return err
	case <-a.ended: // it came into the queue when nobody was left to take it
		select {
		case err := <-r.answer:
			return err
		default:
			return errStopping
		}
	case <-ctx.Done():
		return errStopping.WithCause(ctx.Err())
	}
}

func (a *Accepter) write() {
	for {
		select {
		case r := <-a.in:
			a.store(a.gather(r), false)
		case <-a.done:
			for { // whoever got into the queue before Close is served
				select {
				case r := <-a.in:
					a.store(a.gather(r), false)
				default:
					return
				}
			}
		}
	}
}

// gather takes what waits, when it is time for another batch.
func (a *Accepter) gather(first *acceptance) []*acceptance {
	a.turn.Lock()
	defer a.turn.Unlock()
	if len(a.in) < acceptBatch {
		time.Sleep(acceptGap - time.Since(a.began))
	}
	a.began = time.Now()
	batch := []*acceptance{first}
	for len(batch) < acceptBatch {
		select {
		case r := <-a.in:
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

// store writes a batch. When it fails, each message is tried by itself under the same ID, so that one that
// PostgreSQL refuses does not take the others along, and one that was stored before the connection broke is
// found again: again says that it may have been.
func (a *Accepter) store(batch []*acceptance, again bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var stored stored
	err := retryDeadlock(func() (err error) {
		stored, err = insertMessages(ctx, a.db, batch)
		return err
	})
	if err != nil && len(batch) > 1 {
		a.log.Warn("accept: batch failed, trying one by one", "batch", len(batch), "error", err)
		for _, r := range batch {
			a.store([]*acceptance{r}, true)
		}
		return
	}
	if err != nil && !refused(err) { // once more: the connection may have been stale
		again = true
		stored, err = insertMessages(ctx, a.db, batch)
	}
	if err != nil {
		for _, r := range batch {
			r.answer <- acceptFault(err)
		}
		return
	}
	wake := stored.toWake(batch) // messages are their senders' when they are answered
	for _, r := range batch {
		if _, ok := stored[r.message.ID]; !ok {
			r.answer <- a.whyNot(ctx, r.message)
			continue
		}
		r.message.Before = r.message.Before && !again
		r.answer <- nil
	}
	a.accepted(wake, len(batch))
}

// AcceptAll stores the messages of one session, all or none, one after another in its lane, and returns when they are
// durable. Calling again with the same IDs is safe.
func (a *Accepter) AcceptAll(ctx context.Context, list []*NewMessage) error {
	batch, trace := make([]*acceptance, len(list)), tracing.Carried(ctx)
	for i, m := range list {
		m.Trace = trace
		batch[i] = &acceptance{message: m}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	stored, err := insertMessages(ctx, a.db, batch)
	if err != nil && !refused(err) { // once more: the connection may have been stale
		stored, err = insertMessages(ctx, a.db, batch)
		for _, m := range list {
			m.Before = false
		}
	}
	switch {
	case err != nil:
		return acceptFault(err)
	case len(stored) < len(list):
		return a.whyNot(ctx, list[0])
	}
	a.accepted(stored.toWake(batch), len(list))
	return nil
}

func acceptFault(err error) error {
	if refused(err) {
		return fault.New(fault.Internal, "internal", "").WithCause(err)
	}
	return fault.New(fault.Unavailable, "database_unavailable", "The message could not be stored now. Try again.").
		After(2 * time.Second).WithCause(err)
}

// stored are the messages that are in their lanes, by their IDs, and how these are to be woken.
type stored map[uuid.UUID]*Woken

// toWake lists each lane once, with its highest number.
func (s stored) toWake(batch []*acceptance) (lanes []Woken) {
	for _, r := range batch {
		w := s[r.message.ID]
		if w == nil {
			continue
		}
		w.Lane = r.message.Session
		if i := slices.IndexFunc(lanes, func(l Woken) bool { return l.Lane == w.Lane }); i < 0 {
			lanes = append(lanes, *w)
		} else if w.NextSeq > lanes[i].NextSeq {
			lanes[i] = *w
		}
	}
	return lanes
}

// An insert moves the counters of the lanes, locked in sorted order, and stores the messages with the numbers so
// taken, in one statement: a lower seq never becomes visible after a higher one. A closed lane takes nothing, nor one that
// goes by another count than the one that let the message in. A message that is stored already under its ID is left as
// it is; the numbers that were taken for it are a gap.
const (
	insertBegin = `
WITH input AS (
	SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::timestamptz[], $10::bigint[], $11::text[]`
	insertLanes = `
), counts AS (
	SELECT session_uid, count(*) AS n, min(coalesce(send_at, now())) AS due FROM input GROUP BY session_uid
), locked AS (
	SELECT l.id FROM lanes l JOIN counts c ON c.session_uid = l.id WHERE l.open ORDER BY l.id FOR UPDATE OF l
), moved AS (
	UPDATE lanes l SET next_seq = l.next_seq + c.n, next_due_at = least(coalesce(l.next_due_at, c.due), c.due)
	FROM locked k JOIN counts c ON c.session_uid = k.id WHERE l.id = k.id
	RETURNING l.id, l.next_seq - c.n AS base, l.quota_epoch, ` + holderOf + ` AS holder
)
INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, content, status, whatsapp_id,
		send_at, expires_at, trace`
	insertValues = `)
SELECT f.id, f.session_uid, 'OUTBOUND', m.base + row_number() OVER (PARTITION BY f.session_uid ORDER BY f.ord) - 1,
		f.chat, f.to_number, f.message_type, f.content, 'PENDING', f.whatsapp_id, f.send_at, f.expires_at, f.trace`
	insertEnd = `
FROM input f JOIN moved m ON m.id = f.session_uid
WHERE f.quota IS NULL OR m.quota_epoch IS NULL OR f.quota = m.quota_epoch
ON CONFLICT DO NOTHING
RETURNING id, seq + 1, (SELECT m.holder FROM moved m WHERE m.id = messages.session_uid)`

	// insertTexts is for batches in which no message has more than its text, which is most.
	insertTexts = insertBegin + `)
	WITH ORDINALITY AS t (id, session_uid, chat, to_number, message_type, content, whatsapp_id, send_at, expires_at, quota, trace, ord)` + insertLanes + insertValues + insertEnd

	insertAll = insertBegin + `, $12::jsonb[],
		$13::text[], $14::text[], $15::text[], $16::uuid[], $17::jsonb[], $18::jsonb[], $19::uuid[], $20::smallint[])
	WITH ORDINALITY AS t (id, session_uid, chat, to_number, message_type, content, whatsapp_id, send_at, expires_at, quota, trace, metadata,
		media_url, filename, caption, media_id, media, details, target_id, priority, ord)` + insertLanes +
		`, metadata, media_url, filename, caption, media_id, media, details, target_id, priority` + insertValues + `, f.metadata,
		f.media_url, f.filename, f.caption, f.media_id, f.media, f.details, f.target_id, coalesce(f.priority, 0)` + insertEnd
)

func insertMessages(ctx context.Context, db Querier, batch []*acceptance) (stored, error) {
	ids, args, err := columnsOf(batch)
	if err != nil {
		return nil, err
	}
	query := insertAll
	if len(args) == textArgs {
		query = insertTexts
	}
	n := len(batch)
	fresh := make(stored, n)
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	var id uuid.UUID
	var w Woken
	if _, err := pgx.ForEachRow(rows, []any{&id, &w.NextSeq, &w.Holder}, func() error {
		woken := w
		fresh[id] = &woken
		return nil
	}); err != nil {
		return nil, err
	}
	if len(fresh) == n {
		return fresh, nil
	}
	// Some lane is closed or goes by another count, or some message was stored before.
	known := make(map[uuid.UUID]bool, n)
	if err := collectIDs(ctx, db, known, `SELECT id FROM messages WHERE id = ANY($1)`, ids); err != nil {
		return nil, err
	}
	for _, r := range batch {
		_, isFresh := fresh[r.message.ID]
		if r.message.Before = known[r.message.ID] && !isFresh; r.message.Before {
			fresh[r.message.ID] = &Woken{} // whether it was woken then is not known
		}
	}
	return fresh, nil
}

// textArgs is how many arguments insertTexts has.
const textArgs = 11

// columnsOf turns a batch into the arguments of insertTexts, or of insertAll if that is needed. An array that is shorter than the others counts as null to its
// end, so what none of the batch has costs nothing.
func columnsOf(batch []*acceptance) (ids []uuid.UUID, args []any, err error) {
	n := len(batch)
	ids, sessions := make([]uuid.UUID, n), make([]uuid.UUID, n)
	chats, to, types, contents, whatsapp := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	sendAt, expiresAt := make([]*time.Time, n), make([]time.Time, n)
	var mediaURLs, filenames, captions rare[string]
	var metadata, media, details rareJSON
	var mediaIDs, targets rare[uuid.UUID]
	var priorities rare[int16]
	var quotas rare[int64]
	var traces rare[string]
	for i, r := range batch {
		m := r.message
		ids[i], sessions[i], chats[i], to[i], types[i], contents[i] = m.ID, m.Session, m.Chat, m.To, m.Type, m.Content
		whatsapp[i], sendAt[i], expiresAt[i] = WhatsappID(m.ID), m.SendAt, m.ExpiresAt
		quotas.set(i, m.Quota)
		traces.set(i, m.Trace)
		mediaURLs.set(i, m.MediaURL)
		filenames.set(i, m.Filename)
		captions.set(i, m.Caption)
		mediaIDs.set(i, m.MediaID)
		targets.set(i, m.TargetID)
		if m.Priority != 0 {
			priorities.set(i, &m.Priority)
		}
		if m.Metadata != nil {
			text := string(m.Metadata)
			metadata.set(i, &text)
		}
		if m.Media != nil {
			media.setJSON(i, m.Media, &err)
		}
		if m.Details != nil {
			details.setJSON(i, m.Details, &err)
		}
	}
	args = []any{ids, sessions, chats, to, types, contents, whatsapp, sendAt, expiresAt, quotas.list, traces.list}
	if metadata.list == nil && mediaURLs.list == nil && filenames.list == nil && captions.list == nil && mediaIDs.list == nil && media.list == nil &&
		details.list == nil && targets.list == nil && priorities.list == nil {
		return ids, args, err
	}
	return ids, append(args, metadata.list, mediaURLs.list, filenames.list, captions.list, mediaIDs.list, media.list, details.list, targets.list, priorities.list), err
}

// rare is a column that most batches don't need: it is as long as its last value's place.
type rare[T any] struct{ list []*T }

func (r *rare[T]) set(i int, v *T) {
	if v == nil {
		return
	}
	r.list = append(r.list, make([]*T, i+1-len(r.list))...)
	r.list[i] = v
}

// rareJSON is such a column of JSON.
type rareJSON struct{ rare[string] }

func (r *rareJSON) setJSON(i int, v any, failed *error) {
	raw, err := json.Marshal(v)
	if err != nil {
		*failed = err
		return
	}
	text := string(raw)
	r.set(i, &text)
}

func collectIDs(ctx context.Context, db Querier, into map[uuid.UUID]bool, query string, args ...any) error {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	for _, id := range list {
		into[id] = true
	}
	return err
}

// whyNot tells why a lane took no message: the session is gone, or not linked, or the message has to be counted again. A lane that is open
// by now went by another count then, whatever it goes by now, or has just been opened: trying again is right for both.
func (a *Accepter) whyNot(ctx context.Context, m *NewMessage) error {
	var alive, moved bool
	err := a.db.QueryRow(ctx, `SELECT s.deleted_at IS NULL, coalesce(l.open AND $2::bigint IS NOT NULL, false)
		FROM sessions s LEFT JOIN lanes l ON l.id = s.uid WHERE s.uid = $1`, m.Session, m.Quota).Scan(&alive, &moved)
	switch ok, err := Found(err); {
	case err != nil:
		return acceptFault(err)
	case !ok || !alive:
		return ErrGone
	case moved:
		return ErrQuotaMoved
	}
	return ErrNotLinked
}
