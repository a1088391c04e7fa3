package models_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/models"
	"kurir/models/modelstest"
)

func (d *deliveries) asOf() time.Time {
	d.Helper()
	return modelstest.Scalar[time.Time](d, d.db, `SELECT updated_at FROM webhooks WHERE id = $1`, d.hook)
}

func (d *deliveries) disable(h *models.Hold, asOf time.Time, reason string) bool {
	d.Helper()
	ok, err := models.DisableWebhook(d.Context(), d.db, *h, asOf, reason)
	require.NoError(d, err)
	return ok
}

// Switching off tells the owner once, and what happens meanwhile is numbered and waits. Switching on sends all of it.
func TestDisabledWebhookKeepsItsEvents(t *testing.T) {
	d := newDeliveries(t, 2)
	list := d.due(false, 1)
	d.settleTried(d.hold, d.tried(list, 0, models.DeliveryRetrying, time.Nanosecond))
	asOf := d.asOf()
	require.True(t, d.disable(d.hold, asOf, models.DisabledGone))
	require.False(t, d.disable(d.hold, asOf, models.DisabledGone), "twice")
	require.Equal(t, "false gone", modelstest.Scalar[string](t, d.db, `SELECT is_active || ' ' || disabled_reason FROM webhooks`))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, d.db, `SELECT count(*) FROM jobs WHERE params->>'letter' = 'webhook_disabled' AND params->'about'->>'webhookId' = $1`, d.hook.String()))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, d.db, `SELECT count(*) FROM system_logs WHERE level = 'WARN' AND message = 'webhook.disabled' AND session_id = 'shop' AND user_id IS NOT NULL`))
	require.Empty(t, d.due(false, 10))
	require.Nil(t, d.releaseHook(), "nothing is due while it is off")

	require.Empty(t, emit(t, d.db, d.session, "message.sent", "session.qr"), "nobody is woken")
	require.Nil(t, modelstest.Scalar[*time.Time](t, d.db, `SELECT next_due_at FROM lanes WHERE id = $1`, d.hook))
	waiting, err := models.WaitingOf(t.Context(), d.db.Pool, d.hook)
	require.NoError(t, err)
	require.Equal(t, 4, waiting.Count)
	require.NotNil(t, waiting.Since)

	changeWebhook(t, d.db, d.session, func(w *models.Webhook) { w.IsActive, w.DisabledReason = true, nil })
	due, err := models.DueLanes(t.Context(), d.db.Pool, models.LaneWebhook, 10)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{d.hook}, due)
	d.hold = d.takeHook(d.runner())
	require.Equal(t, "[1 2 3 4]", sequences(d.due(false, 10)))
}

// A webhook that its owner has changed since the answer that speaks against it, or that another runner has, stays as it is.
func TestDisablingComesTooLate(t *testing.T) {
	d := newDeliveries(t, 1)
	asOf := d.asOf()
	changeWebhook(t, d.db, d.session, func(w *models.Webhook) { w.URL, w.UpdatedAt = "http://y", time.Now() })
	require.False(t, d.disable(d.hold, asOf, models.DisabledFailing))
	require.Equal(t, "true true", modelstest.Scalar[string](t, d.db, `SELECT w.is_active || ' ' || l.open FROM webhooks w JOIN lanes l ON l.id = w.id`))
	stale := *d.hold
	d.exec(`DELETE FROM runners`)
	d.takeHook(d.runner())
	require.False(t, d.disable(&stale, d.asOf(), models.DisabledGone))
	require.Equal(t, "true true", modelstest.Scalar[string](t, d.db, `SELECT w.is_active || ' ' || l.open FROM webhooks w JOIN lanes l ON l.id = w.id`))
	require.Zero(t, modelstest.Scalar[int64](t, d.db, `SELECT count(*) FROM jobs`))
}

// An event whose transaction began while the webhook was off, and ends when it is on, is delivered.
func TestEventThatCrossesTheSwitch(t *testing.T) {
	d := newDeliveries(t, 0)
	changeWebhook(t, d.db, d.session, func(w *models.Webhook) { w.IsActive = false })
	switching, err := d.db.Begin()
	require.NoError(t, err)
	defer func() { _ = switching.Rollback() }()
	_, err = models.PutWebhook(t.Context(), switching, ownerOf(d.session), func(w *models.Webhook) (*models.Webhook, error) {
		w.IsActive = true
		return w, nil
	})
	require.NoError(t, err)
	woken := make(chan []uuid.UUID)
	go func() {
		list, err := models.Emit(context.Background(), d.db.Pool, []models.Event{{Session: d.session.UID, Type: "message.sent", Data: 1, At: time.Now()}})
		if err != nil {
			t.Error(err)
		}
		woken <- modelstest.Lanes(list)
	}()
	require.Eventually(t, func() bool {
		return modelstest.Scalar[int64](t, d.db, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 1
	}, 20*time.Second, 5*time.Millisecond, "the event should wait for the lane")
	require.NoError(t, switching.Commit())
	require.Equal(t, []uuid.UUID{d.hook}, <-woken)
}

func TestFailingSince(t *testing.T) {
	d := newDeliveries(t, 3)
	list := d.due(false, 3)
	first := d.settleTried(d.hold, d.tried(list, 0, models.DeliveryRetrying, time.Hour))
	require.NotNil(t, first)
	require.Equal(t, first, d.settleTried(d.hold, d.tried(list, 1, models.DeliveryFailed, 0)), "it counts from the first")
	require.Nil(t, d.settleTried(d.hold, d.tried(list, 2, models.DeliveryDelivered, 0)))
}

// The account's webhook outlives the session, and hears of its end and of what it had not sent.
func TestAccountHearsOfADeletedSession(t *testing.T) {
	o := newOutbox(t)
	account := accountHook(t, o.db, o.session.UserID)
	own := addWebhook(t, o.db, o.session, "*")
	emit(t, o.db, o.session, "message.sent")
	o.add("a", "one")
	o.add("b", "two")
	require.NoError(t, o.db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		ok, err := models.DeleteSession(ctx, tx, o.session.UID)
		require.True(t, ok)
		return err
	}))
	require.Equal(t, "1 message.sent, 2 message.cancelled, 3 message.cancelled, 4 session.status", modelstest.Scalar[string](t, o.db,
		`SELECT string_agg(sequence || ' ' || event, ', ' ORDER BY sequence) FROM webhook_deliveries WHERE webhook_id = $1`, account), "the account's, without gaps")
	require.Zero(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM lanes WHERE id = $1`, own))
	due, err := models.DueLanes(t.Context(), o.db.Pool, models.LaneWebhook, 10)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{account}, due, "the sweep wakes it")
	h, ok, err := models.TakeLane(t.Context(), o.db.Pool, account, o.runner())
	require.NoError(t, err)
	require.True(t, ok)
	_, list, err := models.DueDeliveries(t.Context(), o.db, &h, 10)
	require.NoError(t, err)
	require.Len(t, list, 4)
	for _, d := range list {
		require.Equal(t, o.session.ID, d.SessionID, "the name of the event's session")
	}
	require.JSONEq(t, `{"status":"disconnected","reason":"deleted","phoneNumber":"+6281111111111"}`, string(list[3].Data))
	require.Contains(t, string(list[1].Data), `"errorCode": "session_deleted"`)
}

// accountHook gives an account a webhook for all events.
func accountHook(t *testing.T, db *models.DB, user uuid.UUID) (id uuid.UUID) {
	t.Helper()
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		w, err := models.PutWebhook(ctx, tx, models.HookOwner{User: user}, func(*models.Webhook) (*models.Webhook, error) {
			return &models.Webhook{URL: "http://x", Events: []string{"*"}, Secret: []byte("x"), IsActive: true, CreatedAt: time.Now(), UpdatedAt: time.Now()}, nil
		})
		if err == nil {
			id = w.ID
		}
		return err
	}))
	return id
}

// Two sessions' events, their own webhooks and the account's, deletions among them: no circle of locks, and no gap.
func TestAccountSequenceUnderConcurrency(t *testing.T) {
	db := modelstest.DB(t)
	u, a := modelstest.Ready(t, db)
	sessions := []*models.Session{a, modelstest.Session(t, db, u, "b"), modelstest.Session(t, db, u, "c")}
	account := accountHook(t, db, u.ID)
	for _, s := range sessions {
		addWebhook(t, db, s, "*")
	}
	done := make(chan error)
	for i := range 24 {
		go func() {
			if i == 20 {
				done <- db.InTx(context.Background(), func(ctx context.Context, tx bun.Tx) error {
					_, err := models.DeleteSession(ctx, tx, sessions[2].UID)
					return err
				})
				return
			}
			var list []models.Event
			for j := range 3 {
				list = append(list, models.Event{Session: sessions[(i+j)%3].UID, Type: "message.sent", Data: i, At: time.Now()})
			}
			_, err := models.Emit(context.Background(), db.Pool, list)
			done <- err
		}()
	}
	for range 24 {
		require.NoError(t, <-done)
	}
	require.Equal(t, "70 70 70", modelstest.Scalar[string](t, db, `SELECT count(*) || ' ' || max(sequence) || ' ' || (SELECT next_seq - 1 FROM lanes WHERE id = $1)
		FROM webhook_deliveries WHERE webhook_id = $1`, account))
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM (SELECT created_at < lag(created_at) OVER (PARTITION BY webhook_id ORDER BY sequence) AS back FROM webhook_deliveries) x WHERE back`),
		"created_at rises with sequence")
}
