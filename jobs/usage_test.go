package jobs

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/webhook"
)

// However many runners close months at once, each is closed and announced once: signed, under one ID, until it is taken, and
// not to an address that is not allowed.
func TestClosedPeriodsAreAnnounced(t *testing.T) {
	secret := webhook.NewSecret()
	var bodies []string
	status := http.StatusInternalServerError
	operator := newOperator(t, secret, func(id string, body []byte) int {
		bodies = append(bodies, id+string(body))
		return status
	})
	f := newFleet(t, 0)
	user := modelstest.User(t, f.db)
	f.runner.cfg.BillingURL, f.runner.cfg.OperatorSecret, f.runner.cfg.CloseAfter = operator.URL, secret, time.Nanosecond
	f.tick(f.runner.closePeriods)
	require.Empty(t, f.due(), "this month is not over")

	now := time.Now().UTC()
	last := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, -1, 0)
	f.exec(`UPDATE usage_state SET open_from = $1`, last)
	f.exec(`INSERT INTO message_tallies (user_id, session_uid, direction, message_type, status, at)
		SELECT $1, $1, 'OUTBOUND', CASE WHEN n % 10 = 0 THEN 'REACTION' ELSE 'TEXT' END, 'SENT', $2::timestamptz + interval '1 hour' FROM generate_series(1, $3) n`,
		user.ID, last, 2*models.TallyBatch+100)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := f.runner.closePeriods(context.Background(), tick{}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	billed := int64(2*models.TallyBatch+100) * 9 / 10
	due := f.due()
	require.Len(t, due, 1)
	require.Equal(t, KindPeriodClosed, due[0].Kind)
	require.Equal(t, int64(1), modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM system_logs WHERE message = 'billing.period_closed'`))

	f.runJob(t.Context(), due[0], false)
	require.Empty(t, bodies, "a private address that nobody has allowed")
	hooks := webhook.NewClient(webhook.ClientConfig{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	t.Cleanup(hooks.Close)
	f.runner.hooks = hooks
	f.runJob(t.Context(), f.due()[0], false)
	f.runner.cfg.BillingURL = ""
	f.runJob(t.Context(), f.due()[0], false)
	f.runner.cfg.BillingURL = operator.URL
	announced := func() *time.Time {
		periods, err := models.Periods(t.Context(), f.db.Pool, [16]byte{}, 10)
		require.NoError(t, err)
		require.Len(t, periods, 1)
		return periods[0].AnnouncedAt
	}
	require.Nil(t, announced())
	status = http.StatusNoContent
	due = f.due()
	require.Len(t, due, 1, "it was not taken")
	f.runJob(t.Context(), due[0], false)
	require.Empty(t, f.due())
	require.NotNil(t, announced())
	require.Len(t, bodies, 2)
	require.Equal(t, bodies[0], bodies[1])

	var n PeriodNotice
	require.NoError(t, json.Unmarshal([]byte(bodies[0][36:]), &n))
	require.Equal(t, n.ID.String(), bodies[0][:36])
	require.Equal(t, "billing.period_closed", n.Type)
	require.Equal(t, []any{last.Format("2006-01"), int64(1), billed, int64(0)}, []any{n.Data.Period, n.Data.Users, n.Data.Messages, n.Data.APIHits})
	require.Equal(t, []time.Time{last, last.AddDate(0, 1, 0)}, []time.Time{n.Data.From, n.Data.Until})
}

func TestPeriodsCloseWithoutAnybodyToTell(t *testing.T) {
	f := newFleet(t, 0)
	f.exec(`UPDATE usage_state SET open_from = (open_from - interval '2 months')::date`)
	f.runner.cfg.CloseAfter = time.Nanosecond
	f.tick(f.runner.closePeriods)
	require.Empty(t, f.due())
	periods, err := models.Periods(t.Context(), f.db.Pool, [16]byte{}, 10)
	require.NoError(t, err)
	require.Len(t, periods, 2, "months in which there was nothing are closed too")
	require.Zero(t, periods[0].Users+periods[1].Users)
}
