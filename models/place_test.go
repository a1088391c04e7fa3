package models_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/fault"
	"kurir/limits"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/placement"
	"kurir/wire"
)

// realWorker registers a worker that speaks to WhatsApp.
func realWorker(t *testing.T, db *models.DB, id string, room int) {
	t.Helper()
	require.NoError(t, db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		_, err := models.RegisterWorker(t.Context(), tx, wire.Register{WorkerID: id, Endpoint: "http://" + id, MaxSessions: room, Engine: "whatsapp"}, time.Hour, false)
		return err
	}))
}

// placed makes a session, and answers where it went.
func placed(t *testing.T, db *models.DB, user *models.User, name string) (at string, err error) {
	t.Helper()
	s := &models.Session{UID: models.NewID(), ID: name, UserID: user.ID, Name: name, CreatedAt: time.Now(), UpdatedAt: time.Now()}
	if err = db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error { return models.CreateSession(ctx, tx, s, limits.Default()) }); err == nil {
		at = *s.WorkerID + " " + s.Engine
	}
	return at, err
}

// Simulated phones have all the room, and who links his phone gets none of them: not while the real worker has room, not when
// it is full, not while it is away. Sessions of before stay with their engine.
func TestNewSessionsGoToRealWorkersWhereOneIsRegistered(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	user, before := modelstest.Ready(t, db) // on w1, with room for 999 more
	_, err := models.AnnounceWorker(t.Context(), db.Pool, "announced", "http://announced", 9, nil)
	require.NoError(t, err)
	at, err := placed(t, db, user, "before-too")
	require.NoError(t, err)
	require.Equal(t, "w1 simulator", at, "a worker that has never come is of no engine")

	realWorker(t, db, "whatsapp-1", 2)
	for _, name := range []string{"a", "b"} {
		at, err := placed(t, db, user, name)
		require.NoError(t, err)
		require.Equal(t, "whatsapp-1 whatsapp", at)
	}
	_, err = placed(t, db, user, "full")
	require.Equal(t, "no_worker_available", fault.Code(err))
	require.ErrorContains(t, err, "simulated")
	f, err := models.FleetOf(t.Context(), db.Pool)
	require.NoError(t, err)
	require.Equal(t, [2]int{2, 2}, [2]int{f.Assigned, f.Capacity}, "room at simulated phones is none")
	require.Equal(t, map[string]int{"online": 2, "offline": 1}, f.Workers)

	endLease(t, db, "whatsapp-1")
	expire(t, db)
	_, err = placed(t, db, user, "away")
	require.Equal(t, "no_worker_available", fault.Code(err))
	require.Contains(t, stateOf(t, db, before.UID), "w1 epoch 1")
	modelstest.Worker(t, db, "w2", 10)
	endLease(t, db, "w1")
	expire(t, db)
	require.Contains(t, stateOf(t, db, before.UID), "w2 epoch 2", "what is simulated stays so")

	_, err = models.RemoveWorker(t.Context(), db.Pool, "whatsapp-1")
	require.NoError(t, err)
	at, err = placed(t, db, user, "removed")
	require.NoError(t, err)
	require.Equal(t, "w2 simulator", at)
}

// A real fleet that is full needs more workers, however empty the simulated one is.
func TestScalingLooksAtTheEnginesThatTakeNewSessions(t *testing.T) {
	db := modelstest.DB(t)
	user, _ := modelstest.Ready(t, db)
	scaling := func() (s placement.Scaling) {
		s, err := models.UpdateScaling(t.Context(), db, time.Now(), func(pgx.Tx, placement.Scaling) error { return nil })
		require.NoError(t, err)
		return s
	}
	require.InDelta(t, 0.001, scaling().Utilization, 1e-6)
	realWorker(t, db, "whatsapp-1", 1)
	require.Zero(t, scaling().Utilization)
	_, err := placed(t, db, user, "real")
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `UPDATE sessions SET worker_id = NULL WHERE engine = 'simulator'`)
	require.NoError(t, err)
	require.InDelta(t, 1, scaling().Utilization, 1e-6, "a simulated session without room is none of its")
	_, err = db.Pool.Exec(t.Context(), `UPDATE sessions SET worker_id = NULL`)
	require.NoError(t, err)
	require.Contains(t, scaling().Reason, "no room for 1 session")
}
