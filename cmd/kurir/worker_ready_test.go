package main

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
)

// A worker that the gateway does not take is alive and not ready: nobody restarts it, and no rollout passes it.
func TestWorkerWithoutALeaseIsNotReady(t *testing.T) {
	at, own := loopback(embeddedtest.Port(t)), loopback(embeddedtest.Port(t))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"worker"}, []string{"KURIR_HOME=" + t.TempDir(), "LOG_FILE_PATH=", "GATEWAY_URL=http://127.0.0.1:1", "SIMNET_URL=http://127.0.0.1:1",
			"WORKER_AUTH_TOKEN=of-no-gateway-at-all", "WORKER_PORT=" + portOf(own), "METRICS_PORT=" + portOf(at)}, io.Discard, io.Discard)
	}()
	status := func(url string) int {
		resp, err := http.Get(url)
		if err != nil {
			return 0
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	require.Eventually(t, func() bool { return status(at+"/health/live") == http.StatusOK }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, status(at+"/health/ready"))
	require.Equal(t, http.StatusOK, status(own+"/health"))
	stop()
	require.NoError(t, <-ended)
}
