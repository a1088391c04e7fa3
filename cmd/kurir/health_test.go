package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
)

func TestHealthAsksWhatTheEnvironmentSays(t *testing.T) {
	for _, tt := range []struct {
		command string
		live    bool
		env     []string
		want    string
	}{
		{"api", false, nil, "http://127.0.0.1:8000/health"},
		{"api", true, []string{"PORT=80", "METRICS_PORT=9100"}, "http://127.0.0.1:80/health/live"},
		{"runner", false, []string{"METRICS_PORT=9100"}, "http://127.0.0.1:9100/health"},
		{"scheduler", true, []string{"METRICS_PORT=9101"}, "http://127.0.0.1:9101/health/live"},
		{"runner", false, nil, ""},
		{"worker", false, []string{"METRICS_PORT=9100"}, "http://127.0.0.1:8001/health"},
		{"worker", true, []string{"WORKER_PORT=18001"}, "http://127.0.0.1:18001/health"},
		{"simnet", false, nil, "http://127.0.0.1:8090/health"},
		{"simnet", true, []string{"SIMNET_HOST=0.0.0.0", "SIMNET_PORT=81"}, "http://127.0.0.1:81/health"},
		{"simnet", false, []string{"SIMNET_HOST=::"}, "http://127.0.0.1:8090/health"},
		{"simnet", false, []string{"SIMNET_HOST=::1"}, "http://[::1]:8090/health"},
		{"simnet", false, []string{"SIMNET_HOST=10.0.0.7"}, "http://10.0.0.7:8090/health"},
	} {
		c, err := readConfig(tt.env)
		require.NoError(t, err)
		url, err := c.healthURL(tt.command, tt.live)
		if tt.want == "" {
			require.ErrorContains(t, err, "METRICS_PORT is not set")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, tt.want, url)
	}
}

func TestCommandOfAProcess(t *testing.T) {
	for line, want := range map[string]string{
		"/kurir\x00api\x00":                                  "api",
		"kurir\x00worker\x00--engine=simulator\x00":          "worker",
		"/sbin/docker-init\x00--\x00/kurir\x00scheduler\x00": "scheduler",
		"/kurir\x00doctor\x00":                               "",
		"/kurir":                                             "",
		"sh\x00-c\x00kurir api\x00":                          "",
		"/sbin/init\x00api\x00":                              "",
		"":                                                   "",
	} {
		require.Equal(t, want, commandOf(line), "%q", line)
	}
}

func TestHealth(t *testing.T) {
	status, hang := http.StatusOK, make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			<-hang
		case "/health":
			w.Header().Set("Location", "/health/live")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"status":"down"}`)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(hang) })
	at, err := url.Parse(server.URL)
	require.NoError(t, err)
	health := func(args ...string) error {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"health"}, args...), []string{"PORT=" + at.Port(), "METRICS_PORT=" + fmt.Sprint(embeddedtest.Port(t))}, &out, &out)
		require.Equal(t, err == nil, out.String() == "api is healthy\n", "%s", &out)
		return err
	}
	require.NoError(t, health("api"))
	require.NoError(t, health("api", "--live"))
	status = http.StatusServiceUnavailable
	require.ErrorContains(t, health("api"), `503 Service Unavailable: {"status":"down"}`)
	require.Equal(t, 1, exitCode(health("api")))
	require.NoError(t, health("api", "--live"))
	status = http.StatusFound
	require.ErrorContains(t, health("api"), "302", "nobody else is asked")
	require.ErrorContains(t, health("runner"), "refused")
	require.ErrorContains(t, askHealth(t.Context(), server.URL+"/hang", 20*time.Millisecond), "no answer within 20ms")
	for _, wrong := range [][]string{{}, {"up"}, {"api", "runner"}, {"api", "--dead"}} {
		require.Equal(t, 2, exitCode(health(wrong...)), wrong) // the first process here is no kurir
	}
}
