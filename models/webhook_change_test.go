package models_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// What a change may have mended is tried at once; what it has not is left to its schedule.
func TestAChangeOfAWebhookTriesAgain(t *testing.T) {
	d := newDeliveries(t, 1)
	now := func(change func(w *models.Webhook)) bool {
		d.exec(`UPDATE webhook_deliveries SET status = 'RETRYING', next_retry = now() + interval '20 hours'`)
		changeWebhook(t, d.db, d.session, change)
		return modelstest.Scalar[bool](t, d.db, `SELECT next_retry <= now() FROM webhook_deliveries`)
	}
	require.False(t, now(func(w *models.Webhook) { w.UpdatedAt = time.Now() }))
	require.True(t, now(func(w *models.Webhook) { w.URL = "http://mended" }))
	require.False(t, now(func(w *models.Webhook) { w.URL = "http://mended" }), "as it was")
	require.True(t, now(func(w *models.Webhook) { w.Ordered = true }))
	require.True(t, now(func(w *models.Webhook) { w.OnFailure, w.SkipAfter = models.OnFailureSkip, 1 }))
	require.False(t, now(func(w *models.Webhook) { w.IsActive = false }))
	require.True(t, now(func(w *models.Webhook) { w.IsActive, w.Ordered = true, false }), "switched on")
}

// A failure of weeks ago and one of today are not a time of nothing but failures.
func TestFailingSinceNeedsFailuresAllTheTime(t *testing.T) {
	d := newDeliveries(t, 1)
	list := d.due(false, 1)
	fails := func() *time.Time {
		return d.settleTried(d.hold, d.tried(list, 0, models.DeliveryRetrying, time.Hour))
	}
	passes := func(hours int) {
		d.exec(`UPDATE webhooks SET last_failure = last_failure - make_interval(hours => $1), failing_since = failing_since - make_interval(hours => $1)`, hours)
	}
	require.WithinDuration(t, time.Now(), *fails(), time.Minute)
	for range 4 {
		passes(36)
		fails()
	}
	require.WithinDuration(t, time.Now().Add(-4*36*time.Hour), *fails(), time.Minute, "each day and a half")
	passes(49)
	require.WithinDuration(t, time.Now(), *fails(), time.Minute)
}

func TestNewestAttemptsAreShown(t *testing.T) {
	d := newDeliveries(t, 1)
	id := d.due(false, 1)[0].ID
	d.exec(`INSERT INTO webhook_attempts (delivery_id, attempt, duration_ms) SELECT $1, n, 1 FROM generate_series(1, 203) n`, id)
	_, attempts, err := models.DeliveryOf(t.Context(), d.db, d.session.UserID, id)
	require.NoError(t, err)
	require.Len(t, attempts, 200)
	require.Equal(t, "4 203", fmt.Sprint(attempts[0].Attempt, " ", attempts[199].Attempt))
}
