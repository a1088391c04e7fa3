package monitoring

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scrape returns /metrics.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	return w.Body.String()
}

// full makes metrics with everything watched and counted once.
func full(t *testing.T) *Metrics {
	t.Helper()
	m := New("1.2.3")
	m.Request(http.MethodPost, "/api/v1/sessions/:id/send", 202, 12*time.Millisecond, false)
	m.Request(http.MethodPost, "/api/v1/sessions/:id/send", 200, 9*time.Second, true)
	m.KnownFailures("internal", "not_connected")
	m.RequestFailed("not_connected")
	m.Request("BREW", "", 404, time.Millisecond, false)
	m.RequestsRunning(2)
	m.KnownRoute(http.MethodPost, "/api/v1/auth/register")
	m.KnownJobs("session:create")
	m.JobAttempt("session:create", JobWaiting)
	m.Query("select", 3*time.Millisecond, false)
	m.Query("vacuum", time.Millisecond, true)
	m.WebhookRequest(40 * time.Millisecond)
	m.WebhookDisabled("gone")
	m.JobRun("message:send", JobSucceeded, time.Second)
	m.AcceptToSent(25 * time.Millisecond)
	m.EventToDelivered(15 * time.Millisecond)
	m.Messages("accepted", 3)
	m.Deliveries("delivered", 2)
	m.AcceptBatch(7)
	m.Wake(WakeSuppressed)
	m.WatchLanes(func(context.Context) (map[string]Lane, error) {
		return map[string]Lane{LaneMessages: {Lanes: 4, Depth: 5, Age: 1500 * time.Millisecond}, LaneWebhooks: {}}, nil
	})
	m.WatchFleet(func(context.Context) (Fleet, error) {
		return Fleet{
			Workers:  map[string]int{"online": 2},
			Sessions: map[string]int{"connected": 40},
			Assigned: 41, Capacity: 100,
		}, nil
	})
	m.WatchPostgres(func(context.Context) (Postgres, error) {
		return Postgres{Size: 1 << 30, Dead: 7, Connections: map[string]int{"active": 3, "other": 1}, ConnectionsMax: 100, OldestTransaction: 2 * time.Second,
			TransactionAge: 5000, Commits: 11, Rollbacks: 2, BlocksHit: 90, BlocksRead: 10}, nil
	})
	m.WatchPool("control", func() Pool { return Pool{Max: 8} })
	m.WatchPool("main", func() Pool { return Pool{Max: 10, InUse: 3, Idle: 2, Waits: 9, Waited: 250 * time.Millisecond} })
	redis := miniredis.RunT(t)
	client := goredis.NewClient(&goredis.Options{Addr: redis.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	m.WatchRedisClient(client)
	m.WatchRedisServer(client)
	require.NoError(t, client.Set(t.Context(), "key", "value", 0).Err())
	require.ErrorIs(t, client.Get(t.Context(), "none").Err(), goredis.Nil)
	require.Error(t, client.Incr(t.Context(), "key").Err())
	closeQueues := m.WatchQueues(asynq.RedisClientOpt{Addr: redis.Addr()}, []string{"control", "messages"})
	t.Cleanup(func() { _ = closeQueues() })
	return m
}

func TestMetrics(t *testing.T) {
	got := scrape(t, full(t))
	for _, line := range []string{
		`kurir_build_info{goversion="go1.`,
		`version="1.2.3"} 1`,
		`kurir_http_requests_total{method="other",route="unmatched",status="4xx"} 1`,
		`kurir_http_request_duration_seconds_bucket{method="POST",route="/api/v1/sessions/:id/send",status="2xx",le="0.02"} 1`,
		`kurir_job_duration_seconds_count{kind="message:send",outcome="succeeded"} 1`,
		`kurir_message_accept_to_sent_seconds_bucket{le="0.03"} 1`,
		`kurir_webhook_event_to_delivered_seconds_bucket{le="0.02"} 1`,
		`kurir_messages_total{outcome="accepted"} 3`,
		`kurir_webhook_deliveries_total{outcome="delivered"} 2`,
		`kurir_accept_batch_messages_sum 7`,
		`kurir_wake_hints_total{outcome="suppressed"} 1`,
		`kurir_wake_hints_total{outcome="failed"} 0`,
		`kurir_http_failures_total{code="internal"} 0`,
		`kurir_http_failures_total{code="not_connected"} 1`,
		`kurir_lane_depth{kind="messages"} 5`,
		`kurir_lane_age_seconds{kind="messages"} 1.5`,
		`kurir_lane_depth{kind="webhooks"} 0`,
		`kurir_workers{status="online"} 2`,
		`kurir_workers{status="offline"} 0`,
		`kurir_sessions{status="connected"} 40`,
		`kurir_sessions{status="error"} 0`,
		`kurir_worker_sessions_assigned 41`,
		`kurir_worker_sessions_max 100`,
		`kurir_source_up{source="fleet"} 1`,
		`kurir_source_up{source="lanes"} 1`,
		`kurir_database_connections{pool="main",state="in_use"} 3`,
		`kurir_database_connections{pool="main",state="idle"} 2`,
		`kurir_database_connections_max{pool="control"} 8`,
		`kurir_database_connections_max{pool="main"} 10`,
		`kurir_database_waits_total{pool="main"} 9`,
		`kurir_database_wait_seconds_total{pool="main"} 0.25`,
		`kurir_database_query_duration_seconds_bucket{operation="select",le="0.005"} 1`,
		`kurir_database_query_duration_seconds_count{operation="other"} 1`,
		`kurir_database_query_failures_total 1`,
		`kurir_http_requests_running 2`,
		`kurir_http_requests_total{method="POST",route="/api/v1/auth/register",status="5xx"} 0`,
		`kurir_http_requests_total{method="POST",route="/api/v1/sessions/:id/send",status="2xx"} 2`,
		`kurir_http_request_duration_seconds_count{method="POST",route="/api/v1/sessions/:id/send",status="2xx"} 1`,
		`kurir_job_attempts_total{kind="session:create",outcome="failed"} 0`,
		`kurir_job_attempts_total{kind="session:create",outcome="waiting"} 1`,
		`kurir_webhook_request_duration_seconds_bucket{le="0.05"} 1`,
		`kurir_webhooks_disabled_total{reason="gone"} 1`,
		`kurir_session_migrations_failed_total{reason="offline"} 0`,
		`kurir_lanes_due{kind="messages"} 4`,
		`kurir_postgres_size_bytes 1.073741824e+09`,
		`kurir_postgres_rows{state="dead"} 7`,
		`kurir_postgres_connections{state="active"} 3`,
		`kurir_postgres_connections{state="idle_in_transaction"} 0`,
		`kurir_postgres_connections_max 100`,
		`kurir_postgres_oldest_transaction_seconds 2`,
		`kurir_postgres_transactions_total{outcome="rolled_back"} 2`,
		`kurir_postgres_blocks_total{source="memory"} 90`,
		`kurir_redis_keys `, // one, or one more when the queues were read first
		`kurir_redis_clients `,
		`kurir_redis_connections{state="idle"}`,
		`kurir_redis_command_failures_total 1`,
		`kurir_redis_command_duration_seconds_bucket{le="60"} `,
		`kurir_source_up{source="postgres"} 1`,
		`kurir_source_up{source="redis"} 1`,
		`kurir_queue_memory_bytes{queue="control"}`,
		`kurir_redis_up 1`,
		`kurir_queue_tasks{queue="control",state="pending"} 0`,
		"go_goroutines ",
		"process_start_time_seconds ",
	} {
		assert.True(t, strings.Contains(got, line), "%s is not in it", line)
	}
}

func TestMetricsAreNamedWell(t *testing.T) {
	m := full(t)
	families, err := m.registry.Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	assert.Empty(t, problems)
	for _, family := range families {
		name := family.GetName()
		assert.NotEmpty(t, family.GetHelp(), name)
		own := strings.HasPrefix(name, "kurir_") || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")
		assert.True(t, own, name)
	}
}

func TestTwoRegistriesDoNotMeet(t *testing.T) {
	a, b := New("1"), New("2")
	a.Messages("sent", 1)
	assert.Contains(t, scrape(t, b), `kurir_messages_total{outcome="sent"} 0`)
}

func TestScrapeSurvivesAFailingSource(t *testing.T) {
	m := New("1")
	m.WatchLanes(func(context.Context) (map[string]Lane, error) { return nil, errors.New("database is down") })
	m.WatchFleet(func(context.Context) (Fleet, error) { return Fleet{Assigned: 1}, nil })
	got := scrape(t, m)
	assert.Contains(t, got, `kurir_source_up{source="lanes"} 0`)
	assert.NotContains(t, got, "kurir_lane_depth")
	assert.Contains(t, got, "kurir_worker_sessions_assigned 1")
	assert.NotContains(t, got, "database is down")
}

func TestSourceIsAskedOncePerTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := newSource(func(context.Context) (int, error) { asked++; return asked, nil })
		for range 3 {
			n, err := s.get()
			require.NoError(t, err)
			assert.Equal(t, 1, n)
		}
		<-time.After(sourceTTL) // of the bubble's clock
		n, err := s.get()
		require.NoError(t, err)
		assert.Equal(t, 2, n)
	})
}

func TestSourceThatHangsIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		release := make(chan struct{})
		s := newSource(func(context.Context) (int, error) { // ignores its context, as asynq's Inspector does
			asked.Add(1)
			<-release
			return 7, nil
		})
		for range 3 {
			start := time.Now()
			_, err := s.get()
			assert.ErrorIs(t, err, errSourceTimeout)
			assert.Equal(t, sourceTimeout, time.Since(start))
		}
		assert.Equal(t, int64(1), asked.Load())

		close(release)
		synctest.Wait()
		n, err := s.get()
		require.NoError(t, err)
		assert.Equal(t, 7, n)
	})
}

func TestHandlerServesOverHTTP(t *testing.T) {
	server := httptest.NewServer(full(t).Handler())
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Contains(t, resp.Header.Get("Content-Type"), "text/plain")
	assert.Contains(t, string(body), "# HELP kurir_redis_up ")
}
