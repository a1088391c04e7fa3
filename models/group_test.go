package models_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// heldLanes are those of sessions of one user, each with messages in two chats, and a runner that holds them.
func heldLanes(t *testing.T, db *models.DB, n, messages int) (sessions []*models.Session, holds []*models.Hold) {
	t.Helper()
	modelstest.Worker(t, db, "w1", 100)
	u := modelstest.User(t, db)
	a := accepter(t, db)
	var lanes []uuid.UUID
	for i := range n {
		s := modelstest.Session(t, db, u, fmt.Sprint("s", i))
		modelstest.Connect(t, db, s)
		sessions, lanes = append(sessions, s), append(lanes, s.UID)
		for k := range messages {
			require.NoError(t, a.Accept(t.Context(), newMessage(s.UID, fmt.Sprint("c", k%2), fmt.Sprint(i, " ", k))))
		}
	}
	runner := uuid.New()
	require.NoError(t, models.RenewRunner(t.Context(), db.Pool, runner, "test", 1, time.Hour))
	holds, err := models.TakeLanes(t.Context(), db.Pool, append(lanes, uuid.New()), runner)
	require.NoError(t, err)
	require.Nil(t, holds[n], "there is no such lane")
	for i, h := range holds[:n] {
		require.Equal(t, lanes[i], h.Lane)
		require.Equal(t, "w1", h.Worker)
	}
	again, err := models.TakeLanes(t.Context(), db.Pool, lanes, uuid.New())
	require.NoError(t, err)
	require.Equal(t, make([]*models.Hold, n), again, "a runner without a lease gets none")
	return sessions, holds[:n]
}

// Lanes that share statements get each its own, in its order, and what is wrong with one concerns no other.
func TestLanesTogether(t *testing.T) {
	db := modelstest.DB(t)
	sessions, holds := heldLanes(t, db, 5, 6)
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), query, args...)
		require.NoError(t, err)
	}
	exec(`UPDATE lanes SET generation = generation + 1 WHERE id = $1`, holds[1].Lane) // another runner has it
	exec(`UPDATE sessions SET status = 'DISCONNECTED' WHERE uid = $1`, holds[2].Lane)
	exec(`UPDATE sessions SET settings = '{"pacing": {"perMinute": 60}}' WHERE uid = $1`, holds[3].Lane)

	wants := make([]models.Want, len(holds))
	for i, h := range holds {
		wants[i] = models.Want{Hold: h, Limit: 4 - i%2*2}
	}
	claims, err := models.ClaimPlain(t.Context(), db.Pool, wants)
	require.NoError(t, err)
	for i, want := range []struct {
		held, connected, guarded bool
		messages                 []string
	}{
		{true, true, false, []string{"0 0", "0 1", "0 2", "0 3"}},
		{false, false, false, nil},
		{true, false, false, nil},
		{true, true, true, nil},
		{true, true, false, []string{"4 0", "4 1", "4 2", "4 3"}},
	} {
		c := claims[i]
		var texts []string
		for k := range c.Messages {
			require.Equal(t, sessions[i].UID, c.Messages[k].SessionUID)
			texts = append(texts, c.Messages[k].Content)
		}
		require.Equal(t, want.messages, texts, "lane %d", i)
		require.Equal(t, want.held, c.Held, "lane %d", i)
		require.Equal(t, want.connected, c.Connected, "lane %d", i)
		require.Equal(t, want.guarded, wants[i].Hold.Guarded, "lane %d", i)
		require.Equal(t, want.guarded, c.Anew(wants[i].Hold), "lane %d", i)
		if want.held {
			require.EqualValues(t, 7, wants[i].Hold.NextSeq)
			require.Equal(t, sessions[i].ID, c.SessionID)
		}
	}

	list := make([]models.Settlement, 0, 2)
	for _, i := range []int{0, 4} {
		s := models.Settlement{Hold: *holds[i], SessionID: sessions[i].ID, Begun: []string{"c0"}}
		for k := range claims[i].Messages {
			s.Outcomes = append(s.Outcomes, outcome(claims[i], k, models.MessageSent))
		}
		list = append(list, s)
	}
	// A receipt has one of the second lane's in hand.
	tx, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT 1 FROM messages WHERE id = $1 FOR NO KEY UPDATE`, claims[4].Messages[1].ID)
	require.NoError(t, err)
	settled, err := models.SettlePlain(t.Context(), db, list)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	require.False(t, settled[0].Left)
	require.True(t, settled[1].Left)
	require.EqualValues(t, 4, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages WHERE status = 'SENT' AND session_uid = $1`, holds[0].Lane))
	require.EqualValues(t, 3, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages WHERE status = 'SENT' AND session_uid = $1`, holds[4].Lane))
	require.EqualValues(t, 7, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM events WHERE type = 'message.sent'`))

	exec(`UPDATE lanes SET next_seq = next_seq + 1 WHERE id = $1`, holds[0].Lane) // something came
	released, err := models.ReleaseLanes(t.Context(), db.Pool, models.LaneMessages, []models.Release{{Hold: *holds[0]}, {Hold: *holds[1]}, {Hold: *holds[4]}})
	require.NoError(t, err)
	require.Equal(t, []bool{false, false, true}, released)
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM lanes WHERE holder IS NULL AND next_due_at <= now() AND id = $1`, holds[4].Lane))
}

// What somebody has in hand for long holds up its own lane alone.
func TestLanesTogetherDoNotWaitForOne(t *testing.T) {
	db := modelstest.DB(t)
	sessions, holds := heldLanes(t, db, 2, 1)
	lanes := []uuid.UUID{holds[0].Lane, holds[1].Lane}
	wants := []models.Want{{Hold: holds[0], Limit: 1}, {Hold: holds[1], Limit: 1}}
	locked := func(what string) (unlock func()) {
		t.Helper()
		tx, err := db.Pool.Begin(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		_, err = tx.Exec(t.Context(), what+` FOR UPDATE`, lanes[0])
		require.NoError(t, err)
		return func() { require.NoError(t, tx.Rollback(t.Context())) }
	}
	refused := func(err error) {
		t.Helper()
		require.True(t, models.IsLockTimeout(err) && models.IsRolledBack(err), err)
	}

	unlock := locked(`SELECT 1 FROM messages WHERE session_uid = $1`)
	_, err := models.ClaimPlain(t.Context(), db.Pool, wants)
	refused(err)
	claims, err := models.ClaimPlain(t.Context(), db.Pool, wants[1:])
	require.NoError(t, err)
	require.Len(t, claims[0].Messages, 1)
	waiting := make(chan int)
	go func() { // by itself it waits
		claims, err := models.ClaimPlain(t.Context(), db.Pool, wants[:1])
		if err != nil {
			t.Error(err)
			waiting <- -1
			return
		}
		waiting <- len(claims[0].Messages)
	}()
	require.Eventually(t, func() bool {
		return modelstest.Scalar[int64](t, db, `SELECT count(*) FROM pg_locks WHERE NOT granted`) > 0
	}, 10*time.Second, 5*time.Millisecond)
	unlock()
	require.Equal(t, 1, <-waiting)

	hook := addWebhook(t, db, sessions[0], "*")
	unlock = locked(`SELECT 1 FROM lanes WHERE id = '` + hook.String() + `' OR id = $1`)
	runner := uuid.New()
	require.NoError(t, models.RenewRunner(t.Context(), db.Pool, runner, "test", 1, time.Hour))
	_, err = models.TakeLanes(t.Context(), db.Pool, lanes, runner)
	refused(err)
	_, err = models.ReleaseLanes(t.Context(), db.Pool, models.LaneMessages, []models.Release{{Hold: *holds[0]}, {Hold: *holds[1]}})
	refused(err)
	_, err = models.SettlePlain(t.Context(), db, []models.Settlement{
		{Hold: *holds[0], SessionID: sessions[0].ID, Outcomes: []models.Outcome{{Message: onlyMessage(t, db, lanes[0]), Status: models.MessageSent, At: time.Now()}}},
		{Hold: *holds[1], SessionID: sessions[1].ID, Outcomes: []models.Outcome{outcome(claims[0], 0, models.MessageSent)}}})
	refused(err)
	unlock()
	for _, setting := range []string{"lock_timeout", "statement_timeout"} {
		require.NotContains(t, []string{"300ms", "1s"}, modelstest.Scalar[string](t, db, `SHOW `+setting), "it ends with the transaction")
	}
}

// onlyMessage is the one of a lane.
func onlyMessage(t *testing.T, db *models.DB, lane uuid.UUID) *models.Message {
	t.Helper()
	var m models.Message
	require.NoError(t, db.NewSelect().Model(&m).Where("session_uid = ?", lane).Scan(t.Context()))
	return &m
}

// What nobody can read is said to be its lane's.
func TestLanesTogetherNameTheOneThatCannotBeRead(t *testing.T) {
	db := modelstest.DB(t)
	_, holds := heldLanes(t, db, 2, 1)
	wants := []models.Want{{Hold: holds[0], Limit: 1}, {Hold: holds[1], Limit: 1}}
	_, err := db.Pool.Exec(t.Context(), `UPDATE sessions SET settings = '{"pacing": "quick"}' WHERE uid = $1`, holds[1].Lane)
	require.NoError(t, err)
	var one *models.LaneError
	_, err = models.ClaimPlain(t.Context(), db.Pool, wants)
	require.ErrorAs(t, err, &one)
	require.Equal(t, holds[1].Lane, one.Lane)
	require.False(t, models.IsRolledBack(err), "what was claimed is claimed")
	_, err = db.Pool.Exec(t.Context(), `UPDATE sessions SET settings = NULL`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `UPDATE messages SET details = '[1]', status = 'PENDING' WHERE session_uid = $1`, holds[0].Lane)
	require.NoError(t, err)
	_, err = models.ClaimPlain(t.Context(), db.Pool, wants)
	require.ErrorAs(t, err, &one)
	require.Equal(t, holds[0].Lane, one.Lane)
}

// A holder that has not looked since it worked does not give back a lane that has work.
func TestReleaseUnlessDue(t *testing.T) {
	db := modelstest.DB(t)
	_, holds := heldLanes(t, db, 2, 1)
	list := []models.Release{{Hold: *holds[0], UnlessDue: true}, {Hold: *holds[1], UnlessDue: true}}
	_, err := db.Pool.Exec(t.Context(), `UPDATE messages SET send_at = now() + interval '1 hour' WHERE session_uid = $1`, holds[1].Lane)
	require.NoError(t, err)
	released, err := models.ReleaseLanes(t.Context(), db.Pool, models.LaneMessages, list)
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, released)
	list[0].UnlessDue = false
	released, err = models.ReleaseLanes(t.Context(), db.Pool, models.LaneMessages, list[:1])
	require.NoError(t, err)
	require.Equal(t, []bool{true}, released)
}

// Webhooks' lanes too, of which one waits for a retry and another is switched off.
func TestWebhooksLanesTogether(t *testing.T) {
	db := modelstest.DB(t)
	sessions, _ := heldLanes(t, db, 3, 0)
	var lanes []uuid.UUID
	for _, s := range sessions {
		lanes = append(lanes, addWebhook(t, db, s, "*"))
		emit(t, db, s, "session.status")
	}
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), query, args...)
		require.NoError(t, err)
	}
	exec(`UPDATE webhook_deliveries SET status = 'RETRYING', next_retry = now() + interval '1 hour' WHERE webhook_id = $1`, lanes[0])
	exec(`UPDATE webhooks SET is_active = false WHERE id = $1`, lanes[1])
	runner := uuid.New()
	require.NoError(t, models.RenewRunner(t.Context(), db.Pool, runner, "test", 1, time.Hour))
	holds, err := models.TakeLanes(t.Context(), db.Pool, lanes, runner)
	require.NoError(t, err)
	var list []models.Release
	for _, h := range holds {
		list = append(list, models.Release{Hold: *h})
	}
	released, err := models.ReleaseLanes(t.Context(), db.Pool, models.LaneWebhook, list)
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, true}, released)
	due := func(lane uuid.UUID, condition string) bool {
		return modelstest.Scalar[bool](t, db, `SELECT coalesce(next_due_at `+condition+`, false) FROM lanes WHERE id = '`+lane.String()+`'`)
	}
	require.True(t, due(lanes[0], `> now() + interval '50 minutes'`))
	require.True(t, modelstest.Scalar[bool](t, db, `SELECT next_due_at IS NULL FROM lanes WHERE id = $1`, lanes[1]))
	require.True(t, due(lanes[2], `<= now()`))
}
