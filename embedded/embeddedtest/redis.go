package embeddedtest

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"

	"kurir/embedded"
)

// Redis returns the URL of a fresh private Redis, the real one if installed, stopped at the end of the test.
func Redis(t testing.TB) string {
	t.Helper()
	return NewRedis(t, "").URL()
}

// RedisClient is a client of a fresh private Redis.
func RedisClient(t testing.TB) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(Redis(t))
	if err != nil {
		t.Fatalf("URL of Redis: %v", err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// RedisHandle is a Redis that a test can take away and bring back.
type RedisHandle struct {
	t       testing.TB
	cfg     embedded.Config
	servers *embedded.Servers
	url     string
	kind    string
}

// NewRedis starts a fresh private Redis of the kind, embedded.RedisServer or embedded.Miniredis; "" takes the real one if
// installed. It is stopped at the end of the test.
func NewRedis(t testing.TB, kind string) *RedisHandle {
	t.Helper()
	f, n, err := next()
	if err != nil {
		t.Fatalf("start Redis: %v", err)
	}
	h := &RedisHandle{t: t, cfg: embedded.Config{
		Home: filepath.Join(f.path, fmt.Sprintf("redis-%d", n)), Redis: true, RedisKind: kind,
	}}
	h.Start()
	h.url, h.kind = h.servers.RedisURL, h.servers.RedisKind
	u, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	if h.cfg.RedisPort, err = strconv.Atoi(u.Port()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Stop)
	return h
}

// URL returns where the Redis is, or was: it stays the same over Stop and Start.
func (h *RedisHandle) URL() string { return h.url }

// Kind returns what it is, for example "redis-server 7.0.15" or "miniredis".
func (h *RedisHandle) Kind() string { return h.kind }

// Start brings the Redis back, empty, after Stop.
func (h *RedisHandle) Start() {
	h.t.Helper()
	if h.servers != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := embedded.Start(ctx, h.cfg)
	if err != nil {
		h.t.Fatalf("start Redis: %v", err)
	}
	h.servers = s
}

// Stop ends the Redis: its connections break, new ones are refused, and what it held is lost.
func (h *RedisHandle) Stop() {
	h.t.Helper()
	if h.servers == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.servers.Stop(ctx); err != nil {
		h.t.Errorf("stop Redis: %v", err)
	}
	h.servers = nil
}

// FlushAll deletes all that it holds, while it goes on.
func (h *RedisHandle) FlushAll() {
	h.t.Helper()
	opt, err := redis.ParseURL(h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	client := redis.NewClient(opt)
	defer client.Close()
	if err := client.FlushAll(context.Background()).Err(); err != nil {
		h.t.Fatalf("flush Redis: %v", err)
	}
}
