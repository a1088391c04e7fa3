package monitoring

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func up(context.Context) error { return nil }

func down(context.Context) error {
	return errors.New("dial tcp 10.1.2.3:5432: password authentication failed")
}

func TestReady(t *testing.T) {
	tests := []struct {
		name   string
		checks []Check
		want   string
	}{
		{"nothing to check", nil, StatusOK},
		{"all up", []Check{{"a", up, false}, {"b", up, true}}, StatusOK},
		{"one that is needed", []Check{{"a", up, false}, {"b", down, false}}, StatusDown},
		{"one that is not", []Check{{"a", up, false}, {"b", down, true}}, StatusDegraded},
		{"both", []Check{{"a", down, false}, {"b", down, true}}, StatusDown},
		{"both, the other way round", []Check{{"a", down, true}, {"b", down, false}}, StatusDown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report := Ready(t.Context(), tt.checks)
			assert.Equal(t, tt.want, report.Status)
			require.Len(t, report.Checks, len(tt.checks))
			for i, check := range tt.checks {
				assert.Equal(t, check.Name, report.Checks[i].Name, "in the order of the checks")
			}
		})
	}
}

func TestReadyNeverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		stuck := func(context.Context) error { <-release; return nil }
		slow := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		start := time.Now()
		report := Ready(t.Context(), []Check{{"stuck", stuck, false}, {"slow", slow, false}, {"fine", up, false}})
		assert.Equal(t, checkTimeout, time.Since(start), "side by side, and not longer")
		assert.Equal(t, StatusDown, report.Status)
		for i, want := range []string{"timed out", "timed out", ""} {
			assert.Equal(t, want, report.Checks[i].Error)
		}
		assert.Equal(t, 2000.0, report.Checks[0].LatencyMs)
	})
}

func TestReportSaysNoMoreThanEverybodyMayKnow(t *testing.T) {
	report := Ready(t.Context(), []Check{{"postgres", down, false}})
	require.ErrorContains(t, report.Checks[0].Cause, "password", "the cause is there for the log")
	report.Checks[0].LatencyMs = 1.5
	text, err := json.Marshal(report)
	require.NoError(t, err)
	assert.JSONEq(t, `{"status":"down","checks":[
		{"name":"postgres","status":"down","error":"not available","latencyMs":1.5}]}`, string(text))
}

func TestServer(t *testing.T) {
	get := func(server *http.Server, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w
	}
	broken := Server("127.0.0.1:0", New("1"), []Check{{"postgres", down, false}})
	limping := Server("127.0.0.1:0", New("1"), []Check{{"redis", down, true}})
	tests := []struct {
		server *http.Server
		path   string
		code   int
		body   string
	}{
		{broken, "/health", 503, `"status":"down"`},
		{broken, "/health/ready", 503, `"name":"postgres"`},
		{broken, "/health/live", 200, `{"status":"ok","checks":[]}`},
		{limping, "/health", 200, `"status":"degraded"`},
		{limping, "/health/ready", 200, `"status":"degraded"`},
		{broken, "/metrics", 200, "kurir_build_info"},
		{broken, "/", 404, ""},
	}
	for _, tt := range tests {
		w := get(tt.server, tt.path)
		assert.Equal(t, tt.code, w.Code, tt.path)
		assert.Contains(t, w.Body.String(), tt.body, tt.path)
	}
	assert.Equal(t, "127.0.0.1:0", broken.Addr)
	assert.Equal(t, "application/json", get(broken, "/health").Header().Get("Content-Type"))
}
