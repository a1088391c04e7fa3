package models

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Observer is told of each statement when its answer has been read: its first word in lower case, or batch for several in
// one round trip, and whether PostgreSQL refused it or did not answer.
type Observer func(operation string, took time.Duration, failed bool)

// Observe makes an Observer of what a pool does into what OpenAs takes.
func Observe(f Observer) pgx.QueryTracer { return observing(f) }

type observing Observer

type observedKey struct{}

// observed is a statement that is under way.
type observed struct {
	operation string
	began     time.Time
}

func (observing) begin(ctx context.Context, operation string) context.Context {
	return context.WithValue(ctx, observedKey{}, &observed{operation, time.Now()})
}

func (f observing) end(ctx context.Context, err error) {
	if o, ok := ctx.Value(observedKey{}).(*observed); ok {
		f(o.operation, time.Since(o.began), err != nil)
	}
}

// TraceQueryStart implements pgx.QueryTracer.
func (f observing) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	return f.begin(ctx, firstWord(d.SQL))
}

// TraceQueryEnd implements pgx.QueryTracer.
func (f observing) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	f.end(ctx, d.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (f observing) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return f.begin(ctx, "batch")
}

// TraceBatchQuery implements pgx.BatchTracer.
func (observing) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements pgx.BatchTracer.
func (f observing) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, d pgx.TraceBatchEndData) {
	f.end(ctx, d.Err)
}

// firstWord of a statement, in lower case.
func firstWord(sql string) string {
	sql = strings.TrimLeft(sql, " \t\r\n(")
	end := strings.IndexFunc(sql, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') })
	if end < 0 {
		end = len(sql)
	}
	return strings.ToLower(sql[:end])
}
