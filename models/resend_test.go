package models_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
)

func (o *outbox) cancel(f models.PendingFilter) (n int) {
	o.Helper()
	for from := int64(0); ; {
		cancelled, next, _, err := models.CancelMessages(o.Context(), o.db, o.session, f, from)
		require.NoError(o, err)
		n += cancelled
		if next == 0 {
			return n
		}
		require.Greater(o, next, from)
		from = next
	}
}

func TestCancelByFilter(t *testing.T) {
	o := newOutbox(t)
	before := time.Now().Add(-time.Second)
	for i := range 30 {
		o.add(fmt.Sprint("c", i%3), fmt.Sprint(i), func(m *models.NewMessage) {
			m.Metadata = json.RawMessage(fmt.Sprintf(`{"campaign": {"id": %d}, "n": %d}`, i%5, i))
			if i%2 == 1 {
				m.Type, m.Details = "LOCATION", &message.Details{Location: &message.Place{}}
			}
		})
	}
	h := o.take(o.runner())
	o.claim(h, 2) // 0 and 1 are on their way
	require.Zero(t, o.cancel(models.PendingFilter{Chat: "c9"}))
	held := o.add("held", "x")
	o.exec(`UPDATE messages SET next_attempt_at = now() + interval '1 hour', waiting_for = 'pacing' WHERE id = $1`, held)
	o.exec(`UPDATE lanes SET next_due_at = now() + interval '1 hour' WHERE id = $1`, o.session.UID)
	require.Equal(t, 1, o.cancel(models.PendingFilter{Chat: "held"}))
	require.Nil(t, o.message(held).NextAttemptAt)
	require.True(t, modelstest.Scalar[bool](t, o.db, `SELECT next_due_at <= now() FROM lanes WHERE id = $1`, o.session.UID), "what it blocked is due")
	require.Zero(t, o.cancel(models.PendingFilter{Before: before}))
	require.Zero(t, o.cancel(models.PendingFilter{After: time.Now().Add(time.Hour)}))
	require.Zero(t, o.cancel(models.PendingFilter{Type: "IMAGE"}))
	require.Equal(t, 5, o.cancel(models.PendingFilter{Metadata: json.RawMessage(`{"campaign": {"id": 0}}`)}), "0 is on its way")
	require.Equal(t, 7, o.cancel(models.PendingFilter{Chat: "c1", After: before, Before: time.Now().Add(time.Second)}))
	require.Equal(t, 8, o.cancel(models.PendingFilter{Type: "LOCATION"}))
	require.Equal(t, 8, o.cancel(models.PendingFilter{}))
	require.Zero(t, o.cancel(models.PendingFilter{}))
	require.EqualValues(t, 29, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM events WHERE type = 'message.cancelled'`))
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM messages WHERE status = 'SENDING'`))
}

func TestCancelBesideTheLane(t *testing.T) {
	o := newOutbox(t)
	const n = 1200
	var list []*models.NewMessage
	first := models.NewID()
	for i := range n {
		m := newMessage(o.session.UID, fmt.Sprint("c", i%7), fmt.Sprint(i))
		m.ID = models.SeriesID(first, i)
		list = append(list, m)
	}
	require.NoError(t, o.accept.AcceptAll(t.Context(), list))
	runner := o.runner()
	h := o.take(runner)
	out := map[uuid.UUID]bool{}
	done := make(chan int)
	go func() { done <- o.cancel(models.PendingFilter{}) }()
	for {
		claim := o.claim(h, 32)
		if len(claim.Messages) == 0 {
			break
		}
		var outcomes []models.Outcome
		for i := range claim.Messages {
			outcomes = append(outcomes, outcome(claim, i, models.MessageSent))
			out[claim.Messages[i].ID] = true
		}
		settled, err := models.Settle(t.Context(), o.db, models.Settlement{Hold: *h, SessionID: o.session.ID, Outcomes: outcomes})
		require.NoError(t, err)
		if settled.Left { // the cancel had some of them in hand: what the network knows goes out again, under a new generation
			h = o.take(runner)
		}
	}
	sent, cancelled := len(out), <-done
	cancelled += o.cancel(models.PendingFilter{})
	require.Equal(t, n, sent+cancelled, "each is either sent or cancelled")
	require.EqualValues(t, sent, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM events WHERE type = 'message.sent'`))
	require.EqualValues(t, cancelled, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM events WHERE type = 'message.cancelled'`))
}

func TestBatchIsOneTransactionInOrder(t *testing.T) {
	o := newOutbox(t)
	first := models.NewID()
	batch := func(change func([]*models.NewMessage)) error {
		var list []*models.NewMessage
		for i := range 1000 {
			m := newMessage(o.session.UID, "c", fmt.Sprint(i))
			m.ID = models.SeriesID(first, i)
			list = append(list, m)
		}
		if change != nil {
			change(list)
		}
		return o.accept.AcceptAll(t.Context(), list)
	}
	require.Error(t, batch(func(list []*models.NewMessage) { list[999].Content = "\x00" }))
	require.Zero(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM messages`))
	require.NoError(t, batch(nil))
	require.NoError(t, batch(nil), "the same again is the same")
	require.Equal(t, "1000 1000 1000 true", modelstest.Scalar[string](t, o.db,
		`SELECT concat_ws(' ', count(*), count(DISTINCT seq), count(DISTINCT whatsapp_id), CASE WHEN bool_and(seq = content::int + 1) THEN 'true' END) FROM messages`))
	require.Equal(t, "0 999", modelstest.Scalar[string](t, o.db, `SELECT concat_ws(' ', (SELECT content FROM messages ORDER BY id LIMIT 1), (SELECT content FROM messages ORDER BY id DESC LIMIT 1))`))

	o.exec(`UPDATE lanes SET open = false WHERE id = $1`, o.session.UID)
	first = models.NewID()
	require.True(t, fault.Is(batch(nil), "session_not_linked"))
}

func TestRetry(t *testing.T) {
	o := newOutbox(t)
	retry := func(m *models.Message, force bool) error {
		return models.RetryMessage(t.Context(), o.db, m, force, time.Now().Add(time.Hour))
	}
	for _, status := range []string{"FAILED", "EXPIRED", "CANCELLED"} {
		id := o.add("a", status)
		after := o.add("a", "after")
		o.exec(`UPDATE messages SET status = $2, error_code = 'x', error_message = 'x', finished_at = now(), attempts = 3, expires_at = now() - interval '1 hour' WHERE id = $1`, id, status)
		former := o.message(id)
		made := inParallel(t, 5, func(int) error { return retry(former, false) })
		require.Equal(t, 1, made.ok, status)
		require.Equal(t, 4, made.codes["not_retryable"])
		m := o.message(id)
		require.Equal(t, []any{"PENDING", 0, former.WhatsappID}, []any{m.Status, m.Attempts, m.WhatsappID})
		require.Nil(t, m.ErrorCode)
		require.Nil(t, m.FinishedAt)
		require.Greater(t, m.Seq, o.message(after).Seq, "at the end of its chat")
		h := o.take(o.runner())
		claim := o.claim(h, 10)
		require.Equal(t, []string{"after", status}, texts(claim))
		require.True(t, claim.Messages[1].Fresh, "nothing of it ever went out")
		o.settle(h, outcome(claim, 0, models.MessageSent), outcome(claim, 1, models.MessageSent))
		require.True(t, o.release(h))
		require.True(t, fault.Is(retry(m, true), "not_retryable"), "it is sent")
	}
	id := o.add("a", "unknown")
	o.exec(`UPDATE messages SET status = 'UNKNOWN', attempts = 8, finished_at = now() WHERE id = $1`, id)
	m := o.message(id)
	require.True(t, fault.Is(retry(m, false), "not_retryable"))
	require.NoError(t, retry(m, true))
	require.Equal(t, "SENDING", o.message(id).Status, "it may have gone out")
	ok, _, err := models.CancelMessage(t.Context(), o.db, o.message(id), "shop")
	require.NoError(t, err)
	require.False(t, ok)
	h := o.take(o.runner())
	claim := o.claim(h, 10)
	require.Equal(t, []string{"unknown"}, texts(claim))
	require.False(t, claim.Messages[0].Fresh)
	require.Zero(t, claim.Messages[0].Attempts)
	o.settle(h, outcome(claim, 0, models.MessageFailed))
	require.True(t, o.release(h))

	inbound := o.came("a", sari, "text", "x", time.Now(), nil)
	o.exec(`UPDATE messages SET status = 'FAILED' WHERE id = $1`, inbound.ID)
	require.True(t, fault.Is(retry(inbound, true), "not_retryable"))
	o.exec(`UPDATE lanes SET open = false`)
	require.True(t, fault.Is(retry(m, true), "session_not_linked"))
	require.Equal(t, "FAILED", o.message(id).Status, "nothing of it was done")
}

func TestEditPending(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "helo")
	picture := o.add("a", "", func(m *models.NewMessage) { m.Type, m.Caption = "IMAGE", new("cta") })
	edit := func(m *models.Message, text string) bool {
		ok, err := models.EditPending(t.Context(), o.db.Pool, m, text)
		require.NoError(t, err)
		return ok
	}
	require.True(t, edit(o.message(id), "hello"))
	require.True(t, edit(o.message(picture), "cat"))
	h := o.take(o.runner())
	claim := o.claim(h, 10)
	require.Equal(t, []string{"hello", ""}, texts(claim))
	require.Equal(t, "cat", *claim.Messages[1].Caption)
	require.False(t, edit(o.message(id), "too late"))
	require.Equal(t, "hello", o.message(id).Content)
}
