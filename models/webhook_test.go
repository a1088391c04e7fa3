package models_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/webhook"
)

func ownerOf(s *models.Session) models.HookOwner {
	return models.HookOwner{User: s.UserID, Session: s.UID}
}

// addWebhook gives a session a webhook for some events.
func addWebhook(t *testing.T, db *models.DB, s *models.Session, events ...string) uuid.UUID {
	t.Helper()
	var id uuid.UUID
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		w, err := models.PutWebhook(ctx, tx, ownerOf(s), func(former *models.Webhook) (*models.Webhook, error) {
			require.Nil(t, former)
			return &models.Webhook{URL: "http://x", Events: events, Secret: []byte("x"), IsActive: true, CreatedAt: time.Now(), UpdatedAt: time.Now()}, nil
		})
		if err == nil {
			id = w.ID
		}
		return err
	}))
	return id
}

func changeWebhook(t *testing.T, db *models.DB, s *models.Session, change func(w *models.Webhook)) {
	t.Helper()
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := models.PutWebhook(ctx, tx, ownerOf(s), func(former *models.Webhook) (*models.Webhook, error) {
			change(former)
			return former, nil
		})
		return err
	}))
}

func emit(t *testing.T, db *models.DB, s *models.Session, types ...string) []uuid.UUID {
	t.Helper()
	var list []models.Event
	for _, kind := range types {
		list = append(list, models.Event{Session: s.UID, Type: kind, Data: webhook.SessionStatus{Status: "connected"}, At: time.Now()})
	}
	woken, err := models.Emit(t.Context(), db.Pool, list)
	require.NoError(t, err)
	return modelstest.Lanes(woken)
}

func TestEmitChoosesSubscribers(t *testing.T) {
	db := modelstest.DB(t)
	u, all := modelstest.Ready(t, db)
	some, none, off := modelstest.Session(t, db, u, "some"), modelstest.Session(t, db, u, "none"), modelstest.Session(t, db, u, "off")
	hookAll, hookSome, hookOff := addWebhook(t, db, all, "*"), addWebhook(t, db, some, "message.sent", "message.failed"), addWebhook(t, db, off, "*")
	changeWebhook(t, db, off, func(w *models.Webhook) { w.IsActive = false })
	types := []string{"message.sent", "session.qr", "message.failed"}
	require.Equal(t, []uuid.UUID{hookAll}, emit(t, db, all, types...))
	require.Equal(t, []uuid.UUID{hookSome}, emit(t, db, some, types...))
	require.Empty(t, emit(t, db, none, types...))
	require.Empty(t, emit(t, db, off, types...))
	require.Empty(t, emit(t, db, some, "session.qr"))
	require.EqualValues(t, 13, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM events`), "events are kept whoever listens")
	got := func(hook uuid.UUID) string {
		return modelstest.Scalar[string](t, db, `SELECT coalesce(string_agg(sequence || ' ' || event, ', ' ORDER BY sequence), '') FROM webhook_deliveries WHERE webhook_id = $1`, hook)
	}
	require.Equal(t, "1 message.sent, 2 session.qr, 3 message.failed", got(hookAll))
	require.Equal(t, "1 message.sent, 2 message.failed", got(hookSome))
	require.Equal(t, "1 message.sent, 2 session.qr, 3 message.failed", got(hookOff), "they wait until it is switched on")
}

func TestSequencesHaveNoGapsUnderConcurrency(t *testing.T) {
	db := modelstest.DB(t)
	u, a := modelstest.Ready(t, db)
	b := modelstest.Session(t, db, u, "b")
	sessions := []*models.Session{a, b}
	hooks := []uuid.UUID{addWebhook(t, db, a, "*"), addWebhook(t, db, b, "message.sent")}
	var group sync.WaitGroup
	for i := range 60 {
		group.Go(func() {
			var list []models.Event
			for j := range 4 { // both sessions in one transaction, in either order
				list = append(list, models.Event{Session: sessions[(i+j)%2].UID, Type: []string{"message.sent", "message.read"}[j/2], Data: i, At: time.Now()})
			}
			tx, err := db.Pool.Begin(context.Background())
			if err == nil {
				_, err = models.Emit(context.Background(), tx, list)
			}
			if err == nil && i%10 == 0 {
				err = tx.Rollback(context.Background()) // takes its numbers back
			} else if err == nil {
				err = tx.Commit(context.Background())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for i, want := range []int64{54 * 2, 54} {
		require.Equal(t, want, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM webhook_deliveries WHERE webhook_id = $1`, hooks[i]))
		require.Equal(t, want, modelstest.Scalar[int64](t, db, `SELECT max(sequence) FROM webhook_deliveries WHERE webhook_id = $1`, hooks[i]))
		require.Equal(t, want+1, modelstest.Scalar[int64](t, db, `SELECT next_seq FROM lanes WHERE id = $1`, hooks[i]))
	}
}

// deliveries is a webhook with n deliveries and a holder of its lane.
type deliveries struct {
	*outbox
	hook uuid.UUID
	hold *models.Hold
}

func newDeliveries(t *testing.T, n int) *deliveries {
	d := &deliveries{outbox: newOutbox(t)}
	d.hook = addWebhook(t, d.db, d.session, "*")
	for range n {
		emit(t, d.db, d.session, "message.sent")
	}
	d.hold = d.takeHook(d.runner())
	return d
}

func (d *deliveries) takeHook(runner uuid.UUID) *models.Hold {
	d.Helper()
	h, ok, err := models.TakeLane(d.Context(), d.db.Pool, d.hook, runner)
	require.NoError(d, err)
	require.True(d, ok)
	return &h
}

func (d *deliveries) due(ordered bool, limit int) []models.DueDelivery {
	d.Helper()
	d.hold.OneByOne = ordered
	w, list, err := models.DueDeliveries(d.Context(), d.db, d.hold, limit)
	require.NoError(d, err)
	require.NotNil(d, w)
	return list
}

func sequences(list []models.DueDelivery) string {
	var s []int64
	for _, d := range list {
		s = append(s, d.Sequence)
	}
	return fmt.Sprint(s)
}

func (d *deliveries) tried(list []models.DueDelivery, i int, status string, next time.Duration) models.Tried {
	t := models.Tried{Delivery: list[i].ID, Attempt: list[i].Attempts + 1, Status: status, Code: 500, Body: "no", Error: "refused", Duration: 30 * time.Millisecond}
	if status == models.DeliveryDelivered {
		t.Code, t.Body, t.Error = 200, "", ""
	}
	if next != 0 {
		at := time.Now().Add(next)
		t.NextRetry = &at
	}
	return t
}

func (d *deliveries) settleTried(h *models.Hold, tried ...models.Tried) *time.Time {
	d.Helper()
	failing, err := models.SettleDeliveries(d.Context(), d.db, *h, tried, 48*time.Hour)
	require.NoError(d, err)
	return failing
}

func (d *deliveries) releaseHook() *time.Time {
	d.Helper()
	ok, err := models.ReleaseLane(d.Context(), d.db.Pool, models.LaneWebhook, *d.hold)
	require.NoError(d, err)
	require.True(d, ok)
	return modelstest.Scalar[*time.Time](d, d.db, `SELECT next_due_at FROM lanes WHERE id = $1`, d.hook)
}

func TestDeliveriesComeDueOneByOne(t *testing.T) {
	d := newDeliveries(t, 4)
	list := d.due(false, 3)
	require.Equal(t, "[1 2 3]", sequences(list))
	require.Equal(t, d.session.ID, list[0].SessionID)
	require.JSONEq(t, `{"status":"connected","reason":null,"phoneNumber":null}`, string(list[0].Data))
	d.settleTried(d.hold, d.tried(list, 0, models.DeliveryDelivered, 0), d.tried(list, 1, models.DeliveryRetrying, time.Hour), d.tried(list, 2, models.DeliveryFailed, 0))
	require.Equal(t, "[4]", sequences(d.due(false, 10)))
	require.Empty(t, d.due(true, 10), "in order, all wait for the first")
	require.Equal(t, "DELIVERED 1 200, RETRYING 1 500, FAILED 1 500, PENDING 0",
		modelstest.Scalar[string](t, d.db, `SELECT string_agg(concat_ws(' ', status, attempts, response_code), ', ' ORDER BY sequence) FROM webhook_deliveries`))
	require.Equal(t, "1 200 30, 1 500 no refused 30, 1 500 no refused 30", modelstest.Scalar[string](t, d.db,
		`SELECT string_agg(concat_ws(' ', a.attempt, a.response_code, a.response_body, a.error, a.duration_ms), ', ' ORDER BY d.sequence) FROM webhook_attempts a JOIN webhook_deliveries d ON d.id = a.delivery_id`))
	require.Equal(t, "2 true", modelstest.Scalar[string](t, d.db, `SELECT failure_count || ' ' || (failing_since IS NOT NULL) FROM webhooks`))

	list = d.due(false, 10)
	d.settleTried(d.hold, d.tried(list, 0, models.DeliveryDelivered, 0))
	require.Equal(t, "0 false", modelstest.Scalar[string](t, d.db, `SELECT failure_count || ' ' || (failing_since IS NOT NULL) FROM webhooks`))
	require.Empty(t, d.due(false, 10))
	require.WithinDuration(t, time.Now().Add(time.Hour), *d.releaseHook(), time.Minute)

	d.exec(`UPDATE webhook_deliveries SET next_retry = now() WHERE status = 'RETRYING'`)
	d.hold = d.takeHook(d.runner())
	list = d.due(false, 10)
	require.Equal(t, "[2]", sequences(list))
	d.settleTried(d.hold, d.tried(list, 0, models.DeliveryDelivered, 0))
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, d.db, `SELECT count(*) FROM webhook_attempts WHERE delivery_id = $1`, list[0].ID))
	require.Nil(t, d.releaseHook())
}

// Where the subscriber asked for order, the lane is due when its first delivery is: not at once for those behind.
func TestOrderedLaneWaitsForItsFirst(t *testing.T) {
	d := newDeliveries(t, 2)
	changeWebhook(t, d.db, d.session, func(w *models.Webhook) { w.Ordered = true })
	list := d.due(true, 10)
	require.Equal(t, "[1]", sequences(list))
	d.settleTried(d.hold, d.tried(list, 0, models.DeliveryRetrying, time.Hour))
	require.Empty(t, d.due(true, 10))
	require.WithinDuration(t, time.Now().Add(time.Hour), *d.releaseHook(), time.Minute)
}

func TestStaleHolderOfAWebhookChangesNothing(t *testing.T) {
	d := newDeliveries(t, 1)
	stale, list := *d.hold, d.due(false, 10)
	d.exec(`DELETE FROM runners`)
	d.hold = d.takeHook(d.runner())
	d.settleTried(&stale, d.tried(list, 0, models.DeliveryFailed, 0))
	require.Equal(t, "PENDING", modelstest.Scalar[string](t, d.db, `SELECT status FROM webhook_deliveries`))
	require.Zero(t, modelstest.Scalar[int64](t, d.db, `SELECT count(*) FROM webhook_attempts`))
	require.Equal(t, "0 true", modelstest.Scalar[string](t, d.db, `SELECT failure_count || ' ' || is_active FROM webhooks`))
	w, _, err := models.DueDeliveries(t.Context(), d.db, &stale, 10)
	require.NoError(t, err)
	require.Nil(t, w)
}

func TestDeliveryOutlivesItsEvent(t *testing.T) {
	d := newDeliveries(t, 1)
	d.exec(`DELETE FROM events`)
	list := d.due(false, 10)
	require.Len(t, list, 1)
	require.Nil(t, list[0].Data)
}

// However many deliveries there are, deleting a webhook costs what two rows cost; nobody finds the rest, and upkeep removes it in
// pages.
func TestDeletedWebhooksAreSweptInPages(t *testing.T) {
	d := newDeliveries(t, 5)
	d.settleTried(d.hold, d.tried(d.due(false, 1), 0, models.DeliveryFailed, 0))
	accountHook(t, d.db, d.session.UserID)
	emit(t, d.db, d.session, "message.sent")
	id := modelstest.Scalar[uuid.UUID](t, d.db, `SELECT id FROM webhook_deliveries WHERE webhook_id = $1 LIMIT 1`, d.hook)
	require.NoError(t, d.db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		ok, err := models.DeleteWebhook(ctx, tx, ownerOf(d.session))
		require.True(t, ok)
		return err
	}))
	count := func(of string, args ...any) int64 {
		return modelstest.Scalar[int64](t, d.db, `SELECT count(*) FROM `+of, args...)
	}
	require.Zero(t, count(`webhooks`)-1+count(`lanes WHERE id = $1`, d.hook))
	require.EqualValues(t, 6, count(`webhook_deliveries WHERE webhook_id = $1`, d.hook))

	_, _, err := models.DeliveryOf(t.Context(), d.db, d.session.UserID, id)
	require.ErrorIs(t, err, sql.ErrNoRows)
	backlog, err := models.BacklogOf(t.Context(), d.db.Pool, models.LaneWebhook)
	require.NoError(t, err)
	require.EqualValues(t, 1, backlog.Rows, "the account's")
	p, err := models.ReplayPage(t.Context(), d.db, models.Replay{WebhookID: d.hook}, models.ReplayProgress{Next: 1, End: 9}, 100)
	require.NoError(t, err)
	require.Equal(t, models.ReplayProgress{Next: 9, End: 9}, p)
	emit(t, d.db, d.session, "message.sent")
	require.EqualValues(t, 6, count(`webhook_deliveries WHERE webhook_id = $1`, d.hook), "it gets nothing more")

	for _, want := range []int{4, 2, 0} {
		n, err := models.SweepDeliveries(t.Context(), d.db.Pool, 4)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	require.Zero(t, count(`webhook_attempts`))
	require.EqualValues(t, 2, count(`webhook_deliveries`), "of the account's webhook")
	require.NoError(t, models.ForgetWebhooks(t.Context(), d.db.Pool))
	require.EqualValues(t, 1, count(`deleted_webhooks`), "whoever knew it may still be at work")
	d.exec(`UPDATE deleted_webhooks SET deleted_at = now() - interval '2 hours'`)
	require.NoError(t, models.ForgetWebhooks(t.Context(), d.db.Pool))
	require.Zero(t, count(`deleted_webhooks`))
}
