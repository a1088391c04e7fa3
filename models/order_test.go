package models_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
)

// A runner that had lost its lane without knowing writes back, while the next one claims, that the first message of a chat waits for its
// medium and the second was not sent: the second must not pass the first.
func TestWhatIsHeldWhileItIsClaimedIsNotPassed(t *testing.T) {
	for _, guarded := range []bool{false, true} {
		o := newOutbox(t)
		first := o.add("a", "first")
		second := o.add("a", "second")
		frozen := o.runner()
		require.Equal(t, []string{"first", "second"}, texts(o.claim(o.take(frozen), 10)))
		o.exec(`UPDATE runners SET expires_at = now() WHERE id = $1`, frozen)
		next := o.take(o.runner())
		next.Guarded = guarded

		tx, err := o.db.Pool.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
		_, err = tx.Exec(t.Context(), `UPDATE messages SET status = 'PENDING', waiting_for = 'media', next_attempt_at = now() + interval '1 hour' WHERE id = $1`, first)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), `UPDATE messages SET status = 'PENDING' WHERE id = $1`, second)
		require.NoError(t, err)
		claimed := make(chan *models.Claim, 1)
		go func() {
			c, err := models.ClaimMessages(context.WithoutCancel(t.Context()), o.db.Pool, next, 10)
			if err != nil {
				t.Error(err)
			}
			claimed <- c
		}()
		waits(t, o.db)
		require.NoError(t, tx.Commit(t.Context()))
		require.Equal(t, []string{"first", "second"}, texts(<-claimed))
	}
}

// Somebody has the second message of a chat in hand, to cancel it for example, while a round that sent neither is written back. The second
// stays claimed by a holder that gives the lane back: it must not pass the first.
func TestWhatStaysClaimedDoesNotPassWhatWasPutBack(t *testing.T) {
	for _, held := range []bool{false, true} {
		o := newOutbox(t)
		second := []uuid.UUID{o.add("a", "first"), o.add("a", "second")}[1]
		o.add("b", "other")
		h := o.take(o.runner())
		claim := o.claim(h, 2)
		require.Equal(t, []string{"first", "second"}, texts(claim))
		require.NoError(t, o.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `SELECT FROM messages WHERE id = $1 FOR UPDATE`, second); err != nil {
				return err
			}
			back := outcome(claim, 0, models.MessagePending)
			if held {
				until := time.Now().Add(time.Hour)
				back.NextAttemptAt, back.WaitingFor = &until, "media"
			}
			settled, err := models.Settle(t.Context(), o.db, models.Settlement{Hold: *h, SessionID: o.session.ID,
				Outcomes: []models.Outcome{back, outcome(claim, 1, models.MessagePending)}})
			require.True(t, settled.Left)
			return err
		}))
		require.NoError(t, models.YieldLane(t.Context(), o.db.Pool, *h, 0))
		require.Equal(t, []string{"first", "second", "other"}, texts(o.claim(o.take(o.runner()), 10)))
	}
}
