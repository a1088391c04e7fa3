package models_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// A lane is taken by whoever is first, unless a live runner has it: that one is told, and of what.
func TestAcceptsTellTheHolder(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	var woken []models.Woken
	a := models.NewAccepter(db.Pool, quiet, func(lanes []models.Woken, batch int) {
		require.Positive(t, batch)
		woken = lanes
	})
	t.Cleanup(a.Close)
	runner := uuid.New()
	require.NoError(t, models.RenewRunner(t.Context(), db.Pool, runner, "host", 1, time.Minute))
	accept := func() []models.Woken {
		woken = nil
		m := newMessage(s.UID, "628123@s.whatsapp.net", "Hello")
		require.NoError(t, a.AcceptAll(t.Context(), []*models.NewMessage{m, newMessage(s.UID, m.Chat, "you")}))
		return woken
	}
	requireFree := func(list []models.Woken, why ...any) {
		t.Helper()
		require.Len(t, list, 1, why...)
		require.Equal(t, s.UID, list[0].Lane)
		require.Nil(t, list[0].Holder, why...)
	}
	requireFree(accept())
	h, ok, err := models.TakeLane(t.Context(), db.Pool, s.UID, runner)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []models.Woken{{Lane: s.UID, Holder: &runner, NextSeq: 5}}, accept())
	released, err := models.ReleaseLane(t.Context(), db.Pool, models.LaneMessages, h)
	require.NoError(t, err)
	require.False(t, released, "something came")
	require.NoError(t, models.YieldLane(t.Context(), db.Pool, h, time.Hour))
	requireFree(accept())
	_, _, err = models.TakeLane(t.Context(), db.Pool, s.UID, runner)
	require.NoError(t, err)
	require.NoError(t, models.RenewRunner(t.Context(), db.Pool, runner, "host", 1, -time.Second))
	requireFree(accept(), "its holder is dead")

	known := newMessage(s.UID, "628123@s.whatsapp.net", "once")
	for range 2 { // the second time it is there already, and whether the first one's wake-up came is not known
		require.NoError(t, a.AcceptAll(t.Context(), []*models.NewMessage{known}))
		requireFree(woken)
	}
}

// recounting makes the lane go by the message's count after it was refused for another one.
type recounting struct {
	models.Querier
	lane uuid.UUID
}

func (r recounting) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	_, _ = r.Exec(ctx, `UPDATE lanes SET quota_epoch = 2 WHERE id = $1`, r.lane)
	return r.Querier.QueryRow(ctx, sql, args...)
}

// A message that was refused for its count alone is to be counted again, also where the lane has caught up before anybody asked why.
func TestALaneThatCatchesUpIsLinked(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	_, err := db.Pool.Exec(t.Context(), `UPDATE lanes SET quota_epoch = 1 WHERE id = $1`, s.UID)
	require.NoError(t, err)
	a := models.NewAccepter(recounting{db.Pool, s.UID}, quiet, func([]models.Woken, int) {})
	t.Cleanup(a.Close)
	m, epoch := newMessage(s.UID, "628123@s.whatsapp.net", "Hello"), int64(2)
	m.Quota = &epoch
	require.ErrorIs(t, a.Accept(t.Context(), m), models.ErrQuotaMoved)
	require.NoError(t, a.Accept(t.Context(), m), "tried again")
}
