package models

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/tracing"
)

// Event is something that happened, once. It is written in the transaction of the change that it tells of.
type Event struct {
	ID      uuid.UUID // zero: a new one; otherwise it must not be there yet
	Session uuid.UUID
	Type    string
	Data    any // one of webhook's data types
	At      time.Time
	Trace   *string // the span that caused it, where it is traced
}

// emit writes events and the deliveries of the webhooks that subscribed to them: the session's own and the account's. It
// follows a common table expression named ev (id, session_uid, type, data, at, trace, ord) and answers the webhooks' lanes that
// have work now. The counters are locked last, in sorted order, so that two transactions never wait for each other in a
// circle. A webhook that is switched off gets its deliveries too: its lane is closed, so they wait. Whether it is open is
// read of the row that is locked, so that none is forgotten when it opens at this moment.
const emit = `
owned AS (
	SELECT e.*, s.user_id FROM ev e CROSS JOIN LATERAL (SELECT user_id FROM sessions WHERE uid = e.session_uid LIMIT 1) s
), inserted AS (
	INSERT INTO events (id, user_id, session_uid, type, data, created_at, trace)
	SELECT id, user_id, session_uid, type, data, at, trace FROM owned
), hits AS (
	SELECT e.id, e.type, e.ord, w.id AS webhook_id FROM owned e CROSS JOIN LATERAL (
		(SELECT id FROM webhooks WHERE session_uid = e.session_uid AND events && ARRAY['*', e.type] OFFSET 0)
		UNION ALL
		(SELECT id FROM webhooks WHERE user_id = e.user_id AND session_uid IS NULL AND events && ARRAY['*', e.type] OFFSET 0)) w
), ` + deliver

// deliver is the end of emit: it follows hits (id, type, ord, webhook_id).
const deliver = `
counts AS (
	SELECT webhook_id, count(*) AS n FROM hits GROUP BY webhook_id
), locked AS (
	SELECT id FROM lanes WHERE id = ANY(ARRAY(SELECT webhook_id FROM counts)) ORDER BY id FOR UPDATE
), moved AS (
	UPDATE lanes l SET next_seq = l.next_seq + c.n,
		next_due_at = CASE WHEN l.open THEN least(coalesce(l.next_due_at, now()), now()) ELSE l.next_due_at END
	FROM locked k JOIN counts c ON c.webhook_id = k.id WHERE l.id = k.id
	RETURNING l.id, l.next_seq - c.n AS base, l.next_seq, l.open, ` + holderOf + ` AS holder, clock_timestamp() AS at
), delivered AS (
	INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence, created_at)
	SELECT h.webhook_id, h.id, h.type, m.base + row_number() OVER (PARTITION BY h.webhook_id ORDER BY h.ord) - 1, m.at
	FROM hits h JOIN moved m ON m.id = h.webhook_id
)
SELECT id, holder, next_seq FROM moved WHERE open`

// Emit writes events and their deliveries and returns the webhooks whose lanes are to be woken after the commit. What names no
// trace was caused by the request or job of ctx.
func Emit(ctx context.Context, q Batcher, events []Event) (webhooks []Woken, err error) {
	var b pgx.Batch
	if err = queueEmit(&b, causedBy(ctx, events), &webhooks); err == nil && b.Len() > 0 {
		err = q.SendBatch(ctx, &b).Close()
	}
	return webhooks, err
}

func causedBy(ctx context.Context, events []Event) []Event {
	if trace := tracing.Carried(ctx); trace != nil {
		for i := range events {
			if events[i].Trace == nil {
				events[i].Trace = trace
			}
		}
	}
	return events
}

// queueEmit is Emit as a part of a batch, and knows no ctx; the webhooks are there when the batch has run.
func queueEmit(b *pgx.Batch, events []Event, webhooks *[]Woken) error {
	if len(events) == 0 {
		return nil
	}
	statement, args, err := emitStatement(events)
	if err != nil {
		return err
	}
	b.Queue(statement, args...).Query(func(rows pgx.Rows) (err error) {
		*webhooks, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Woken])
		return err
	})
	return nil
}

func emitStatement(events []Event) (statement string, args []any, err error) {
	ids, sessions := make([]uuid.UUID, len(events)), make([]uuid.UUID, len(events))
	types, data, at := make([]string, len(events)), make([]string, len(events)), make([]time.Time, len(events))
	var traces rare[string]
	for i, e := range events {
		body, err := json.Marshal(e.Data)
		if err != nil {
			return "", nil, err
		}
		ids[i], sessions[i], types[i], data[i], at[i] = e.ID, e.Session, e.Type, string(body), e.At
		traces.set(i, e.Trace)
		if e.ID == uuid.Nil {
			ids[i] = NewID()
		}
	}
	return `WITH ev AS (SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::text[])
		WITH ORDINALITY AS t (id, session_uid, type, data, at, trace, ord)), ` + emit, []any{ids, sessions, types, data, at, traces.list}, nil
}
