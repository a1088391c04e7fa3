package models

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kurir/fault"
)

// Bounds of a page of a search. A word with more hits in one partition than searchHits is common: the newest messages that
// hold it are found by walking the history. A rarer one is read from the index of words.
const (
	searchHits       = 5_000
	searchHitsPage   = 4 * searchHits // of all partitions of a page
	searchPartitions = 36
	searchChunk      = 500
)

// wanted is what a search looks for.
type wanted struct {
	words   string // the tsquery
	scoped  string // and the session's lexeme
	indexed bool   // false: nothing but exclusions, which no index answers
}

// parseQuery reads words as people type them: all of them, "a phrase", one or another, -without. The configuration is simple,
// without stems and stop words: a tenant's messages are in many languages, and no stemmer can tell which.
func parseQuery(ctx context.Context, q Querier, session uuid.UUID, text string) (*wanted, error) {
	w := &wanted{}
	var nodes int
	err := q.QueryRow(ctx, `SELECT numnode(t), querytree(t) NOT IN ('', 'T'), t::text, (quote_literal(kurir_session_lexeme($1))::tsquery && t)::text
		FROM websearch_to_tsquery('simple', kurir_fold($2)) t`, session, text).Scan(&nodes, &w.indexed, &w.words, &w.scoped)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && pg.Code == codeInternal: // "tsquery stack too small"
		return nil, fault.Field("q", "expected fewer exclusions within each other")
	case err != nil:
		return nil, fmt.Errorf("parse query: %w", err)
	case nodes == 0:
		return nil, fault.Field("q", "expected at least one word or number")
	}
	return w, nil
}

const codeInternal = "XX000"

// span is a partition of message_index with its range of IDs, the upper one exclusive.
type span struct {
	name   string
	lo, hi uuid.UUID
}

// indexSpans lists the partitions that overlap a range, newest first. Each is searched by itself: together, they would be
// read whole before the newest hit is known.
func indexSpans(ctx context.Context, q Querier, lo, hi uuid.UUID) ([]span, error) {
	rows, err := q.Query(ctx, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'message_index'::regclass`)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	var list []span
	oldest := uuid.Max
	for _, name := range names {
		month, err := time.Parse("200601", strings.TrimPrefix(name, "message_index_"))
		if err != nil {
			continue // message_index_old
		}
		p := span{name, lowestID(month), lowestID(month.AddDate(0, 1, 0))}
		if before(p.lo, oldest) {
			oldest = p.lo
		}
		list = append(list, p)
	}
	list = append(list, span{name: "message_index_old", hi: oldest})
	list = slices.DeleteFunc(list, func(p span) bool { return !before(lo, p.hi) || !before(p.lo, hi) })
	slices.SortFunc(list, func(a, b span) int { return strings.Compare(string(b.lo[:]), string(a.lo[:])) })
	return list, nil
}

// search reads a page of the messages that match a query, partition by partition, newest first.
func search(ctx context.Context, q Querier, session uuid.UUID, f MessageFilter, lo, hi uuid.UUID) (*HistoryPage, error) {
	w, err := parseQuery(ctx, q, session, f.Query)
	if err != nil {
		return nil, err
	}
	spans, err := indexSpans(ctx, q, lo, hi)
	if err != nil {
		return nil, fmt.Errorf("search in %s: %w", session, err)
	}
	page, read := &HistoryPage{}, 0
	for i, p := range spans {
		if i == searchPartitions || read >= searchHitsPage {
			page.Next = spans[i-1].lo // all of it is done
			break
		}
		if len(page.Messages) == f.Limit { // full, and nothing left over in the partition before
			page.Next = page.Messages[f.Limit-1].ID
			break
		}
		from, to := maxID(lo, p.lo), minID(hi, p.hi)
		var hits []uuid.UUID
		if w.indexed {
			if hits, err = indexHits(ctx, q, p.name, w.scoped); err != nil {
				return nil, fmt.Errorf("search in %s: %w", session, err)
			}
			read += len(hits)
		}
		rest := f
		rest.Limit = f.Limit - len(page.Messages)
		var part *HistoryPage
		if w.indexed && len(hits) <= searchHits {
			part, err = readHits(ctx, q, session, rest, hits, from, to)
		} else {
			part, err = walk(ctx, q, session, rest, from, to, w.words)
		}
		if err != nil {
			return nil, err
		}
		page.Messages = append(page.Messages, part.Messages...)
		if page.Next = part.Next; page.Next != uuid.Nil {
			break
		}
	}
	return page, nil
}

// indexHits reads the messages of a session in a partition that hold the words, in no order, one more than searchHits at
// most. The words are the statement's only condition, so that no other index can answer it.
func indexHits(ctx context.Context, q Querier, partition, scoped string) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, "SELECT id FROM "+pgx.Identifier{partition}.Sanitize()+" WHERE document @@ $1::tsquery LIMIT $2", scoped, searchHits+1)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// readHits reads those of the hits that lie in a range and pass the filter, newest first, until the page is full.
func readHits(ctx context.Context, q Querier, session uuid.UUID, f MessageFilter, hits []uuid.UUID, lo, hi uuid.UUID) (*HistoryPage, error) {
	hits = slices.DeleteFunc(hits, func(id uuid.UUID) bool { return before(id, lo) || !before(id, hi) })
	slices.SortFunc(hits, func(a, b uuid.UUID) int { return strings.Compare(string(b[:]), string(a[:])) })
	page := &HistoryPage{}
	for chunk := range slices.Chunk(hits, searchChunk) {
		s := &statement{}
		// LATERAL and LIMIT make it one look-up by primary key per hit; joined plainly, the session's whole range may be read.
		text := "SELECT " + messageColumns + " FROM unnest(" + s.arg(chunk) + "::uuid[]) h (id) CROSS JOIN LATERAL (SELECT * FROM messages x WHERE x.session_uid = " + s.arg(session) + " AND x.id = h.id LIMIT 1) m" +
			" WHERE true" + f.conditions(s)
		if f.Chat != "" {
			text += " AND m.chat = " + s.arg(f.Chat)
		}
		rows, err := q.Query(ctx, text+" ORDER BY m.id DESC LIMIT "+s.arg(f.Limit+1-len(page.Messages)), s.args...)
		if err != nil {
			return nil, fmt.Errorf("read hits of %s: %w", session, err)
		}
		found, err := collectMessages(rows)
		if err != nil {
			return nil, fmt.Errorf("read hits of %s: %w", session, err)
		}
		page.Messages = append(page.Messages, found...)
		if page.full(f.Limit) {
			break
		}
	}
	return page, nil
}

func minID(a, b uuid.UUID) uuid.UUID {
	if before(a, b) {
		return a
	}
	return b
}

func maxID(a, b uuid.UUID) uuid.UUID {
	if before(a, b) {
		return b
	}
	return a
}

// IndexWords makes up to limit documents of new messages, newest first, and says how many. Search finds a message when this
// has been done. What another transaction has in hand is passed over: an edit makes the document itself.
func IndexWords(ctx context.Context, q Querier, limit int) (int, error) {
	tag, err := q.Exec(ctx, `WITH pick AS (
			SELECT session_uid, chat, id FROM message_index WHERE todo ORDER BY id DESC LIMIT $1 FOR UPDATE SKIP LOCKED
		), made AS MATERIALIZED (
			SELECT p.*, m.document FROM pick p CROSS JOIN LATERAL (
				SELECT kurir_document(session_uid, message_type, content, caption, filename, deleted_at) AS document FROM messages WHERE id = p.id LIMIT 1) m)
		UPDATE message_index i SET todo = false, document = d.document
		FROM made d WHERE i.session_uid = d.session_uid AND i.chat = d.chat AND i.id = d.id`, limit)
	return int(tag.RowsAffected()), err
}
