package models_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/limits"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// stateOf is what matters of a session here.
func stateOf(t *testing.T, db *models.DB, uid uuid.UUID) string {
	t.Helper()
	return modelstest.Scalar[string](t, db, `SELECT concat_ws(' ', coalesce(worker_id, 'nobody'), 'epoch', epoch, status, reason) FROM sessions WHERE uid = $1`, uid)
}

// events lists a session's events: type and data.
func events(t *testing.T, db *models.DB, uid uuid.UUID) string {
	t.Helper()
	return modelstest.Scalar[string](t, db, `SELECT coalesce(string_agg(concat_ws(' ', type, data->>'status', data->>'from', data->>'to', data->>'reason'), ', ' ORDER BY id), '')
		FROM events WHERE session_uid = $1`, uid)
}

func openJobs(t *testing.T, db *models.DB, kind string) int64 {
	t.Helper()
	return modelstest.Scalar[int64](t, db, `SELECT count(*) FROM jobs WHERE kind = $1 AND status IN ('QUEUED', 'RUNNING')`, kind)
}

func TestFailover(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	user, linked := modelstest.Ready(t, db) // on w1
	fresh := modelstest.Session(t, db, user, "fresh")
	banned := modelstest.Session(t, db, user, "banned")
	gone := modelstest.Session(t, db, user, "gone")
	modelstest.SetStatus(t, db, banned.UID, models.SessionError)
	_, err := db.Pool.Exec(t.Context(), `UPDATE sessions SET reason = 'banned' WHERE uid = $1`, banned.UID)
	require.NoError(t, err)
	require.NoError(t, db.InTx(t.Context(), deleting(gone.UID)))
	modelstest.Worker(t, db, "w2", 10)
	modelstest.Worker(t, db, "w3", 10)
	endLease(t, db, "w1")

	f := expire(t, db)
	require.Equal(t, 3, f.Freed)
	require.Equal(t, 3, f.Placed)
	require.Len(t, f.Jobs, 3)
	require.Regexp(t, `^w[23] epoch 2 RECONNECTING migrating$`, stateOf(t, db, linked.UID))
	require.Regexp(t, `^w[23] epoch 2 INIT migrating$`, stateOf(t, db, fresh.UID))
	require.Regexp(t, `^w[23] epoch 2 ERROR banned$`, stateOf(t, db, banned.UID), "the network's verdict stands")
	require.Regexp(t, `^w1 epoch 1 DISCONNECTED`, stateOf(t, db, gone.UID), "its deletion looks after it")
	require.Equal(t, "session.status reconnecting migrating", events(t, db, linked.UID))
	require.Empty(t, events(t, db, banned.UID))
	require.Equal(t, int64(1), modelstest.Scalar[int64](t, db, `SELECT count(*) FROM system_logs WHERE message = 'worker.offline' AND worker_id = 'w1'`))

	s, err := models.SessionByUID(t.Context(), db, linked.UID)
	require.NoError(t, err)
	for range 2 {
		h, err := models.ConfirmHeld(t.Context(), db, s, *s.WorkerID, 1)
		require.NoError(t, err)
		require.True(t, h.Wanted)
	}
	require.Equal(t, "session.status reconnecting migrating, session.migrated w1 "+*s.WorkerID+" offline", events(t, db, linked.UID), "told once")
	h, err := models.ConfirmHeld(t.Context(), db, linked, "w1", 1)
	require.NoError(t, err)
	require.False(t, h.Wanted, "the old worker confirms late")
}

// Workers of a dead fleet come back under other names: what waits is spread over them, not given to the first.
func TestWithoutRoomSessionsWait(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	user, first := modelstest.Ready(t, db)
	for i := range 19 {
		modelstest.Session(t, db, user, fmt.Sprintf("s%d", i))
	}
	endLease(t, db, "w1")
	f := expire(t, db)
	require.Equal(t, 20, f.Freed)
	require.Zero(t, f.Placed)
	require.Equal(t, "nobody epoch 2 RECONNECTING no_worker_available", stateOf(t, db, first.UID))
	require.Zero(t, openJobs(t, db, models.KindMigrateSession))
	expire(t, db)
	require.Equal(t, "nobody epoch 2 RECONNECTING no_worker_available", stateOf(t, db, first.UID), "waiting changes nothing")

	modelstest.Worker(t, db, "w2", 50)
	f = expire(t, db)
	require.Equal(t, 5, f.Placed, "a tenth of its room at once")
	modelstest.Worker(t, db, "w3", 50)
	for range 10 {
		expire(t, db)
	}
	require.Equal(t, "10 10", modelstest.Scalar[string](t, db, `SELECT string_agg(n::text, ' ') FROM (SELECT count(*) AS n FROM sessions GROUP BY worker_id) c`))
	require.Equal(t, int64(20), openJobs(t, db, models.KindMigrateSession))
	require.Contains(t, stateOf(t, db, first.UID), "epoch 3 RECONNECTING migrating")
	s, err := models.SessionByUID(t.Context(), db, first.UID)
	require.NoError(t, err)
	_, err = models.ConfirmHeld(t.Context(), db, s, *s.WorkerID, 1)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(events(t, db, first.UID), "session.migrated w1 "+*s.WorkerID+" offline"), events(t, db, first.UID))
}

func TestAWorkerThatLeavesNeedsNoLapse(t *testing.T) {
	db := modelstest.DB(t) // heartbeats cannot be taken: nobody lapses
	_, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 10)
	_, err := models.RenewLease(t.Context(), db, "w1", wire.Heartbeat{Status: "offline", Term: 1}, time.Hour)
	require.NoError(t, err)
	require.Equal(t, 1, expire(t, db).Placed)
	require.Equal(t, "w2 epoch 2 RECONNECTING migrating", stateOf(t, db, s.UID))
}

func TestRemovedByForceKeepsItsSessionsUntilItsLeaseIsOver(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	_, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 10)
	_, err := models.RemoveWorker(t.Context(), db.Pool, "w1")
	require.NoError(t, err)
	require.Zero(t, expire(t, db).Placed)
	require.Contains(t, stateOf(t, db, s.UID), "w1 epoch 1")
	endLease(t, db, "w1")
	require.Equal(t, 1, expire(t, db).Placed)
	require.Contains(t, stateOf(t, db, s.UID), "w2 epoch 2")
}

func TestSessionsStayWithTheirNetwork(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	_, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 10)
	_, err := db.Pool.Exec(t.Context(), `UPDATE workers SET engine = 'whatsapp' WHERE id = 'w2'`)
	require.NoError(t, err)
	endLease(t, db, "w1")
	expire(t, db)
	require.Contains(t, stateOf(t, db, s.UID), "nobody epoch 2")
}

// move begins to move a session and answers the target.
func move(t *testing.T, db *models.DB, uid uuid.UUID, to string) (string, error) {
	t.Helper()
	s, err := models.SessionByUID(t.Context(), db, uid)
	require.NoError(t, err)
	var target string
	err = db.InPgxTx(t.Context(), func(tx pgx.Tx) (err error) {
		target, err = models.MoveSession(t.Context(), tx, models.NewID(), s, to, models.MoveAdmin, nil)
		return err
	})
	return target, err
}

func TestMove(t *testing.T) {
	db := modelstest.DB(t)
	user, s := modelstest.Ready(t, db)
	_, err := move(t, db, s.UID, "")
	require.Equal(t, "no_worker_available", fault.Code(err))
	_, err = move(t, db, s.UID, "w1")
	require.Equal(t, "already_there", fault.Code(err))
	_, err = move(t, db, s.UID, "nobody")
	require.Equal(t, "worker_not_ready", fault.Code(err))

	modelstest.Worker(t, db, "w2", 1)
	target, err := move(t, db, s.UID, "")
	require.NoError(t, err)
	require.Equal(t, "w2", target)
	_, err = move(t, db, s.UID, "")
	require.Equal(t, "session_migrating", fault.Code(err))
	require.Equal(t, "w1 epoch 1 CONNECTED", stateOf(t, db, s.UID), "it goes on where it is")
	another := modelstest.Session(t, db, user, "another")
	require.Equal(t, "w1", *another.WorkerID, "the room at w2 is reserved")
	_, err = move(t, db, another.UID, "w2")
	require.Equal(t, "worker_not_ready", fault.Code(err))

	stale, err := models.FinishMove(t.Context(), db, s.UID, 7, 1, models.MoveAdmin)
	require.NoError(t, err)
	require.False(t, stale.OK, "of another epoch")
	moved, err := models.FinishMove(t.Context(), db, s.UID, 1, 1, models.MoveAdmin)
	require.NoError(t, err)
	require.Equal(t, "w2", moved.Worker)
	require.Equal(t, "w2 epoch 2 RECONNECTING migrating", stateOf(t, db, s.UID))
	again, err := models.FinishMove(t.Context(), db, s.UID, 1, 1, models.MoveAdmin)
	require.NoError(t, err)
	require.False(t, again.OK)
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM sessions WHERE moving_to IS NOT NULL`))
}

func TestMoveWhoseTargetDies(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	_, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 1)
	_, err := move(t, db, s.UID, "w2")
	require.NoError(t, err)
	endLease(t, db, "w2")
	expire(t, db)
	modelstest.Worker(t, db, "w3", 1)
	moved, err := models.FinishMove(t.Context(), db, s.UID, 1, 1, models.MoveAdmin)
	require.NoError(t, err)
	require.Equal(t, "w3", moved.Worker)

	endLease(t, db, "w3")
	expire(t, db)
	require.Equal(t, "w1 epoch 3 RECONNECTING migrating", stateOf(t, db, s.UID), "back where it came from")
	back, err := models.SessionByUID(t.Context(), db, s.UID)
	require.NoError(t, err)
	_, err = models.ConfirmHeld(t.Context(), db, back, "w1", 1)
	require.NoError(t, err)
	require.NotContains(t, events(t, db, s.UID), "session.migrated", "to where it was before")
}

func TestReservedRoomIsGivenBack(t *testing.T) {
	db := modelstest.DB(t)
	user, s := modelstest.Ready(t, db)
	modelstest.Worker(t, db, "w2", 1)
	_, err := move(t, db, s.UID, "w2")
	require.NoError(t, err)
	n, err := models.FreeReservations(t.Context(), db.Pool)
	require.NoError(t, err)
	require.Zero(t, n, "somebody works on it")
	_, err = db.Pool.Exec(t.Context(), `UPDATE jobs SET status = 'FAILED'`)
	require.NoError(t, err)
	n, err = models.FreeReservations(t.Context(), db.Pool)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, db.InTx(t.Context(), deleting(s.UID)))
	require.Equal(t, "w2", *modelstest.Session(t, db, user, "another").WorkerID)
}

func TestDrainIsBounded(t *testing.T) {
	db := modelstest.DB(t)
	user, _ := modelstest.Ready(t, db)
	for i := range 9 {
		modelstest.Session(t, db, user, fmt.Sprintf("s%d", i))
	}
	modelstest.Worker(t, db, "w2", 6)
	look := func(most int) (models.Drained, int) {
		d, jobs, err := models.Drain(t.Context(), db, "w1", models.MoveDrain, most)
		require.NoError(t, err)
		return d, len(jobs)
	}
	d, jobs := look(4)
	require.Equal(t, models.Drained{Remaining: 10, Moving: 4}, d)
	require.Equal(t, 4, jobs)
	d, jobs = look(4)
	require.Equal(t, models.Drained{Remaining: 10, Moving: 4}, d)
	require.Zero(t, jobs)
	d, jobs = look(64)
	require.Equal(t, models.Drained{Remaining: 10, Moving: 6, Waiting: 4}, d, "there is room for six")
	require.Equal(t, 2, jobs)
}

func TestRebalanceLeavesLatelyMovedOnesAlone(t *testing.T) {
	db := modelstest.DB(t)
	user := modelstest.User(t, db)
	modelstest.Worker(t, db, "w1", 10)
	for i := range 10 {
		modelstest.Session(t, db, user, fmt.Sprintf("s%d", i))
	}
	modelstest.Worker(t, db, "w2", 100)
	_, err := db.Pool.Exec(t.Context(), `UPDATE sessions SET moved_at = now() - interval '1 minute'`)
	require.NoError(t, err)
	moves, jobs, err := models.Rebalance(t.Context(), db)
	require.NoError(t, err)
	require.Len(t, moves, 1, "ten of ten: one too many")
	require.Empty(t, jobs)
	_, err = db.Pool.Exec(t.Context(), `UPDATE sessions SET moved_at = now() - interval '11 minutes'`)
	require.NoError(t, err)
	_, jobs, err = models.Rebalance(t.Context(), db)
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	_, err = db.Pool.Exec(t.Context(), `UPDATE workers SET cpu_usage = 95 WHERE id = 'w1'`)
	require.NoError(t, err)
	moves, _, err = models.Rebalance(t.Context(), db)
	require.NoError(t, err)
	require.LessOrEqual(t, len(moves), 5)
}

func TestEscapeFromTrouble(t *testing.T) {
	db := modelstest.DB(t)
	user, first := modelstest.Ready(t, db)
	for i := range 3 {
		modelstest.Session(t, db, user, fmt.Sprintf("s%d", i))
	}
	escape := func() int {
		jobs, err := models.EscapeTrouble(t.Context(), db, 30*time.Second)
		require.NoError(t, err)
		return len(jobs)
	}
	trouble := func(ago string) {
		_, err := db.Pool.Exec(t.Context(), `UPDATE sessions SET status = 'RECONNECTING', trouble_at = now() - $1::interval`, ago)
		require.NoError(t, err)
	}
	trouble("20 seconds")
	modelstest.Worker(t, db, "w2", 10)
	require.Zero(t, escape(), "it may pass")
	trouble("40 seconds")
	require.Equal(t, 4, escape())
	require.Zero(t, escape(), "once")
	require.Equal(t, models.ProblemNetwork, modelstest.Scalar[string](t, db, `SELECT problem FROM workers WHERE id = 'w1' AND resting_until > now()`))
	_, err := models.FinishMove(t.Context(), db, first.UID, 1, 1, models.MoveNetwork)
	require.NoError(t, err)
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM sessions WHERE worker_id = 'w2' AND trouble_at IS NOT NULL`), "there it has a new start")
}

// A worker whose version the network refuses keeps no session that could connect elsewhere, and gets no new one while others have room.
func TestEscapeFromAnOutdatedWorker(t *testing.T) {
	r := newReporter(t) // whose session is at w1
	tenant, err := models.UserByID(t.Context(), r.db, r.session.UserID)
	require.NoError(t, err)
	escape := func() int {
		r.exec(`UPDATE sessions SET trouble_at = trouble_at - interval '40 seconds'`)
		jobs, err := models.EscapeTrouble(t.Context(), r.db, 30*time.Second)
		require.NoError(t, err)
		return len(jobs)
	}
	problem := func() string {
		_, err := models.SetProblem(t.Context(), r.db.Pool, "w1", r.worker.Term, "", false)
		require.NoError(t, err)
		return modelstest.Scalar[string](t, r.db, `SELECT coalesce(problem, '') FROM workers WHERE id = 'w1'`)
	}
	other := modelstest.Session(t, r.db, tenant, "unscanned")
	r.exec(`UPDATE sessions SET status = 'DISCONNECTED', reason = 'qr_timeout' WHERE id = 'unscanned'`)
	r.exec(`UPDATE sessions SET proxy = 'sealed'`) // a proxy has no part in it
	require.Empty(t, problem())
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"), r.status(wire.StatusError, "client_outdated", "+6281111111111"))
	require.Equal(t, models.ProblemOutdated, problem())
	require.Zero(t, escape(), "there is nobody else")

	modelstest.Worker(t, r.db, "w2", 10)
	outdate := func(worker string) {
		r.exec(`UPDATE worker_streams SET outdated_term = (SELECT term FROM workers WHERE id = $1) WHERE worker_id = $1`, worker)
	}
	outdate("w2")
	require.Zero(t, escape(), "all are outdated")
	modelstest.Worker(t, r.db, "w3", 10)
	require.Equal(t, "w3", *modelstest.Session(t, r.db, tenant, "new").WorkerID)
	require.Equal(t, 1, escape(), "to whom the network takes; who waits for nothing stays")
	require.Zero(t, escape(), "once")
	m, err := models.FinishMove(t.Context(), r.db, r.session.UID, 1, r.worker.Term, models.MoveNetwork)
	require.NoError(t, err)
	require.Equal(t, "w3", m.Worker)
	require.Equal(t, "w3 epoch 2 RECONNECTING migrating", stateOf(t, r.db, r.session.UID), "it is no verdict on the session")
	require.Equal(t, "w1 epoch 1 DISCONNECTED qr_timeout", stateOf(t, r.db, other.UID))
	require.Equal(t, "w3", *modelstest.Session(t, r.db, tenant, "newer").WorkerID, "though w1 is empty")

	r.exec(`UPDATE workers SET term = term + 1 WHERE id = 'w1'`) // it comes back as another process
	w1, err := models.WorkerByID(t.Context(), r.db, "w1")
	require.NoError(t, err)
	r.worker = w1
	require.Empty(t, problem(), "it may be another version")
}

// Creates, moves and failovers at once never give a worker more than it has room for.
func TestNobodyIsOverfilled(t *testing.T) {
	db := modelstest.DB(t)
	takeHeartbeats(t, db)
	user := modelstest.User(t, db)
	modelstest.Worker(t, db, "old", 20)
	var uids []uuid.UUID
	for i := range 20 {
		uids = append(uids, modelstest.Session(t, db, user, fmt.Sprintf("s%d", i)).UID)
	}
	for i := range 4 {
		modelstest.Worker(t, db, fmt.Sprintf("w%d", i), 5)
	}
	inParallel(t, 40, func(i int) error {
		var err error
		switch {
		case i < 15:
			if _, err = move(t, db, uids[i], ""); err == nil && i%2 == 0 {
				_, err = models.FinishMove(t.Context(), db, uids[i], 1, 1, models.MoveAdmin)
			}
		case i == 20:
			endLease(t, db, "old")
			_, err = models.ExpireLeases(t.Context(), db)
		case i > 20:
			s := &models.Session{UID: models.NewID(), ID: fmt.Sprintf("new%d", i), UserID: user.ID, Name: "new", CreatedAt: time.Now(), UpdatedAt: time.Now()}
			err = db.InTx(t.Context(), creating(s))
		}
		if fault.Of(err) != fault.Internal {
			return nil // no room, or moved meanwhile
		}
		return err
	})
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM workers w WHERE
		(SELECT count(*) FROM sessions s WHERE s.worker_id = w.id) + (SELECT count(*) FROM sessions s WHERE s.moving_to = w.id) > w.max_sessions`))
	require.Equal(t, int64(20), modelstest.Scalar[int64](t, db, `SELECT count(*) FROM sessions s WHERE worker_id LIKE 'w%' OR moving_to LIKE 'w%'`), "all room is used")
}

func deleting(uid uuid.UUID) func(context.Context, models.Tx) error {
	return func(ctx context.Context, tx models.Tx) error {
		_, err := models.DeleteSession(ctx, tx, uid)
		return err
	}
}

func creating(s *models.Session) func(context.Context, models.Tx) error {
	return func(ctx context.Context, tx models.Tx) error {
		return models.CreateSession(ctx, tx, s, limits.Config{limits.Max: {Sessions: 1000, MessagesPerHour: 1}})
	}
}
