package models

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Streams read events in an order in which nothing ever appears behind a reader. IDs cannot give it: many processes make
// them, before they commit, so a lower one may become visible after a higher one, and a reader that asks for "id > last"
// would pass over it. Therefore each event remembers its transaction (xid), and readers take only what is below the
// horizon: the oldest transaction that is still running. All below it has ended, so no row will come there any more, and the
// order (xid, id) is final.
//
// The price: a transaction that stays open holds back the events of those that began after it, until it ends. Kurir's own end
// within seconds, and at the latest by the time-outs that Open sets; others on the same PostgreSQL server can take longer.

// EventPlace is a place in the order of events: behind the event that it names.
type EventPlace struct {
	Xact uint64
	ID   uuid.UUID
}

// Before reports whether the place comes before another one.
func (p EventPlace) Before(o EventPlace) bool {
	return p.Xact < o.Xact || p.Xact == o.Xact && bytes.Compare(p.ID[:], o.ID[:]) < 0
}

// StreamEvent is an event as streams read it.
type StreamEvent struct {
	EventPlace
	User      uuid.UUID
	Session   *uuid.UUID
	SessionID *string         // public name
	Metadata  json.RawMessage // the session's, as it is now
	Type      string
	Data      json.RawMessage
	At        time.Time
}

// eventSlack is how far an event's ID may be off from the time at which it became visible: by the length of a transaction and
// by wrong clocks. It lets a read pass over the partitions of other months.
const eventSlack = 24 * time.Hour

// IDFrom is the lowest ID of an instant.
func IDFrom(at time.Time) (id uuid.UUID) {
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

// EventHorizon is the lowest transaction that may still write events.
func EventHorizon(ctx context.Context, q Querier) (xact uint64, err error) {
	err = q.QueryRow(ctx, `SELECT pg_snapshot_xmin(pg_current_snapshot())`).Scan(&xact)
	return xact, err
}

const streamColumns = `e.xid, e.id, e.user_id, e.session_uid, s.id, s.metadata, e.type, e.data, e.created_at`

func scanStreamEvents(rows pgx.Rows, err error) ([]StreamEvent, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e StreamEvent, err error) {
		err = row.Scan(&e.Xact, &e.ID, &e.User, &e.Session, &e.SessionID, &e.Metadata, &e.Type, &e.Data, &e.At)
		return e, err
	})
}

// EventsOfUsers reads, in order, the events of any of the users behind a place and below a horizon, for a reader who
// was there moments ago.
func EventsOfUsers(ctx context.Context, q Querier, users []uuid.UUID, after EventPlace, below uint64, now time.Time, limit int) ([]StreamEvent, error) {
	return scanStreamEvents(q.Query(ctx, `SELECT `+streamColumns+` FROM unnest($1::uuid[]) AS u (id)
		CROSS JOIN LATERAL (SELECT * FROM events e WHERE e.user_id = u.id AND (e.xid, e.id) > ($2::xid8, $3::uuid) AND e.xid < $4::xid8
			AND e.id >= $5::uuid AND e.id < $6::uuid ORDER BY e.xid, e.id LIMIT $7) e
		LEFT JOIN sessions s ON s.uid = e.session_uid ORDER BY e.xid, e.id LIMIT $7`,
		users, after.Xact, after.ID, below, IDFrom(now.Add(-eventSlack)), IDFrom(now.Add(eventSlack)), limit))
}

// EventSource is whose events a stream shows: a user's, or one session's of the user.
type EventSource struct {
	User    uuid.UUID
	Session *uuid.UUID
}

// index is the column, each with an index in the order of streams, by which the source's events are found, and its value.
func (s EventSource) index() (column string, value uuid.UUID) {
	if s.Session != nil {
		return "session_uid", *s.Session
	}
	return "user_id", s.User
}

// EventsBetween reads, in order, the events of a source behind one place and up to another. Where types are named, those of
// others come without data.
func EventsBetween(ctx context.Context, q Querier, of EventSource, after, upTo EventPlace, types []string, limit int) ([]StreamEvent, error) {
	column, value := of.index()
	return scanStreamEvents(q.Query(ctx, `SELECT `+streamColumns+` FROM (
			SELECT e.xid, e.id, e.user_id, e.session_uid, e.type, e.created_at,
				CASE WHEN coalesce(cardinality($7::text[]), 0) = 0 OR e.type = ANY($7) THEN e.data ELSE 'null' END AS data
			FROM events e WHERE e.`+column+` = $1 AND (e.xid, e.id) > ($2::xid8, $3::uuid) AND (e.xid, e.id) <= ($4::xid8, $5::uuid)
				AND e.id >= $6::uuid
			ORDER BY e.xid, e.id LIMIT $8) e
		LEFT JOIN sessions s ON s.uid = e.session_uid ORDER BY e.xid, e.id`,
		value, after.Xact, after.ID, upTo.Xact, upTo.ID, earliest(after), types, limit))
}

// earliest is the lowest ID that can stand behind a place.
func earliest(after EventPlace) uuid.UUID {
	if after.ID == uuid.Nil {
		return uuid.Nil
	}
	var ms int64
	for _, b := range after.ID[:6] {
		ms = ms<<8 | int64(b)
	}
	return IDFrom(time.UnixMilli(ms).Add(-eventSlack))
}

// PlaceOf finds the place of an event of the source; ok is false if there is no such event, or no more, or if it stems from
// another server, of which this one is a restored copy: there is no telling what came after it. An event that a
// webhook brought may still be above the horizon: what may yet appear before it is then to be read too.
func PlaceOf(ctx context.Context, q Querier, of EventSource, id uuid.UUID, horizon uint64) (p EventPlace, ok bool, err error) {
	p.ID = id
	column, value := of.index()
	ok, err = Found(q.QueryRow(ctx, `SELECT xid FROM events WHERE id = $1 AND `+column+` = $2 AND xid < pg_snapshot_xmax(pg_current_snapshot())`,
		id, value).Scan(&p.Xact))
	if p.Xact >= horizon {
		p = EventPlace{Xact: horizon}
	}
	return p, ok, err
}

// LastEvent is the last event of a source up to a place, uuid.Nil if there is none.
func LastEvent(ctx context.Context, q Querier, of EventSource, upTo EventPlace) (id uuid.UUID, err error) {
	column, value := of.index()
	_, err = Found(q.QueryRow(ctx, `SELECT id FROM events WHERE `+column+` = $1 AND (xid, id) <= ($2::xid8, $3::uuid)
		ORDER BY xid DESC, id DESC LIMIT 1`, value, upTo.Xact, upTo.ID).Scan(&id))
	return id, err
}
