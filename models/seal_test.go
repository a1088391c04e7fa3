package models_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/models"
	"kurir/models/modelstest"
)

// later is a time at which the present month is over for long enough.
func later() time.Time { return time.Now().AddDate(0, 1, 10) }

func (o *outbox) seal(at time.Time) int {
	o.Helper()
	n, err := models.SealMonths(o.Context(), o.db, at)
	require.NoError(o, err)
	return n
}

func (o *outbox) month() string { return "messages_" + time.Now().UTC().Format("200601") }

func (o *outbox) isSealed() bool {
	o.Helper()
	return modelstest.Scalar[bool](o, o.db, `SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conname = 'messages_settled' AND convalidated AND conrelid = $1::regclass)`, o.month())
}

func (o *outbox) retry(m *models.Message) error {
	return models.RetryMessage(o.Context(), o.db, m, false, time.Now().Add(time.Hour))
}

// The months in which nothing waits are no part of the plan of a claim, and of a release.
func TestAMonthIsSealedWhenNothingWaitsInIt(t *testing.T) {
	o := newOutbox(t)
	require.Zero(t, o.seal(time.Now()), "what is older than all months is sealed from the start")
	ids := []any{o.add("a", "1"), o.add("b", "2")}
	require.Zero(t, o.seal(later()), "two wait")
	h := o.take(o.runner())
	c := o.claim(h, 1)
	o.settle(h, outcome(c, 0, models.MessageSent))
	require.Zero(t, o.seal(later()), "one waits")
	c = o.claim(h, 1)
	require.Zero(t, o.seal(later()), "one is on its way")
	require.False(t, o.isSealed())
	o.settle(h, outcome(c, 0, models.MessageFailed))
	require.True(t, o.release(h))
	require.Positive(t, o.seal(later()))
	require.True(t, o.isSealed())
	o.exec(`UPDATE messages SET status = 'DELIVERED', delivered_at = now() WHERE id = $1`, ids[0]) // what is settled goes on

	rows, err := o.db.Pool.Query(t.Context(), `EXPLAIN SELECT id FROM messages WHERE session_uid = $1 AND status = 'PENDING' AND next_attempt_at IS NULL`, o.session.UID)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotContains(t, strings.Join(lines, "\n"), o.month())
}

// A connection that has planned its claims without a month finds what waits there again.
func TestAMessageOfASealedMonthIsTriedAgain(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "1")
	h := o.take(o.runner())
	o.settle(h, outcome(o.claim(h, 1), 0, models.MessageFailed))
	require.True(t, o.release(h))
	require.Positive(t, o.seal(later()))

	conn, err := o.db.Pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	runner := o.runner()
	look := func() (*models.Hold, *models.Claim) {
		hold, ok, err := models.TakeLane(t.Context(), conn, o.session.UID, runner)
		require.NoError(t, err)
		require.True(t, ok)
		c, err := models.ClaimMessages(t.Context(), conn, &hold, 4)
		require.NoError(t, err)
		return &hold, c
	}
	hold, c := look()
	require.Empty(t, c.Messages)
	released, err := models.ReleaseLane(t.Context(), conn, models.LaneMessages, *hold)
	require.NoError(t, err)
	require.True(t, released)

	require.NoError(t, o.retry(o.message(id)))
	require.False(t, o.isSealed())
	require.True(t, modelstest.Scalar[bool](t, o.db, `SELECT next_due_at <= now() FROM lanes WHERE id = $1`, o.session.UID))
	hold, c = look()
	require.Len(t, c.Messages, 1)
	released, err = models.ReleaseLane(t.Context(), conn, models.LaneMessages, *hold)
	require.NoError(t, err)
	require.True(t, released)
	require.True(t, modelstest.Scalar[bool](t, o.db, `SELECT next_due_at <= now() FROM lanes WHERE id = $1`, o.session.UID), "what is on its way is owed")
	hold, c = look()
	require.Len(t, c.Messages, 1)
	o.settle(hold, outcome(c, 0, models.MessageSent))
	require.Positive(t, o.seal(later()))
}

// Whoever is first: a message that is to be tried again is not lost behind a seal.
func TestSealingAndTryingAgainAtOnce(t *testing.T) {
	o := newOutbox(t)
	runner := o.runner()
	id := o.add("a", "1")
	h := o.take(runner)
	o.settle(h, outcome(o.claim(h, 1), 0, models.MessageFailed))
	m := o.message(id)
	for range 15 {
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				if _, err := models.SealMonths(context.Background(), o.db, later()); err != nil {
					t.Error(err)
				}
			})
		}
		err := o.retry(m)
		group.Wait()
		if fault.Is(err, "database_unavailable") { // the lock was not to be had: the client comes again
			err = o.retry(m)
		}
		require.NoError(t, err)
		require.False(t, o.isSealed())
		h := o.take(runner)
		c := o.claim(h, 4)
		require.Len(t, c.Messages, 1)
		o.settle(h, outcome(c, 0, models.MessageFailed))
	}
}

// Somebody who reads a month for long is not waited for, and a seal that was not proved is none.
func TestSealingWaitsForNobody(t *testing.T) {
	o := newOutbox(t)
	tx, err := o.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `SELECT count(*) FROM `+o.month())
	require.NoError(t, err)
	o.seal(later())
	require.False(t, o.isSealed())
	require.NoError(t, tx.Rollback(t.Context()))
	o.exec(`ALTER TABLE ` + o.month() + ` ADD CONSTRAINT messages_settled CHECK (status <> 'PENDING' AND status <> 'SENDING') NOT VALID`) // killed in between
	require.Positive(t, o.seal(later()))
	require.True(t, o.isSealed())
}
