package jobs

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
)

func alive(t *testing.T, db *models.DB) *Lanes {
	l := NewLanes(db, uuid.New(), quiet)
	require.NoError(t, models.RenewRunner(t.Context(), db.Pool, l.runner, "test", 1, time.Hour))
	return l
}

// due makes a lane of messages due, with nothing in it.
func due(t *testing.T, db *models.DB, lane uuid.UUID) {
	_, err := db.Pool.Exec(t.Context(), `UPDATE lanes SET next_due_at = now() WHERE id = $1`, lane)
	require.NoError(t, err)
}

func sweepFinds(t *testing.T, db *models.DB, kind string, lane uuid.UUID) bool {
	list, err := models.DueLanes(t.Context(), db.Pool, kind, 100)
	require.NoError(t, err)
	for _, id := range list {
		if id == lane {
			return true
		}
	}
	return false
}

func idle(context.Context, *models.Hold) (step, error) { return step{idle: true}, nil }

func TestDrainTakesAFreeLaneOnly(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	a, b := alive(t, db), alive(t, db)
	worked := 0
	_, err := a.drain(t.Context(), s.UID, models.LaneMessages, func(ctx context.Context, h *models.Hold) (step, error) {
		worked++
		for _, l := range []*Lanes{a, b} { // this process again, and another one
			wake, err := l.drain(ctx, s.UID, models.LaneMessages, func(context.Context, *models.Hold) (step, error) {
				t.Error("the lane has two holders")
				return step{idle: true}, nil
			})
			require.NoError(t, err)
			if l == a {
				require.Empty(t, wake)
			} else {
				require.Equal(t, []models.Woken{{Lane: s.UID, Holder: &a.runner}}, wake, "who has it is to look")
			}
		}
		require.Len(t, a.held, 1)
		return step{idle: true}, nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, worked)
	require.Empty(t, a.held)
	require.True(t, modelstest.Scalar[bool](t, db, `SELECT holder IS NULL AND next_due_at IS NULL FROM lanes WHERE id = $1`, s.UID))
}

func TestDrainGoesOnWhenSomethingCame(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	rounds := 0
	_, err := alive(t, db).drain(t.Context(), s.UID, models.LaneMessages, func(ctx context.Context, h *models.Hold) (step, error) {
		rounds++
		claim, err := models.ClaimMessages(ctx, db.Pool, h, 10)
		require.NoError(t, err)
		if rounds == 1 {
			_, err := db.Pool.Exec(ctx, `UPDATE lanes SET next_seq = next_seq + 1, next_due_at = now() WHERE id = $1`, s.UID)
			require.NoError(t, err)
		}
		return step{idle: len(claim.Messages) == 0}, nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, rounds, "the release should have noticed what came")
}

// What a holder begins and does not end must not keep the lane from everyone for as long as the process lives.
func TestALaneIsNotKeptByAProcessThatForgotIt(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)

	t.Run("the answer to the take got lost", func(t *testing.T) {
		l := alive(t, db)
		due(t, db, s.UID)
		takes := l.groups.takes[models.LaneMessages]
		take := takes.Run
		takes.Run = func(ctx context.Context, lanes []uuid.UUID) ([]*models.Hold, error) {
			if holds, err := take(ctx, lanes); err != nil || holds[0] == nil {
				return nil, fmt.Errorf("not taken: %w", err)
			}
			return nil, errors.New("the connection is gone")
		}
		_, err := l.drain(t.Context(), s.UID, models.LaneMessages, idle)
		require.ErrorContains(t, err, "the connection is gone")
		require.False(t, sweepFinds(t, db, models.LaneMessages, s.UID))
		l.releaseStrays(t.Context())
		require.True(t, sweepFinds(t, db, models.LaneMessages, s.UID))
		require.Empty(t, l.strays)
	})
	t.Run("the release got lost", func(t *testing.T) {
		l := alive(t, db)
		h, ok, err := models.TakeLane(t.Context(), db.Pool, s.UID, l.runner)
		require.NoError(t, err)
		require.True(t, ok)
		l.stray(h)
		l.releaseStrays(t.Context())
		require.True(t, sweepFinds(t, db, models.LaneMessages, s.UID))
	})
	t.Run("the work panicked", func(t *testing.T) {
		require.PanicsWithValue(t, "oops", func() {
			_, _ = alive(t, db).drain(t.Context(), s.UID, models.LaneMessages, func(context.Context, *models.Hold) (step, error) { panic("oops") })
		})
		require.Nil(t, modelstest.Scalar[*uuid.UUID](t, db, `SELECT holder FROM lanes WHERE id = $1`, s.UID))
	})
	t.Run("a stray that was taken by another runner stays his", func(t *testing.T) {
		l, other := alive(t, db), alive(t, db)
		h, ok, err := models.TakeLane(t.Context(), db.Pool, s.UID, l.runner)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, models.EndRunner(t.Context(), db.Pool, l.runner))
		_, ok, err = models.TakeLane(t.Context(), db.Pool, s.UID, other.runner)
		require.NoError(t, err)
		require.True(t, ok)
		l.stray(h)
		l.releaseStrays(t.Context())
		l.stray(models.Hold{Lane: s.UID})
		l.releaseStrays(t.Context())
		require.Equal(t, other.runner, modelstest.Scalar[uuid.UUID](t, db, `SELECT holder FROM lanes WHERE id = $1`, s.UID))
	})
}

// An error of the work costs a pause, not the lane.
func TestDrainYieldsAfterAnError(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	_, err := alive(t, db).drain(t.Context(), s.UID, models.LaneMessages, func(context.Context, *models.Hold) (step, error) {
		return step{}, context.DeadlineExceeded
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, modelstest.Scalar[bool](t, db, `SELECT holder IS NULL AND next_due_at > now() FROM lanes WHERE id = $1`, s.UID))
}

func TestKeepHoldsTheLeaseAndEndsIt(t *testing.T) {
	db := modelstest.DB(t)
	l := NewLanes(db, uuid.New(), quiet)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Keep(ctx) }()
	select {
	case <-l.alive:
	case <-time.After(20 * time.Second):
		t.Fatal("no lease")
	}
	require.True(t, modelstest.Scalar[bool](t, db, `SELECT expires_at > now() FROM runners WHERE id = $1`, l.runner))
	cancel()
	<-done
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM runners`))
}

// A webhook that was switched off or deleted while its lane was being drained costs one look, not a slice of looks.
func TestALaneWithoutTargetIsReleased(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	for what, end := range map[string]string{
		"switched off": `UPDATE webhooks SET is_active = false WHERE id = $1`,
		"deleted":      `WITH gone AS (DELETE FROM webhooks WHERE id = $1) DELETE FROM lanes WHERE id = $1`,
	} {
		t.Run(what, func(t *testing.T) {
			hook := addHook(t, db, s)
			d := &deliverer{db: db, lanes: alive(t, db), widths: newWidths()}
			rounds := 0
			wake, err := d.lanes.drain(t.Context(), hook, models.LaneWebhook, func(ctx context.Context, h *models.Hold) (step, error) {
				rounds++
				if rounds == 1 { // an event comes, and then the end
					_, err := db.Pool.Exec(ctx, `UPDATE lanes SET next_seq = next_seq + 1, next_due_at = now() WHERE id = $1`, hook)
					require.NoError(t, err)
					_, err = db.Pool.Exec(ctx, end, hook)
					require.NoError(t, err)
				}
				return d.round(ctx, h)
			})
			require.NoError(t, err)
			require.Empty(t, wake)
			require.Equal(t, 1, rounds)
			require.False(t, sweepFinds(t, db, models.LaneWebhook, hook))
		})
	}
}

// A message with which one runner after another dies is given up in the end, and does not keep its session's others back.
func TestAMessageThatKillsRunnersIsGivenUp(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	a := models.NewAccepter(db.Pool, quiet, func([]models.Woken, int) {})
	t.Cleanup(a.Close)
	require.NoError(t, a.Accept(t.Context(), &models.NewMessage{ID: models.NewID(), Session: s.UID, Chat: "c", To: "1@s.whatsapp.net", Type: "TEXT", ExpiresAt: time.Now().Add(time.Hour)}))
	l := alive(t, db)
	for range sendTries + 1 {
		h, ok, err := models.TakeLane(t.Context(), db.Pool, s.UID, l.runner)
		require.NoError(t, err)
		require.True(t, ok)
		claim, err := models.ClaimMessages(t.Context(), db.Pool, &h, 1)
		require.NoError(t, err)
		require.Len(t, claim.Messages, 1)
		if claim.Messages[0].Attempts < sendTries {
			continue // and dies
		}
		r := (&sender{metrics: monitoring.New("test"), log: quiet}).newRound(h, claim)
		r.one(t.Context(), nil, &claim.Messages[0])
		settled, err := models.Settle(t.Context(), db, models.Settlement{Hold: h, SessionID: s.ID, Outcomes: r.outcomes})
		require.NoError(t, err)
		require.False(t, settled.Left)
	}
	require.Equal(t, models.MessageUnknown, modelstest.Scalar[string](t, db, `SELECT status FROM messages`))
}

// What comes between a release and the end of its holder wakes the lane once more: its own wake-up was told that the lane is held.
func TestAWakeUpDuringTheReleaseCounts(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	l := alive(t, db)
	releases := l.groups.releases[models.LaneMessages]
	release := releases.Run
	woken := true
	releases.Run = func(ctx context.Context, list []models.Release) ([]bool, error) {
		released, err := release(ctx, list)
		if woken { // after the release, before its answer
			wake, err := l.drain(ctx, s.UID, models.LaneMessages, idle)
			if len(wake) > 0 || err != nil {
				return nil, fmt.Errorf("drained twice: %v, %w", wake, err)
			}
		}
		return released, err
	}
	wake, err := l.drain(t.Context(), s.UID, models.LaneMessages, idle)
	require.NoError(t, err)
	require.Equal(t, models.Unheld(s.UID), wake)
	woken = false
	wake, err = l.drain(t.Context(), s.UID, models.LaneMessages, idle)
	require.NoError(t, err)
	require.Empty(t, wake)
}
