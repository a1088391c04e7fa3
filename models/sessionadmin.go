package models

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/uptrace/bun"
)

// SessionFilter chooses sessions of all tenants; what is left out does not restrict.
type SessionFilter struct {
	Status string
	Worker string
	User   uuid.UUID
	Search string    // words, each by how it begins, in ID, name or number
	Before uuid.UUID // uid
	Limit  int
}

// OwnedSession is a session with whose it is.
type OwnedSession struct {
	Session    `bun:",extend"`
	OwnerName  string
	OwnerEmail string
	OwnerTier  string
}

// As the index sessions_words has it.
const sessionWords = `to_tsvector('simple', kurir_fold(translate(s.id || ' ' || s.name || ' ' || coalesce(s.phone_number, ''), '@._+-/\:&''', '          ')))`

// SessionsOfAll lists sessions that are not deleted, newest first.
func SessionsOfAll(ctx context.Context, db bun.IDB, f SessionFilter) ([]OwnedSession, error) {
	var list []OwnedSession
	q := db.NewSelect().Model(&list).Apply(withHeldBack).ColumnExpr("u.name AS owner_name, u.email AS owner_email, u.tier AS owner_tier").
		Join("JOIN users u ON u.id = s.user_id").OrderExpr("s.uid DESC").Limit(int64(f.Limit))
	if f.Search == "" {
		q = q.Apply(f.plain)
	} else {
		words := prefixQuery(f.Search)
		if words == "" {
			return nil, nil
		}
		// By themselves, behind OFFSET 0, else the planner may walk all sessions in their order until it has found enough. Of those
		// found a page goes on.
		found := db.NewSelect().TableExpr("sessions AS s").ColumnExpr("s.uid").Apply(f.plain).
			Where(sessionWords+` @@ to_tsquery('simple', kurir_fold(?))`, words)
		q = q.Where(`s.uid IN (SELECT uid FROM (? OFFSET 0) found ORDER BY uid DESC LIMIT ?)`, found, f.Limit)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return list, nil
}

// plain narrows a query of sessions to what the filter says, but for its words.
func (f SessionFilter) plain(q *bun.SelectQuery) *bun.SelectQuery {
	q = q.Where("s.deleted_at IS NULL")
	if f.Before != uuid.Nil {
		q = q.Where("s.uid < ?", f.Before)
	}
	if f.Status != "" {
		q = q.Where("s.status = ?", f.Status)
	}
	if f.Worker != "" {
		q = q.Where("s.worker_id = ?", f.Worker)
	}
	if f.User != uuid.Nil {
		q = q.Where("s.user_id = ?", f.User)
	}
	return q
}
