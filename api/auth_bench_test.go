package api

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/egress"
	"kurir/limits"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
)

// BenchmarkAuthenticate is finding out who calls: by a key that is remembered, by one that PostgreSQL has to be asked for, and by a
// token.
func BenchmarkAuthenticate(b *testing.B) {
	db := modelstest.DB(b)
	user := modelstest.User(b, db)
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1})
	b.Cleanup(func() { _ = client.Close() })
	a := New(Config{Tiers: limits.Default(), BcryptRounds: 4, JWTSecret: []byte("a secret of thirty-two bytes ...")}, db, client, nil,
		egress.NewGuard(nil), monitoring.New("test"), nil, slog.New(slog.DiscardHandler))
	b.Cleanup(func() { _ = a.Shutdown(context.Background()) })
	key, row := models.NewAPIKey(user.ID, nil, "benchmark", time.Now())
	_, err := db.NewInsert().Model(row).Exec(b.Context())
	require.NoError(b, err)
	token, err := a.newToken(user, audienceAPI, time.Hour, time.Now())
	require.NoError(b, err)

	run := func(name string, identify func(ctx context.Context) (*principal, error)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p, err := identify(b.Context()); err != nil || p.user.ID != user.ID {
					b.Fatal(p, err)
				}
			}
		})
	}
	run("key", func(ctx context.Context) (*principal, error) { return a.credentials.byKey(ctx, key) })
	run("key, not remembered", func(ctx context.Context) (*principal, error) {
		a.credentials.keys.Purge()
		return a.credentials.byKey(ctx, key)
	})
	run("token", func(ctx context.Context) (*principal, error) { return a.byToken(ctx, token, audienceAPI) })
}
