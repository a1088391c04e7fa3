package models

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// MessageFilter chooses messages of a session's history. Empty fields don't restrict. Since and Until are about the ID's
// time, which is that of the accept or, for inbound ones, the network's.
type MessageFilter struct {
	Direction    string
	Statuses     []string
	Types        []string
	Chat         string
	Since, Until time.Time
	Query        string    // words to look for, as websearch_to_tsquery reads them
	Before       uuid.UUID // cursor: IDs below it
	Limit        int
}

// HistoryPage is a part of a history, newest first. It may be short, or empty, though more follows: a page reads a bounded
// number of rows.
type HistoryPage struct {
	Messages []Message
	Next     uuid.UUID // the cursor of the page that follows; zero: that was all
}

// historyScan bounds the rows that a page reads to find those that a filter lets through.
const historyScan = 10_000

// endedStatuses are those of the index messages_ended.
var endedStatuses = []string{MessageFailed, MessageUnknown, MessageCancelled, MessageExpired}

// History reads a page of a session's messages.
func History(ctx context.Context, q Querier, session uuid.UUID, f MessageFilter) (*HistoryPage, error) {
	lo, hi := f.bounds()
	if f.Query != "" {
		return search(ctx, q, session, f, lo, hi)
	}
	return walk(ctx, q, session, f, lo, hi, "")
}

// bounds is the range of IDs, the upper one exclusive.
func (f *MessageFilter) bounds() (lo, hi uuid.UUID) {
	hi = uuid.Max
	if !f.Since.IsZero() {
		lo = lowestID(f.Since)
	}
	if !f.Until.IsZero() {
		hi = lowestID(f.Until)
	}
	if f.Before != uuid.Nil && before(f.Before, hi) {
		hi = f.Before
	}
	return lo, hi
}

// lowestID is the lowest version 7 UUID of an instant, as kurir_uuid_from has it.
func lowestID(at time.Time) (id uuid.UUID) {
	ms := uint64(min(max(at.UnixMilli(), 0), math.MaxInt64>>15)) // 48 bits
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

func before(a, b uuid.UUID) bool { return compareIDs(a, b) < 0 }

// statement gathers parameters as its text is written.
type statement struct{ args []any }

func (s *statement) arg(v any) string {
	s.args = append(s.args, v)
	return fmt.Sprintf("$%d", len(s.args))
}

// conditions are those that no index answers.
func (f *MessageFilter) conditions(s *statement) string {
	var b strings.Builder
	if f.Direction != "" {
		b.WriteString(" AND m.direction = " + s.arg(f.Direction))
	}
	if len(f.Statuses) > 0 {
		b.WriteString(" AND m.status = ANY(" + s.arg(f.Statuses) + ")")
	}
	if len(f.Types) > 0 {
		b.WriteString(" AND m.message_type = ANY(" + s.arg(f.Types) + ")")
	}
	return b.String()
}

// walk reads history downwards along the index that fits the filter best, and keeps what the filter lets through. words is a
// tsquery that documents must match, "" for none. Joins name every column of an index: made while a partition is empty, a plan may
// choose any that has one of them, and read it whole later. The inner LIMIT bounds what is read; the outer one ends the reading
// as soon as the page is full.
func walk(ctx context.Context, q Querier, session uuid.UUID, f MessageFilter, lo, hi uuid.UUID, words string) (*HistoryPage, error) {
	if !before(lo, hi) {
		return &HistoryPage{}, nil
	}
	s := &statement{}
	source := f.source(s, session, lo, hi, historyScan)
	conditions := f.conditions(s)
	if words != "" {
		conditions += " AND i.document @@ " + s.arg(words) + "::tsquery"
	}
	join := ""
	switch {
	case f.Chat != "":
		source, join = "("+source+") i", " JOIN messages m ON m.id = i.id AND m.session_uid = $1 AND m.chat = "+s.arg(f.Chat)
	case words != "":
		source, join = "("+source+") m", " JOIN message_index i ON i.session_uid = m.session_uid AND i.chat = m.chat AND i.id = m.id"
	default:
		source = "(" + source + ") m"
	}
	order := "m"
	if f.Chat != "" {
		order = "i"
	}
	rows, err := q.Query(ctx, "SELECT "+messageColumns+" FROM "+source+join+" WHERE true"+conditions+" ORDER BY "+order+".id DESC LIMIT "+s.arg(f.Limit+1), s.args...)
	if err != nil {
		return nil, fmt.Errorf("read history of %s: %w", session, err)
	}
	page := &HistoryPage{}
	if page.Messages, err = collectMessages(rows); err != nil {
		return nil, fmt.Errorf("read history of %s: %w", session, err)
	}
	if page.full(f.Limit) || conditions == "" {
		return page, nil
	}
	page.Next, err = f.readTo(ctx, q, session, lo, hi)
	if n := len(page.Messages); n > 0 && page.Next != uuid.Nil && before(page.Messages[n-1].ID, page.Next) {
		page.Next = page.Messages[n-1].ID // rows came in between the two statements
	}
	return page, err
}

// full cuts a page that was read with one row more than asked for, and says whether there was one.
func (p *HistoryPage) full(limit int) bool {
	if len(p.Messages) <= limit {
		return false
	}
	p.Messages = p.Messages[:limit]
	p.Next = p.Messages[limit-1].ID
	return true
}

// source is the bounded part of an index that a walk reads.
func (f *MessageFilter) source(s *statement, session, lo, hi uuid.UUID, limit int) string {
	uid, from, to := s.arg(session), s.arg(lo), s.arg(hi)
	switch {
	case f.Chat != "":
		return "SELECT id, document FROM message_index WHERE session_uid = " + uid + " AND chat = " + s.arg(f.Chat) + " AND id >= " + from + " AND id < " + to +
			" ORDER BY id DESC LIMIT " + s.arg(limit)
	case f.onlyEnded():
		return "SELECT * FROM messages WHERE session_uid = " + uid + " AND id >= " + from + " AND id < " + to +
			" AND status IN ('FAILED', 'UNKNOWN', 'CANCELLED', 'EXPIRED') ORDER BY id DESC LIMIT " + s.arg(limit)
	}
	return "SELECT * FROM messages WHERE session_uid = " + uid + " AND id >= " + from + " AND id < " + to + " ORDER BY id DESC LIMIT " + s.arg(limit)
}

func (f *MessageFilter) onlyEnded() bool {
	return len(f.Statuses) > 0 && !slices.ContainsFunc(f.Statuses, func(s string) bool { return !slices.Contains(endedStatuses, s) })
}

// readTo is the ID down to which a walk has read, zero if it came to the end.
func (f *MessageFilter) readTo(ctx context.Context, q Querier, session, lo, hi uuid.UUID) (id uuid.UUID, err error) {
	s := &statement{}
	source := f.source(s, session, lo, hi, historyScan)
	_, err = Found(q.QueryRow(ctx, "SELECT x.id FROM ("+source+") x OFFSET "+s.arg(historyScan-1), s.args...).Scan(&id))
	return id, err
}

func collectMessages(rows pgx.Rows) ([]Message, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Message, err error) {
		err = row.Scan(scanMessage(&m)...)
		return m, err
	})
}
