package models_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
)

// BenchmarkPooler is the way of a message on connections of several kinds: accepted, one by one by 16 at once, and claimed and
// settled, ten at a time by one runner.
func BenchmarkPooler(b *testing.B) {
	direct := modelstest.URL(b)
	plain := modelstest.Open(b, direct)
	_, s := modelstest.Ready(b, plain)
	const described = "&default_query_exec_mode=cache_describe"
	kinds := []struct{ name, url, plans string }{
		{"direct", "", ""},
		{"direct, described, generic plans", direct + described, "force_generic_plan"},
		{"direct, described, plans by value", direct + described, "auto"},
	}
	if pooler, ok := embeddedtest.NewPgBouncer(b, direct, 8); ok {
		if pooler.Prepared {
			kinds = append(kinds, struct{ name, url, plans string }{"pooled", pooler.URL(), "force_generic_plan"})
		}
		kinds = append(kinds, struct{ name, url, plans string }{"pooled, described, generic plans", pooler.URL() + described, "force_generic_plan"},
			struct{ name, url, plans string }{"pooled, described, plans by value", pooler.URL() + described, "auto"})
	}
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			at := models.Place{URL: direct}
			if kind.url != "" {
				at = models.Place{URL: kind.url, Direct: direct}
			}
			db, err := models.OpenAt(at, "bench", 16)
			require.NoError(b, err)
			defer func() { _ = db.Close() }()
			if kind.url != "" {
				_, _, err = db.SetForPooler(b.Context())
				require.NoError(b, err)
				_, err = plain.Pool.Exec(b.Context(), fmt.Sprintf("ALTER ROLE CURRENT_USER IN DATABASE %s SET plan_cache_mode = %s", plain.Pool.Config().ConnConfig.Database, kind.plans))
				require.NoError(b, err)
				_, err = plain.Pool.Exec(b.Context(), `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kurir pooled'`)
				require.NoError(b, err)
				db.Pool.Reset()
			}
			require.Eventually(b, func() bool {
				return db.Pool.Ping(b.Context()) == nil && modelstest.Scalar[string](b, db, `SHOW enable_seqscan`) == "off"
			}, 20*time.Second, 10*time.Millisecond)
			benchWay(b, db, s)
		})
	}
}

func benchWay(b *testing.B, db *models.DB, s *models.Session) {
	a := models.NewAccepter(db.Pool, quiet, func([]models.Woken, int) {})
	defer a.Close()
	b.Run("accept", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := a.Accept(context.Background(), newMessage(s.UID, "c@s.whatsapp.net", "hello")); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("claim and settle 10", func(b *testing.B) {
		runner := uuid.New()
		require.NoError(b, models.RenewRunner(b.Context(), db.Pool, runner, "test", 1, time.Hour))
		h, ok, err := models.TakeLane(b.Context(), db.Pool, s.UID, runner)
		require.NoError(b, err)
		require.True(b, ok)
		for b.Loop() {
			b.StopTimer()
			for i := range 10 {
				require.NoError(b, a.Accept(b.Context(), newMessage(s.UID, fmt.Sprint("d", i), "x")))
			}
			b.StartTimer()
			claim, err := models.ClaimMessages(b.Context(), db.Pool, &h, 10)
			require.NoError(b, err)
			var outcomes []models.Outcome
			for i := range claim.Messages {
				outcomes = append(outcomes, outcome(claim, i, models.MessageSent))
			}
			settled, err := models.Settle(b.Context(), db, models.Settlement{Hold: h, SessionID: s.ID, Outcomes: outcomes})
			require.NoError(b, err)
			require.False(b, settled.Left)
		}
		_, err = models.ReleaseLane(b.Context(), db.Pool, models.LaneMessages, h)
		require.NoError(b, err)
		_, err = db.Pool.Exec(b.Context(), `UPDATE lanes SET holder = NULL WHERE id = $1`, s.UID)
		require.NoError(b, err)
	})
	b.Run("backlog", func(b *testing.B) {
		for b.Loop() {
			_, err := models.BacklogOf(b.Context(), db.Pool, models.LaneMessages)
			require.NoError(b, err)
		}
	})
}
