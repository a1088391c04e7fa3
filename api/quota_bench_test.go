package api

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/egress"
	"kurir/embedded/embeddedtest"
	"kurir/limits"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
)

// BenchmarkSend is the durable accept of 64 clients at once, alone and with its count in Redis, in turn on the same servers.
func BenchmarkSend(b *testing.B) {
	db := modelstest.DB(b)
	user, s := modelstest.Ready(b, db)
	client := embeddedtest.RedisClient(b)
	a := New(Config{Tiers: limits.Config{limits.Max: {Sessions: 1, MessagesPerHour: 1 << 30}}, BcryptRounds: 4, LimitTimeout: time.Minute}, db, client, nil,
		egress.NewGuard(nil), monitoring.New("test"), nil, slog.New(slog.DiscardHandler))
	b.Cleanup(func() { _ = a.Shutdown(context.Background()) })
	ctx := context.WithValue(context.Background(), principalKey{}, &principal{user: user})
	var uncounted atomic.Int64
	run := func(name string, store func(m *models.NewMessage) error) {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(32) // times 2 cores
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m := &models.NewMessage{ID: models.NewID(), Session: s.UID, Chat: "c@s.whatsapp.net", To: "c@s.whatsapp.net", Type: "TEXT", Content: "hello", ExpiresAt: time.Now().Add(time.Hour)}
					if err := store(m); err != nil {
						b.Error(err)
						return
					}
					if m.Quota == nil {
						uncounted.Add(1)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
	for range 3 {
		run("alone", func(m *models.NewMessage) error { return a.accepter.Accept(ctx, m) })
		uncounted.Store(0)
		run("counted", func(m *models.NewMessage) error {
			return a.counted(ctx, []*models.NewMessage{m}, func() error { return a.accepter.Accept(ctx, m) })
		})
		require.Zero(b, uncounted.Load())
	}
}
