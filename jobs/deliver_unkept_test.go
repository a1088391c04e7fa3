package jobs

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

// What has no event any more is not sent without its data: it has failed, by no fault of the endpoint, and holds up nobody.
func TestWhatIsNotKeptIsNotDelivered(t *testing.T) {
	for name, ordered := range map[string]bool{"side by side": false, "in order": true} {
		t.Run(name, func(t *testing.T) {
			b := newHookBench(t)
			b.exec(`UPDATE webhooks SET ordered = $1`, ordered)
			b.emit(b.session, 4)
			b.exec(`UPDATE webhook_deliveries SET status = 'RETRYING', attempts = 2, response_code = 500, next_retry = now() WHERE sequence = 1`)
			b.exec(`DELETE FROM events WHERE id IN (SELECT event_id FROM webhook_deliveries WHERE sequence IN (1, 3))`)
			require.NoError(t, b.run(t.Context(), DeliverWebhook{WebhookID: b.hook}))
			require.ElementsMatch(t, []int64{2, 4}, b.got)
			require.Equal(t, "1 FAILED 2, 2 DELIVERED 1, 3 FAILED 0, 4 DELIVERED 1", b.states())
			require.EqualValues(t, 2, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM webhook_deliveries WHERE error LIKE 'event_not_kept: %' AND next_retry IS NULL`))
			require.EqualValues(t, 2, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM webhook_attempts`))
			require.True(t, modelstest.Scalar[bool](t, b.db, `SELECT failure_count = 0 AND failing_since IS NULL FROM webhooks`))
		})
	}
}
