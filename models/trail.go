package models

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"
)

// Trail has the transactions of a request tell what they changed: the first of them that changes something writes the
// request's audit line, so that change and line are there together or not at all. A nil Trail tells nothing.
type Trail struct {
	mu   sync.Mutex
	line Audit
	told bool
}

type trailKey struct{}

// WithTrail lets the transactions that run under the returned context write the line.
func WithTrail(ctx context.Context, line Audit) (context.Context, *Trail) {
	t := &Trail{line: line}
	return context.WithValue(ctx, trailKey{}, t), t
}

// TrailOf is the context's trail, nil if it has none.
func TrailOf(ctx context.Context) *Trail {
	t, _ := ctx.Value(trailKey{}).(*Trail)
	return t
}

// Say changes the line before it is written.
func (t *Trail) Say(change func(line *Audit)) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.line)
}

// Line is the line as it is now.
func (t *Trail) Line() Audit {
	if t == nil {
		return Audit{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.line
}

// Tell notes that the line is written, or that there is nothing to tell.
func (t *Trail) Tell() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = true
}

// Told reports whether the line is written.
func (t *Trail) Told() bool {
	if t == nil {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.told
}

// errNothingDone takes a transaction back that came to nothing, so that its trail has nothing to tell. Who returns it from a
// transaction is who knows it.
var errNothingDone = errors.New("nothing was done")

// A transaction that has changed nothing so far has no ID.
const tellSQL = auditSQL + ` WHERE pg_current_xact_id_if_assigned() IS NOT NULL`

// write ends a transaction that has done its work. It says whether the line is in it, which is to be noted when it is
// committed.
func (t *Trail) write(exec func(sql string, args ...any) (int64, error)) (bool, error) {
	if t.Told() {
		return false, nil
	}
	args, err := auditArgs([]Audit{t.Line()})
	if err != nil {
		return false, err
	}
	n, err := exec(tellSQL, args...)
	return n > 0, err
}

// queue is write as the last statement of a batch; told is known when the batch has run.
func (t *Trail) queue(b *pgx.Batch, told *bool) error {
	_, err := t.write(func(sql string, args ...any) (int64, error) {
		b.Queue(sql, args...).Exec(func(tag pgconn.CommandTag) error {
			*told = tag.RowsAffected() > 0
			return nil
		})
		return 0, nil
	})
	return err
}

// bunExec runs a statement of ours in a transaction of bun's, which would put the arguments into the text.
func bunExec(ctx context.Context, tx bun.Tx) func(sql string, args ...any) (int64, error) {
	return func(sql string, args ...any) (int64, error) {
		res, err := tx.Tx.ExecContext(ctx, sql, args...)
		if err != nil {
			return 0, err
		}
		return res.RowsAffected()
	}
}
