package main

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWebhookThatFailsFiveTimes is delivered at the sixth attempt, at the configured intervals, and all attempts are kept.
func TestWebhookThatFailsFiveTimes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "WEBHOOK_RETRY_SCHEDULE=0s,1s,1s,2s,2s,3s,10s")
	const failures = 5
	var came atomic.Int64
	c.hooks.answering(func(string) int {
		if came.Add(1) <= failures {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	// One event only: the session's first status comes before its webhook is asked for.
	names := c.linkedSessions(1)
	var list struct {
		Deliveries []struct {
			ID, Status, Event string
			Sequence          int64
			Attempts          int
		}
	}
	path := "/sessions/" + names[0] + "/webhook/deliveries"
	c.eventually(60*time.Second, "every delivery is delivered", func() (bool, string) {
		status, data, err := c.request(t.Context(), http.MethodGet, c.entries[0]+"/api/v1"+path+"?status=delivered", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status)
		var pending struct{ Deliveries []any }
		c.call(http.MethodGet, path+"?status=retrying", nil, &pending, http.StatusOK)
		return len(pending.Deliveries) == 0 && came.Load() > failures, string(data)
	})
	c.call(http.MethodGet, path, nil, &list, http.StatusOK)
	total := 0
	for _, d := range list.Deliveries {
		require.Equal(t, "delivered", d.Status)
		var one struct {
			AttemptLog []struct {
				Attempt      int
				ResponseCode int
				CreatedAt    time.Time
			}
		}
		c.call(http.MethodGet, "/webhook-deliveries/"+d.ID, nil, &one, http.StatusOK)
		require.Len(t, one.AttemptLog, d.Attempts)
		total += d.Attempts
		for i, a := range one.AttemptLog {
			require.Equal(t, i+1, a.Attempt)
			if i == d.Attempts-1 {
				require.Equal(t, http.StatusNoContent, a.ResponseCode)
				continue
			}
			require.Equal(t, http.StatusServiceUnavailable, a.ResponseCode)
			// The wait before the next attempt, -20 % of jitter, and +20 % with a sweep or two.
			configured := []time.Duration{time.Second, time.Second, 2 * time.Second, 2 * time.Second, 3 * time.Second}[i]
			waited := one.AttemptLog[i+1].CreatedAt.Sub(a.CreatedAt)
			require.GreaterOrEqual(t, waited, configured*8/10-50*time.Millisecond, "before attempt %d", i+2)
			require.LessOrEqual(t, waited, configured*12/10+4*time.Second, "before attempt %d", i+2)
		}
	}
	require.Equal(t, len(list.Deliveries)+failures, total, "five attempts failed")
	require.EqualValues(t, total, came.Load(), "the subscriber saw each attempt")
}
