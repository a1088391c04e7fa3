package api_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/api"
)

// A process that is about to stop says so first, and serves until balancers have heard of it.
func TestShutdown(t *testing.T) {
	t.Parallel()
	const delay = 3 * time.Second
	w := start(t, func(_ *world, c *api.Config) { c.ShutdownDelay = delay })
	u := w.register("u")
	w.health("/health/ready", 200)
	require.False(t, w.ask("w1", "", nil).closes, "connections are kept")
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- w.stop(context.Background()) }()
	w.eventually("the word", func() bool { return w.do("GET", "/health/ready", nil, nil).status == 503 })
	require.Less(t, time.Since(began), delay/2, "at once")
	a := w.do("GET", "/health/ready", nil, nil).refused(503, "shutting_down")
	require.Equal(t, "1", a.header.Get("Retry-After"))
	for range 5 { // all the time
		me := w.do("GET", "/api/v1/auth/me", u.auth(), nil)
		me.ok(200)
		require.True(t, me.closes, "clients are asked to go elsewhere")
	}
	w.health("/health", 200)
	require.Equal(t, 200, w.do("GET", "/health/live", nil, nil).status)
	w.ask("w2", "", nil).ok(200)
	require.Less(t, time.Since(began), delay, "the test was too slow to see anything")
	select {
	case err := <-ended:
		t.Fatalf("it ended before its time: %v", err)
	default:
	}
	require.NoError(t, <-ended)
	require.GreaterOrEqual(t, time.Since(began), delay)
	_, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.Error(t, err, "nobody should listen any more")
	require.EqualValues(t, 2, w.count("workers"))
}

// Whoever stops it may be in a hurry.
func TestShutdownInAHurry(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) { c.ShutdownDelay = time.Hour })
	w.register("u")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_ = w.stop(ctx)
	require.Less(t, time.Since(began), patience/2)
}
