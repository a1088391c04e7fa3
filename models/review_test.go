package models_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// What a worker released counts for the process that released it. If another process has come in its place meanwhile and
// holds the session at the same epoch, nobody has released that.
func TestAReleaseCountsForItsTerm(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 10)
	_, err := move(t, db, s.UID, "w2")
	require.NoError(t, err)
	// w1 confirms the release in term 1, leaves, and is started anew. A creation that was under way finds the new process.
	_, err = models.RenewLease(t.Context(), db, "w1", wire.Heartbeat{Status: "offline", Term: 1}, time.Hour)
	require.NoError(t, err)
	term, code := register(t, db, wire.Register{WorkerID: "w1"}, false)
	require.Empty(t, code)
	h, err := models.ConfirmHeld(t.Context(), db, s, "w1", term)
	require.NoError(t, err)
	require.True(t, h.Wanted)
	// Only now is the transaction that follows the release's confirmation.
	moved, err := models.FinishMove(t.Context(), db, s.UID, 1, 1, models.MoveAdmin)
	require.NoError(t, err)
	require.False(t, moved.OK, "w1 holds it, in term %d, and it is given to %s", term, moved.Worker)
}

// A worker comes back under its ID with another engine: what is linked by the former one is not its.
func TestAWorkerThatComesBackWithAnotherEngine(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	_, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 10)
	_, err := models.RenewLease(t.Context(), db, "w1", wire.Heartbeat{Status: "offline", Term: 1}, time.Hour)
	require.NoError(t, err)
	require.NoError(t, db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		_, err := models.RegisterWorker(t.Context(), tx, wire.Register{WorkerID: "w1", Endpoint: "http://w1", MaxSessions: 10, Engine: "whatsapp"}, time.Hour, false)
		return err
	}))
	jobs, err := models.CreateMissing(t.Context(), db.Pool, 10)
	require.NoError(t, err)
	require.Empty(t, jobs, "a simulated session is created on WhatsApp")
	expire(t, db)
	require.Regexp(t, `^w2 epoch [23] `, stateOf(t, db, s.UID))
}

// Sessions of an engine that nobody has any more do not keep others waiting.
func TestTheHomelessOfOneEngineDoNotKeepOthersWaiting(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	user, s := modelstest.Ready(t, db)
	_, err := db.Pool.Exec(t.Context(), `INSERT INTO sessions (uid, id, user_id, name, engine, epoch) SELECT
		('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'x' || n, $1, 'x', 'whatsapp', 2 FROM generate_series(1, 5000) n`, user.ID)
	require.NoError(t, err)
	endLease(t, db, "w1")
	expire(t, db)
	modelstest.Worker(t, db, "w2", 10)
	for range 3 {
		expire(t, db)
	}
	require.Contains(t, stateOf(t, db, s.UID), "w2")
}

// A batch of events that waits for a busy session must not cost its worker the lease.
func TestHeartbeatsDoNotWaitForEvents(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	busy, err := db.Pool.Begin(t.Context()) // as the deletion of a session with a long queue
	require.NoError(t, err)
	defer func() { _ = busy.Rollback(context.Background()) }()
	_, err = busy.Exec(t.Context(), `UPDATE sessions SET updated_at = now() WHERE uid = $1`, s.UID)
	require.NoError(t, err)
	stored := make(chan error, 1)
	go func() {
		_, err := models.IngestEvents(context.Background(), db, quiet, "w1", wire.EventBatch{Term: 1, Events: []wire.Event{{EventID: uuid.NewString(),
			SessionID: s.UID.String(), Epoch: 1, Seq: 1, Type: wire.EventSessionStatus, Timestamp: time.Now(), Data: []byte(`{"status":"reconnecting"}`)}}})
		stored <- err
	}()
	waiting := func() bool {
		return modelstest.Scalar[int64](t, db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	}
	require.Eventually(t, waiting, 10*time.Second, 5*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // the worker's patience
	defer cancel()
	_, err = models.RenewLease(ctx, db, "w1", wire.Heartbeat{Status: "online", Term: 1}, time.Hour)
	require.NoError(t, busy.Rollback(context.Background()))
	require.NoError(t, <-stored)
	require.NoError(t, err)
}

// One busy session must not keep the sessions of a dead worker, and all placement, waiting.
func TestFailoverDoesNotWaitForABusySession(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	user, s := modelstest.Ready(t, db)
	other := modelstest.Session(t, db, user, "other")
	modelstest.Worker(t, db, "w2", 10)
	endLease(t, db, "w1")
	busy, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = busy.Rollback(context.Background()) }()
	_, err = busy.Exec(t.Context(), `UPDATE sessions SET updated_at = now() WHERE uid = $1`, s.UID)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err = models.ExpireLeases(ctx, db)
	require.NoError(t, err)
	require.Contains(t, stateOf(t, db, other.UID), "w2 epoch 2")
	require.NoError(t, busy.Rollback(t.Context()))
	expire(t, db)
	require.Contains(t, stateOf(t, db, s.UID), "w2 epoch 2", "at the next look")
}

// Who has released a session and is still alive is better than nobody, also if it is full with it.
func TestAMoveWithoutTargetReturnsToAFullWorker(t *testing.T) {
	db := modelstest.DB(t)
	user := modelstest.User(t, db)
	modelstest.Worker(t, db, "w1", 1)
	s := modelstest.Session(t, db, user, "s")
	modelstest.Worker(t, db, "w2", 1)
	_, err := move(t, db, s.UID, "w2")
	require.NoError(t, err)
	endLease(t, db, "w2")
	moved, err := models.FinishMove(t.Context(), db, s.UID, 1, 1, models.MoveAdmin)
	require.NoError(t, err)
	require.Equal(t, "w1", moved.Worker)
}

// The room that the target has is looked at when it is named, too.
func TestAMoveToAFullWorkerIsRefused(t *testing.T) {
	db := modelstest.DB(t)
	user, s := modelstest.Ready(t, db)
	other := modelstest.Session(t, db, user, "other")
	modelstest.Worker(t, db, "w2", 1)
	require.Equal(t, "w1", *other.WorkerID)
	_, err := move(t, db, s.UID, "w2")
	require.NoError(t, err)
	_, err = move(t, db, other.UID, "w2")
	require.Equal(t, "worker_not_ready", fault.Code(err))
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM sessions WHERE moving_to = 'w2' AND uid = $1`, other.UID))
}

// Removed workers are no workers that are away.
func TestRemovedWorkersAreNotCountedAsOffline(t *testing.T) {
	db := modelstest.DB(t)
	modelstest.Worker(t, db, "w1", 10)
	modelstest.Worker(t, db, "w2", 10)
	_, err := models.RemoveWorker(t.Context(), db.Pool, "w2")
	require.NoError(t, err)
	endLease(t, db, "w2")
	three := 3
	_, err = models.ChangeWorker(t.Context(), db.Pool, "w1", models.WorkerChange{SessionCap: &three})
	require.NoError(t, err)
	f, err := models.FleetOf(t.Context(), db.Pool)
	require.NoError(t, err)
	require.Equal(t, "map[online:1] 3", fmt.Sprint(f.Workers, f.Capacity))
}

// A worker dies while a session of its moves: the room that is reserved for that session is that session's.
func TestAReservationSurvivesTheDeathOfTheFormerWorker(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	_, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 1)
	_, err := move(t, db, s.UID, "w2")
	require.NoError(t, err)
	endLease(t, db, "w1")
	expire(t, db)
	require.Equal(t, "w2 epoch 2 RECONNECTING migrating", stateOf(t, db, s.UID))
}

// Whatever is said of an epoch that is over changes nothing, by the same worker too. Each line falls if its condition goes.
func TestWhatIsSaidOfAnEpochThatIsOver(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db) // w1, epoch 1
	modelstest.Worker(t, db, "w2", 10)
	raise := func(epoch int64) { require.NoError(t, models.RaiseEpoch(t.Context(), db.Pool, s.UID, "w1", epoch)) }
	epoch := func() int64 {
		return modelstest.Scalar[int64](t, db, `SELECT epoch FROM sessions WHERE uid = $1`, s.UID)
	}
	reserve := func(epoch int64) error {
		return db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
			_, err := models.ReserveMove(t.Context(), tx, s.UID, epoch, "")
			return err
		})
	}
	raise(1)
	require.EqualValues(t, 2, epoch())
	raise(1)
	require.EqualValues(t, 2, epoch(), "two jobs were told of the same epoch")
	require.NoError(t, models.RaiseEpoch(t.Context(), db.Pool, s.UID, "w2", 2))
	require.EqualValues(t, 2, epoch(), "it is not w2's")
	h, err := models.ConfirmHeld(t.Context(), db, s, "w1", 1) // at epoch 1
	require.NoError(t, err)
	require.False(t, h.Wanted, "it was released at epoch 1")
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT held_term FROM sessions WHERE uid = $1`, s.UID))
	s.Epoch = 2
	h, err = models.ConfirmHeld(t.Context(), db, s, "w2", 1)
	require.NoError(t, err)
	require.False(t, h.Wanted, "it is not w2's")
	require.Equal(t, "session_not_running", fault.Code(reserve(1)))
	require.NoError(t, reserve(2))
	raise(2)
	require.EqualValues(t, 2, epoch(), "while it moves, its release is meant")

	require.NoError(t, db.InTx(t.Context(), deleting(s.UID)))
	require.Equal(t, "session_not_running", fault.Code(reserve(2)))
	moved, err := models.FinishMove(t.Context(), db, s.UID, 2, 1, models.MoveAdmin)
	require.NoError(t, err)
	require.False(t, moved.OK, "it was deleted on the move")
	h, err = models.ConfirmHeld(t.Context(), db, s, "w1", 1)
	require.NoError(t, err)
	require.False(t, h.Wanted)
	require.Contains(t, stateOf(t, db, s.UID), "w1 epoch 2 DISCONNECTED", "its deletion looks after it")
}

// A worker that was removed by force keeps its sessions while its lease lives, also when the tick has others to give away.
func TestAForciblyRemovedWorkerKeepsItsSessionsWhileOthersAreGivenAway(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	user, s := modelstest.Ready(t, db) // w1
	modelstest.Worker(t, db, "w2", 10)
	other := modelstest.Session(t, db, user, "other")
	require.Equal(t, "w2", *other.WorkerID)
	modelstest.Worker(t, db, "w3", 10)
	_, err := models.RemoveWorker(t.Context(), db.Pool, "w1")
	require.NoError(t, err)
	endLease(t, db, "w2")
	require.Equal(t, 1, expire(t, db).Placed)
	require.Contains(t, stateOf(t, db, s.UID), "w1 epoch 1", "it may be connected still")
	require.Contains(t, stateOf(t, db, other.UID), "w3 epoch 2")
}

// Sessions that are made at once are counted one after another.
func TestSessionsMadeAtOnceDoNotOverfill(t *testing.T) {
	db := modelstest.DB(t)
	modelstest.Worker(t, db, "w1", 3)
	modelstest.Worker(t, db, "w2", 3)
	users := make([]*models.User, 16) // of different tenants: one tenant's requests wait for each other anyway
	for i := range users {
		users[i] = modelstest.User(t, db)
	}
	inParallel(t, len(users), func(i int) error {
		s := &models.Session{UID: models.NewID(), ID: fmt.Sprintf("new%d", i), UserID: users[i].ID, Name: "new", CreatedAt: time.Now(), UpdatedAt: time.Now()}
		if err := db.InTx(t.Context(), creating(s)); fault.Code(err) != models.ErrNoWorker.Code {
			return err
		}
		return nil
	})
	require.Equal(t, "3 3", modelstest.Scalar[string](t, db, `SELECT string_agg(n::text, ' ') FROM (SELECT count(*) AS n FROM sessions GROUP BY worker_id) c`))
}
