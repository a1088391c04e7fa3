package jobs

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/models"
	"kurir/models/modelstest"
)

// replay asks for a range and returns its job.
func (b *hookBench) replay(r models.Replay) (*models.Job, error) {
	b.Helper()
	r.WebhookID = b.hook
	w, err := models.WebhookByID(b.Context(), b.db, b.hook)
	require.NoError(b, err)
	id := models.NewID()
	err = b.db.InTx(b.Context(), func(ctx context.Context, tx bun.Tx) error { return models.AddReplay(ctx, tx, id, w, r) })
	if err != nil {
		return nil, err
	}
	j, err := models.JobOf(b.Context(), b.db, b.session.UserID, &b.session.UID, id)
	require.NoError(b, err)
	return j, nil
}

func (b *hookBench) runner() *Runner {
	r := &Runner{db: b.db, log: quiet, queue: b.queue, metrics: b.metrics, waker: NewWaker(b.queue, quiet, b.metrics)}
	b.Cleanup(r.waker.Close)
	return r
}

func TestReplayOfARange(t *testing.T) {
	b := newHookBench(t)
	b.answer = func(seq int64, _ http.ResponseWriter, _ *http.Request) int {
		if seq == 2 {
			return 500
		}
		return 204
	}
	b.schedule = quick[:2]
	b.emit(b.session, 3)
	b.drain(b.hook)
	require.Equal(t, "1 DELIVERED 1, 2 FAILED 2, 3 DELIVERED 1", b.states())
	b.exec(`UPDATE webhook_deliveries SET created_at = now() - sequence * interval '1 hour'`)
	b.exec(`UPDATE webhook_deliveries SET created_at = now() - (4 - sequence) * interval '1 hour'`)
	b.exec(`DELETE FROM events WHERE id = (SELECT event_id FROM webhook_deliveries WHERE sequence = 3)`)
	b.got, b.answer = nil, func(int64, http.ResponseWriter, *http.Request) int { return 204 }
	r := b.runner()
	at := func(hours float64) time.Time { return time.Now().Add(-time.Duration(hours * float64(time.Hour))) }

	run := func(p models.Replay) int64 {
		j, err := b.replay(p)
		require.NoError(t, err)
		_, err = b.replay(p)
		require.ErrorIs(t, err, models.ErrReplaying)
		result, err := r.replayWebhook(t.Context(), j)
		require.NoError(t, err)
		b.exec(`UPDATE jobs SET status = 'SUCCEEDED' WHERE id = $1`, j.ID)
		b.drain(b.hook)
		return result.(map[string]int64)["replayed"]
	}
	require.EqualValues(t, 1, run(models.Replay{Since: at(10), Until: at(0), Status: models.DeliveryFailed}))
	require.Equal(t, []int64{2}, b.got)
	require.Equal(t, "1 DELIVERED 1, 2 DELIVERED 3, 3 DELIVERED 1", b.states(), "attempts count on")
	require.EqualValues(t, 2, run(models.Replay{Since: at(10), Until: at(0)}), "the third one's event is no longer kept")
	require.EqualValues(t, 1, run(models.Replay{Since: at(2.5), Until: at(1.5)}))
	require.EqualValues(t, 0, run(models.Replay{Since: at(0.5), Until: at(0)}))
	require.EqualValues(t, 0, run(models.Replay{Since: at(9), Until: at(8)}))
	require.Empty(t, b.bad)
}

// A replay has the whole schedule ahead of it, and what is under way is not disturbed by one.
func TestReplayBeginsTheScheduleAnew(t *testing.T) {
	b := newHookBench(t)
	b.schedule = quick[:3]
	b.failing(1000)
	b.emit(b.session, 1)
	b.drain(b.hook)
	require.Equal(t, "1 FAILED 3", b.states())
	again := func() {
		d, _, err := models.DeliveryOf(t.Context(), b.db, b.session.UserID, modelstest.Scalar[[16]byte](t, b.db, `SELECT id FROM webhook_deliveries`))
		require.NoError(t, err)
		require.NoError(t, b.db.InPgxTx(t.Context(), func(tx pgx.Tx) error { return models.ReplayDelivery(t.Context(), tx, d) }))
	}
	again()
	again()
	require.Equal(t, "1 RETRYING 3", b.states(), "twice is once")
	b.drain(b.hook)
	require.Equal(t, "1 FAILED 6", b.states())

	// While an attempt is under way: its outcome counts.
	b.failing(0)
	again()
	b.answer = func(int64, http.ResponseWriter, *http.Request) int { again(); return 204 }
	b.drain(b.hook)
	require.Equal(t, "1 DELIVERED 7", b.states())
}

// An attempt goes on where the one before was killed.
func TestReplayIsResumed(t *testing.T) {
	b := newHookBench(t)
	b.emit(b.session, 4)
	b.drain(b.hook)
	j, err := b.replay(models.Replay{Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	j.Progress, err = json.Marshal(models.ReplayProgress{Next: 3, End: 5, Replayed: 2})
	require.NoError(t, err)
	result, err := b.runner().replayWebhook(t.Context(), j)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"replayed": 4}, result)
	require.Equal(t, "1 DELIVERED 1, 2 DELIVERED 1, 3 RETRYING 1, 4 RETRYING 1", b.states())
}

// In an ordered webhook replays come before what waits, in their order, and one that fails holds up what follows.
func TestReplayInOrder(t *testing.T) {
	b := newHookBench(t)
	b.exec(`UPDATE webhooks SET ordered = true`)
	b.emit(b.session, 3)
	b.drain(b.hook)
	b.got = nil
	b.emit(b.session, 1)
	j, err := b.replay(models.Replay{Since: time.Now().Add(-time.Hour), Until: time.Now()})
	require.NoError(t, err)
	_, err = b.runner().replayWebhook(t.Context(), j)
	require.NoError(t, err)
	b.failing(1)
	b.drain(b.hook)
	require.Equal(t, []int64{1, 1, 2, 2, 3, 3, 4, 4}, b.got)
}
