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
)

// outbox is a connected session with a lane, and runners that are alive.
type outbox struct {
	*testing.T
	db      *models.DB
	session *models.Session
	accept  *models.Accepter
}

func newOutbox(t *testing.T) *outbox {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	return &outbox{T: t, db: db, session: s, accept: accepter(t, db)}
}

func (o *outbox) add(chat, text string, change ...func(*models.NewMessage)) uuid.UUID {
	o.Helper()
	m := newMessage(o.session.UID, chat, text)
	for _, c := range change {
		c(m)
	}
	require.NoError(o, o.accept.Accept(o.Context(), m))
	return m.ID
}

func (o *outbox) exec(sql string, args ...any) {
	o.Helper()
	_, err := o.db.Pool.Exec(o.Context(), sql, args...)
	require.NoError(o, err)
}

func (o *outbox) runner() uuid.UUID {
	o.Helper()
	id := uuid.New()
	require.NoError(o, models.RenewRunner(o.Context(), o.db.Pool, id, "test", 1, time.Hour))
	return id
}

func (o *outbox) take(runner uuid.UUID) *models.Hold {
	o.Helper()
	h, ok, err := models.TakeLane(o.Context(), o.db.Pool, o.session.UID, runner)
	require.NoError(o, err)
	require.True(o, ok, "the lane is held")
	return &h
}

func (o *outbox) claim(h *models.Hold, limit int) *models.Claim {
	o.Helper()
	c, err := models.ClaimMessages(o.Context(), o.db.Pool, h, limit)
	require.NoError(o, err)
	return c
}

func (o *outbox) settle(h *models.Hold, outcomes ...models.Outcome) {
	o.Helper()
	_, err := models.Settle(o.Context(), o.db, models.Settlement{Hold: *h, SessionID: o.session.ID, Outcomes: outcomes})
	require.NoError(o, err)
}

func (o *outbox) release(h *models.Hold) bool {
	o.Helper()
	ok, err := models.ReleaseLane(o.Context(), o.db.Pool, models.LaneMessages, *h)
	require.NoError(o, err)
	return ok
}

func (o *outbox) status(id uuid.UUID) string {
	o.Helper()
	return modelstest.Scalar[string](o, o.db, `SELECT status FROM messages WHERE id = $1`, id)
}

func (o *outbox) events() []string {
	o.Helper()
	rows, err := o.db.Pool.Query(o.Context(), `SELECT type || ' ' || coalesce(data->>'message', '') FROM events ORDER BY created_at, id`)
	require.NoError(o, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(o, err)
	return list
}

func texts(c *models.Claim) []string {
	list := []string{}
	for _, m := range c.Messages {
		list = append(list, m.Content)
	}
	return list
}

func outcome(c *models.Claim, i int, status string) models.Outcome {
	return models.Outcome{Message: &c.Messages[i].Message, Status: status, At: time.Now()}
}

func doubt(c *models.Claim, i int, until time.Time) models.Outcome {
	o := outcome(c, i, models.MessageSending)
	o.NextAttemptAt, o.Tried = &until, true
	return o
}

func TestClaimOrder(t *testing.T) {
	o := newOutbox(t)
	for i := range 4 {
		o.add(string(rune('a'+i%2)), fmt.Sprint(i)) // 0 and 2 in chat a, 1 and 3 in chat b
	}
	later := time.Now().Add(time.Hour)
	o.add("c", "scheduled", func(m *models.NewMessage) { m.SendAt = &later })

	first := o.take(o.runner())
	claim := o.claim(first, 2)
	require.Equal(t, []string{"0", "1"}, texts(claim))
	require.True(t, claim.Messages[0].Fresh)
	require.Equal(t, "+6281111111111", *claim.Messages[0].FromNumber)
	require.Empty(t, texts(o.claim(first, 0)))
	o.exec(`DELETE FROM runners`) // it dies with both in hand

	second := o.take(o.runner())
	claim = o.claim(second, 3)
	require.Equal(t, []string{"0", "1", "2"}, texts(claim), "what is unsettled comes first")
	require.Equal(t, []bool{false, false, true}, []bool{claim.Messages[0].Fresh, claim.Messages[1].Fresh, claim.Messages[2].Fresh})
	require.Equal(t, 1, claim.Messages[0].Attempts, "a send whose runner died is an attempt without outcome")
	require.Zero(t, claim.Messages[2].Attempts)

	// 0 backs off: its chat waits, the other one goes on.
	o.settle(second, doubt(claim, 0, time.Now().Add(time.Hour)), outcome(claim, 1, models.MessageSent), outcome(claim, 2, models.MessagePending))
	claim = o.claim(second, 10)
	require.Equal(t, []string{"3"}, texts(claim))
	o.settle(second, outcome(claim, 0, models.MessageSent))
	require.Empty(t, texts(o.claim(second, 10)))
	require.True(t, o.release(second))
	next := modelstest.Scalar[time.Time](t, o.db, `SELECT next_due_at FROM lanes WHERE id = $1`, o.session.UID)
	require.WithinDuration(t, time.Now().Add(time.Hour), next, time.Minute)

	o.exec(`UPDATE messages SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL`)
	third := o.take(o.runner())
	require.Equal(t, []string{"0", "2"}, texts(o.claim(third, 10)))
}

func TestClaimNeedsTheLaneAndTheConnection(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "x")
	a := o.runner()
	old := o.take(a)
	o.exec(`DELETE FROM runners WHERE id = $1`, a)
	held := o.take(o.runner())
	claim := o.claim(old, 10)
	require.False(t, claim.Held)
	require.Empty(t, claim.Messages)

	modelstest.SetStatus(t, o.db, o.session.UID, models.SessionReconnecting)
	claim = o.claim(held, 10)
	require.True(t, claim.Held)
	require.False(t, claim.Connected)
	require.Empty(t, claim.Messages)
	require.Equal(t, models.MessagePending, o.status(id))
	due, err := models.DueLanes(t.Context(), o.db.Pool, models.LaneMessages, 10)
	require.NoError(t, err)
	require.Empty(t, due)

	require.NoError(t, models.YieldLane(t.Context(), o.db.Pool, *held, 0))
	modelstest.SetStatus(t, o.db, o.session.UID, models.SessionConnected)
	due, err = models.DueLanes(t.Context(), o.db.Pool, models.LaneMessages, 10)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{o.session.UID}, due, "connecting makes it due")
}

func TestSettleIsConditional(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "x")
	a := o.runner()
	old := o.take(a)
	stale := o.claim(old, 10)
	o.exec(`DELETE FROM runners WHERE id = $1`, a)
	held := o.take(o.runner())
	claim := o.claim(held, 10)
	o.settle(old, outcome(stale, 0, models.MessageFailed))
	require.Equal(t, models.MessageSending, o.status(id))
	require.Empty(t, o.events())
	o.settle(held, outcome(claim, 0, models.MessageSent))
	require.Equal(t, models.MessageSent, o.status(id))
	o.settle(held, outcome(claim, 0, models.MessageFailed))
	require.Equal(t, models.MessageSent, o.status(id))
	require.Equal(t, []string{"message.sent x"}, o.events())
}

func TestSettleWritesWhatTheEventTells(t *testing.T) {
	o := newOutbox(t)
	o.add("a", "x")
	h := o.take(o.runner())
	claim := o.claim(h, 10)
	failed := outcome(claim, 0, models.MessageFailed)
	failed.Code, failed.Error = "not_\x00on_whatsapp", "No \x00such number." // PostgreSQL takes no NUL
	o.settle(h, failed)
	require.Equal(t, "FAILED not_on_whatsapp No such number.", modelstest.Scalar[string](t, o.db, `SELECT concat_ws(' ', status, error_code, error_message) FROM messages`))
	require.Equal(t, "failed not_on_whatsapp No such number. +6281111111111",
		modelstest.Scalar[string](t, o.db, `SELECT concat_ws(' ', data->>'status', data->>'errorCode', data->>'error', data->'from'->>'phone') FROM events`))
}

// Two claims that meet: the later one waits for the earlier one's rows, and has to know that they were claimed.
func TestClaimThatWaitedKnowsThatItIsTheSecond(t *testing.T) {
	o := newOutbox(t)
	o.add("a", "x")
	a := o.runner()
	old := o.take(a)
	tx, err := o.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	first, err := models.ClaimMessages(t.Context(), tx, old, 10)
	require.NoError(t, err)
	require.True(t, first.Held)
	require.Len(t, first.Messages, 1)

	o.exec(`DELETE FROM runners WHERE id = $1`, a)
	held := o.take(o.runner())
	second := make(chan *models.Claim, 1)
	go func() {
		c, err := models.ClaimMessages(context.WithoutCancel(t.Context()), o.db.Pool, held, 10)
		if err != nil {
			t.Error(err)
		}
		second <- c
	}()
	waits(t, o.db)
	require.NoError(t, tx.Commit(t.Context()))
	claim := <-second
	require.Len(t, claim.Messages, 1)
	require.False(t, claim.Messages[0].Fresh, "the first one may have sent it")
	require.Equal(t, 1, claim.Messages[0].Attempts)
}

// A claim that was held up, and comes to its rows when a later generation has put them back, gets nothing.
func TestClaimThatComesTooLateGetsNothing(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "x")
	a := o.runner()
	old := o.take(a)
	tx, err := o.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `UPDATE messages SET updated_at = now() WHERE id = $1`, id) // holds the claim up
	require.NoError(t, err)
	late := make(chan *models.Claim, 1)
	go func() {
		c, err := models.ClaimMessages(context.WithoutCancel(t.Context()), o.db.Pool, old, 10)
		if err != nil {
			t.Error(err)
		}
		late <- c
	}()
	waits(t, o.db)
	o.exec(`DELETE FROM runners WHERE id = $1`, a)
	held := o.take(o.runner())
	_, err = tx.Exec(t.Context(), `UPDATE messages SET status = 'PENDING', generation = $2 WHERE id = $1`, id, held.Generation) // claimed and put back
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	claim := <-late
	require.False(t, claim.Held)
	require.Equal(t, models.MessagePending, o.status(id))
}

// waits returns when some statement of the database waits for a row.
func waits(t *testing.T, db *models.DB) {
	t.Helper()
	require.Eventually(t, func() bool {
		return modelstest.Scalar[bool](t, db, `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	}, 20*time.Second, 5*time.Millisecond)
}

func TestReleaseSeesWhatCameWhileItWaited(t *testing.T) {
	o := newOutbox(t)
	hook := addWebhook(t, o.db, o.session, "*")
	o.exec(`UPDATE webhooks SET is_active = false WHERE id = $1`, hook)
	o.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence) VALUES ($1, $1, 'message.sent', 1)`, hook)
	h, ok, err := models.TakeLane(t.Context(), o.db.Pool, hook, o.runner())
	require.NoError(t, err)
	require.True(t, ok)

	// The subscriber switches the webhook on again; the holder, which found nothing to do, releases at the same time.
	tx, err := o.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), `UPDATE webhooks SET is_active = true WHERE id = $1`, hook)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `UPDATE lanes SET next_due_at = now() WHERE id = $1`, hook)
	require.NoError(t, err)
	released := make(chan error, 1)
	go func() {
		_, err := models.ReleaseLane(context.WithoutCancel(t.Context()), o.db.Pool, models.LaneWebhook, h)
		released <- err
	}()
	waits(t, o.db)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-released)
	require.True(t, modelstest.Scalar[bool](t, o.db, `SELECT coalesce(next_due_at <= now(), false) FROM lanes WHERE id = $1`, hook), "the wake-up is lost")
}

func TestExpiry(t *testing.T) {
	o := newOutbox(t)
	soon := func(m *models.NewMessage) { m.ExpiresAt = time.Now().Add(-time.Second) }
	o.add("a", "in doubt", soon)
	h := o.take(o.runner())
	claim := o.claim(h, 10)
	o.settle(h, doubt(claim, 0, time.Now().Add(time.Hour)))
	o.add("b", "never tried", soon)
	o.add("b", "in time")
	expire := func() (n int) {
		t.Helper()
		require.NoError(t, o.db.InPgxTx(t.Context(), func(tx pgx.Tx) (err error) {
			n, _, err = models.ExpireMessages(t.Context(), tx, 10)
			return err
		}))
		return n
	}
	require.Equal(t, 1, expire())
	require.Equal(t, 0, expire())
	require.Equal(t, []string{"message.expired never tried"}, o.events())
	require.Equal(t, "expired", modelstest.Scalar[string](t, o.db, `SELECT error_code FROM messages WHERE status = 'EXPIRED'`))

	// What is in doubt is its lane's to end, as long as the lane can.
	require.NoError(t, models.YieldLane(t.Context(), o.db.Pool, *h, 0))
	require.Equal(t, 0, expire())
	modelstest.SetStatus(t, o.db, o.session.UID, models.SessionDisconnected)
	h = o.take(o.runner())
	require.Equal(t, 0, expire(), "somebody has it in hand")
	require.NoError(t, models.YieldLane(t.Context(), o.db.Pool, *h, 0))
	require.Equal(t, 1, expire())
	require.Equal(t, []string{"message.expired never tried", "message.unknown in doubt"}, o.events())
	require.Equal(t, "outcome_unknown", modelstest.Scalar[string](t, o.db, `SELECT error_code FROM messages WHERE status = 'UNKNOWN'`))
}

func TestCancel(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "x")
	m := &models.Message{ID: id, SessionUID: o.session.UID, Content: "x"}
	h := o.take(o.runner())
	claim := o.claim(h, 1)
	ok, _, err := models.CancelMessage(t.Context(), o.db, m, o.session.ID)
	require.NoError(t, err)
	require.False(t, ok, "it is on its way")
	o.settle(h, outcome(claim, 0, models.MessagePending))
	ok, _, err = models.CancelMessage(t.Context(), o.db, m, o.session.ID)
	require.NoError(t, err)
	require.True(t, ok)
	ok, _, err = models.CancelMessage(t.Context(), o.db, m, o.session.ID)
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, []string{"message.cancelled x"}, o.events())
	require.Empty(t, o.claim(h, 1).Messages)
}

func TestRunnersLeaseDecidesWhoMayTake(t *testing.T) {
	o := newOutbox(t)
	a, b := o.runner(), o.runner()
	first := o.take(a)
	_, ok, err := models.TakeLane(t.Context(), o.db.Pool, o.session.UID, b)
	require.NoError(t, err)
	require.False(t, ok)
	again := o.take(a) // its own process gave it up without release
	require.Equal(t, first.Generation+1, again.Generation)
	o.exec(`UPDATE runners SET expires_at = now() - interval '2 hours' WHERE id = $1`, a)
	stolen := o.take(b)
	require.Equal(t, again.Generation+1, stolen.Generation)
	require.False(t, o.release(again))
	require.NoError(t, models.YieldLane(t.Context(), o.db.Pool, *again, 0))
	require.Equal(t, b, modelstest.Scalar[uuid.UUID](t, o.db, `SELECT holder FROM lanes WHERE id = $1`, o.session.UID))
	n, err := models.ForgetRunners(t.Context(), o.db.Pool)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

// Only one of many takes a lane that falls free.
func TestTakesAtOnce(t *testing.T) {
	o := newOutbox(t)
	runners := make([]uuid.UUID, 12)
	for i := range runners {
		runners[i] = o.runner()
	}
	took := inParallel(t, len(runners), func(i int) error {
		_, ok, err := models.TakeLane(context.Background(), o.db.Pool, o.session.UID, runners[i])
		if err == nil && !ok {
			return models.ErrGone
		}
		return err
	})
	require.Equal(t, 1, took.ok)
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, o.db, `SELECT generation FROM lanes WHERE id = $1`, o.session.UID))
}

func TestAcceptAfterCloseDoesNotHang(t *testing.T) {
	o := newOutbox(t)
	a := models.NewAccepter(o.db.Pool, quiet, func([]models.Woken, int) {})
	a.Close()
	for range 20 { // the queue still has room, and takes some of them
		err := a.Accept(t.Context(), newMessage(o.session.UID, "a", "x"))
		require.True(t, fault.Is(err, "shutting_down"), "%v", err)
	}
	require.Zero(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM messages`))
}

// A chat is due when the first of its unsettled messages is: not at once for those behind, or the sweep would wake the lane
// in vain each second.
func TestAChatIsDueWithItsFirst(t *testing.T) {
	o := newOutbox(t)
	o.add("a", "0")
	o.add("a", "1")
	a := o.runner()
	o.claim(o.take(a), 2)
	o.exec(`DELETE FROM runners WHERE id = $1`, a)
	h := o.take(o.runner())
	claim := o.claim(h, 1)
	require.Equal(t, []string{"0"}, texts(claim))
	o.settle(h, doubt(claim, 0, time.Now().Add(time.Hour)))
	require.Empty(t, o.claim(h, 10).Messages)
	require.True(t, o.release(h))
	require.WithinDuration(t, time.Now().Add(time.Hour), modelstest.Scalar[time.Time](t, o.db, `SELECT next_due_at FROM lanes WHERE id = $1`, o.session.UID), time.Minute)
}
