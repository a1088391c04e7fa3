package models_test

import (
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

// register is one registration; the code is empty if it succeeded.
func register(t *testing.T, db *models.DB, r wire.Register, resumed bool) (term int64, code string) {
	t.Helper()
	if r.Endpoint == "" {
		r.Endpoint = "http://" + r.WorkerID
	}
	if r.MaxSessions == 0 {
		r.MaxSessions = 50
	}
	r.Engine = "simulator"
	err := db.InPgxTx(t.Context(), func(tx pgx.Tx) (err error) {
		term, err = models.RegisterWorker(t.Context(), tx, r, time.Hour, resumed)
		return err
	})
	if err != nil {
		return 0, fault.Code(err)
	}
	return term, ""
}

// endLease lets a worker's lease be over by PostgreSQL's clock.
func endLease(t *testing.T, db *models.DB, ids ...string) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), `UPDATE workers SET lease_expires_at = now() - interval '1 ms' WHERE id = ANY($1)`, ids)
	require.NoError(t, err)
}

// takeHeartbeats makes as if heartbeats had been taken for longer than a lease.
func takeHeartbeats(t *testing.T, db *models.DB) {
	t.Helper()
	require.NoError(t, models.Beat(t.Context(), db.Pool, 12*time.Second))
	_, err := db.Pool.Exec(t.Context(), `UPDATE intake SET since = now() - lease`)
	require.NoError(t, err)
}

func expire(t *testing.T, db *models.DB) *models.Failover {
	t.Helper()
	f, err := models.ExpireLeases(t.Context(), db)
	require.NoError(t, err)
	return f
}

func workerRow(t *testing.T, db *models.DB) string {
	t.Helper()
	return modelstest.Scalar[string](t, db, `SELECT concat_ws(' ', status, 'term', term, 'flaps', flaps,
		CASE WHEN resting_until > now() THEN 'rests ' || round(extract(epoch FROM resting_until - now())) END) FROM workers WHERE id = 'w1'`)
}

func TestRegistering(t *testing.T) {
	db := modelstest.DB(t)
	term, code := register(t, db, wire.Register{WorkerID: "w1"}, false)
	require.Equal(t, int64(1), term)
	require.Empty(t, code)

	_, code = register(t, db, wire.Register{WorkerID: "w1"}, false)
	require.Equal(t, "worker_live", code, "somebody else under the same ID")
	_, code = register(t, db, wire.Register{WorkerID: "w1", PreviousTerm: 7}, true)
	require.Equal(t, "worker_live", code, "the proof is of another term")
	term, code = register(t, db, wire.Register{WorkerID: "w1", PreviousTerm: 1}, true)
	require.Empty(t, code, "the same process, which holds nothing any more")
	require.Equal(t, int64(2), term)
	require.Equal(t, "ONLINE term 2 flaps 0", workerRow(t, db), "an outage of ours is no flap")

	endLease(t, db, "w1")
	term, _ = register(t, db, wire.Register{WorkerID: "w1"}, false)
	require.Greater(t, term, int64(2))
	require.Equal(t, "ONLINE term 4 flaps 1", workerRow(t, db), "it is back before the tick has noticed")

	_, code = register(t, db, wire.Register{WorkerID: "w2", Endpoint: "http://w1"}, false)
	require.NotEmpty(t, code, "two live workers at one endpoint")
	endLease(t, db, "w1")
	_, code = register(t, db, wire.Register{WorkerID: "w2", Endpoint: "http://w1"}, false)
	require.Empty(t, code)
	require.Contains(t, workerRow(t, db), "OFFLINE term 5 flaps 2 rests 30")
	late, err := models.RenewLease(t.Context(), db, "w1", wire.Heartbeat{Status: "online", Term: 4}, time.Hour)
	require.NoError(t, err)
	require.False(t, late, "a late heartbeat must not bring back a worker whose place is taken")
}

func TestARemovedWorkerComesBackOnlyAnew(t *testing.T) {
	db := modelstest.DB(t)
	register(t, db, wire.Register{WorkerID: "w1"}, false)
	removed, err := models.RemoveWorker(t.Context(), db.Pool, "w1")
	require.NoError(t, err)
	require.True(t, removed)
	again, err := models.RemoveWorker(t.Context(), db.Pool, "w1")
	require.NoError(t, err)
	require.False(t, again)
	renewed, err := models.RenewLease(t.Context(), db, "w1", wire.Heartbeat{Status: "online", Term: 1}, time.Hour)
	require.NoError(t, err)
	require.False(t, renewed, "its lease must run out")
	_, code := register(t, db, wire.Register{WorkerID: "w1"}, false)
	require.Equal(t, "worker_live", code, "until then it may still hold sessions")
	_, code = register(t, db, wire.Register{WorkerID: "w1", PreviousTerm: 1}, true)
	require.Equal(t, "worker_removed", code)
	endLease(t, db, "w1")
	_, code = register(t, db, wire.Register{WorkerID: "w1", PreviousTerm: 1}, true)
	require.Equal(t, "worker_removed", code)
	term, code := register(t, db, wire.Register{WorkerID: "w1"}, false)
	require.Empty(t, code)
	require.Equal(t, int64(3), term, "terms go on growing, or an old secret would be good again")
}

func TestGoodbyeEndsTheTerm(t *testing.T) {
	db := modelstest.DB(t)
	register(t, db, wire.Register{WorkerID: "w1"}, false)
	said, err := models.RenewLease(t.Context(), db, "w1", wire.Heartbeat{Status: "offline", Term: 1}, time.Hour)
	require.NoError(t, err)
	require.True(t, said)
	late, err := models.RenewLease(t.Context(), db, "w1", wire.Heartbeat{Status: "online", Term: 1}, time.Hour)
	require.NoError(t, err)
	require.False(t, late, "a heartbeat that the goodbye has overtaken")
	require.Equal(t, "OFFLINE term 2 flaps 0", workerRow(t, db))
	_, code := register(t, db, wire.Register{WorkerID: "w1"}, false)
	require.Empty(t, code, "nobody has to wait for who has left")
	require.Equal(t, "ONLINE term 3 flaps 0", workerRow(t, db), "a restart is no flap")
}

func TestMaintenanceOutlivesTerms(t *testing.T) {
	db := modelstest.DB(t)
	register(t, db, wire.Register{WorkerID: "w1"}, false)
	yes, no := true, false
	ok, err := models.ChangeWorker(t.Context(), db.Pool, "w1", models.WorkerChange{Maintenance: &yes})
	require.NoError(t, err)
	require.True(t, ok)
	_, err = models.RenewLease(t.Context(), db, "w1", wire.Heartbeat{Status: "online", Term: 1}, time.Hour)
	require.NoError(t, err)
	require.Contains(t, workerRow(t, db), "MAINTENANCE")
	endLease(t, db, "w1")
	takeHeartbeats(t, db)
	expire(t, db)
	require.Contains(t, workerRow(t, db), "OFFLINE")
	register(t, db, wire.Register{WorkerID: "w1"}, false)
	require.Contains(t, workerRow(t, db), "MAINTENANCE")
	_, err = models.ChangeWorker(t.Context(), db.Pool, "w1", models.WorkerChange{Maintenance: &no})
	require.NoError(t, err)
	require.Contains(t, workerRow(t, db), "ONLINE")
}

func TestLeasesLapseOnlyIfTheyCouldBeRenewed(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 10)
	endLease(t, db, "w1")
	where := func() string {
		return modelstest.Scalar[string](t, db, `SELECT worker_id || ' ' || epoch FROM sessions WHERE uid = $1`, s.UID)
	}
	require.True(t, expire(t, db).Waiting, "no API has ever run")
	require.NoError(t, models.Beat(t.Context(), db.Pool, 12*time.Second))
	require.True(t, expire(t, db).Waiting, "one runs, for a moment")
	_, err := db.Pool.Exec(t.Context(), `UPDATE intake SET since = now() - lease * 0.9`)
	require.NoError(t, err)
	require.True(t, expire(t, db).Waiting, "for less than a lease")
	_, err = db.Pool.Exec(t.Context(), `UPDATE intake SET since = now() - lease * 5, seen = now() - lease / 2`)
	require.NoError(t, err)
	require.True(t, expire(t, db).Waiting, "none runs any more")
	require.NoError(t, models.Beat(t.Context(), db.Pool, 12*time.Second))
	require.True(t, expire(t, db).Waiting, "after a break the time counts anew")
	require.Equal(t, "w1 1", where())

	_, err = db.Pool.Exec(t.Context(), `UPDATE intake SET since = now() - lease`)
	require.NoError(t, err)
	f := expire(t, db)
	require.False(t, f.Waiting)
	require.Len(t, f.Lapsed, 1)
	require.Equal(t, "w2 2", where())
	require.Empty(t, expire(t, db).Lapsed, "once")
}

func TestFlapping(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	for i, want := range []string{"flaps 1", "flaps 2 rests 30", "flaps 3 rests 60"} {
		_, code := register(t, db, wire.Register{WorkerID: "w1"}, false)
		require.Empty(t, code)
		endLease(t, db, "w1")
		require.Len(t, expire(t, db).Lapsed, 1, "lapse %d", i)
		require.Contains(t, workerRow(t, db), want)
	}
	modelstest.Worker(t, db, "w1", 10)
	modelstest.Worker(t, db, "w2", 1)
	u := modelstest.User(t, db)
	require.Equal(t, "w2", *modelstest.Session(t, db, u, "a").WorkerID, "others come first")
	require.Equal(t, "w1", *modelstest.Session(t, db, u, "b").WorkerID, "but it is better than nobody")
	_, err := db.Pool.Exec(t.Context(), `UPDATE workers SET lapsed_at = now() - interval '11 minutes', resting_until = NULL WHERE id = 'w1'`)
	require.NoError(t, err)
	endLease(t, db, "w1")
	expire(t, db)
	require.Equal(t, "OFFLINE term 8 flaps 1", workerRow(t, db), "long ago is forgiven")
}

func TestWhatAWorkerHolds(t *testing.T) {
	db := modelstest.DB(t)
	u, s := modelstest.Ready(t, db)
	other := modelstest.Session(t, db, u, "other")
	held := func(list ...wire.HeldSession) models.Holding {
		h, err := models.CompareHeld(t.Context(), db, "w1", 1, list)
		require.NoError(t, err)
		return h
	}
	at := func(s *models.Session, epoch int64) wire.HeldSession {
		return wire.HeldSession{SessionID: s.UID.String(), Epoch: epoch, Status: "connected"}
	}
	require.Equal(t, models.Holding{}, held(), "nothing is confirmed, nothing is missed")
	require.Equal(t, models.Holding{}, held(at(s, 1), at(other, 1)))
	require.Equal(t, []string{s.UID.String(), "nonsense"}, held(at(s, 2), at(other, 1), wire.HeldSession{SessionID: "nonsense", Epoch: 1}).Drop)

	for _, one := range []*models.Session{s, other} {
		h, err := models.ConfirmHeld(t.Context(), db, one, "w1", 1)
		require.NoError(t, err)
		require.True(t, h.Wanted)
	}
	require.Zero(t, held(at(s, 1)).Lost, "it may have been created after the list was written")
	_, err := db.Pool.Exec(t.Context(), `UPDATE sessions SET held_at = now() - interval '1 minute'`)
	require.NoError(t, err)
	require.Equal(t, 1, held(at(s, 1)).Lost)
	_, err = db.Pool.Exec(t.Context(), `DELETE FROM jobs`)
	require.NoError(t, err)
	jobs, err := models.CreateMissing(t.Context(), db.Pool, 10)
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	require.Equal(t, other.UID, modelstest.Scalar[uuid.UUID](t, db, `SELECT session_uid FROM jobs WHERE id = $1`, jobs[0]))
	jobs, err = models.CreateMissing(t.Context(), db.Pool, 10)
	require.NoError(t, err)
	require.Empty(t, jobs, "once")
}
