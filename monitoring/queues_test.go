package monitoring

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "/admin/queues"

type dashboard struct {
	*httptest.Server
	redis *miniredis.Miniredis
}

func newDashboard(t *testing.T, readOnly bool) dashboard { return newDashboardOver(t, readOnly, "") }

func newDashboardOver(t *testing.T, readOnly bool, prometheus string) dashboard {
	t.Helper()
	redis := miniredis.RunT(t)
	handler := Queues(asynq.RedisClientOpt{Addr: redis.Addr()}, root, readOnly, prometheus)
	server := httptest.NewServer(handler)
	t.Cleanup(func() { server.Close(); _ = handler.Close() })
	return dashboard{server, redis}
}

func (d dashboard) do(t *testing.T, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.URL+path, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := d.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

func TestShowIDs(t *testing.T) {
	long := `{"id":"` + strings.Repeat("a", 200) + `"}`
	tests := []struct{ payload, want string }{
		{"", ""},
		{`{}`, `{}`},
		{`{"sessionId":"0190b5f0-0000-7000-8000-000000000001"}`, `{"sessionId":"0190b5f0-0000-7000-8000-000000000001"}`},
		{`{"id":"a","jobID":"job:7","attempt":3,"force":true,"from":null}`,
			`{"attempt":3,"force":true,"from":null,"id":"a","jobID":"job:7"}`},
		{`{"to":"6281234567890"}`, `{"to":"(hidden)"}`},
		{`{"id":"6281234567890"}`, `{"id":"(hidden)"}`},
		{`{"chatId":"6281234567890@s.whatsapp.net"}`, `{"chatId":"(hidden)"}`},
		{`{"id":6281234567890}`, `{"id":"(hidden)"}`},
		{`{"id":"hello, world"}`, `{"id":"(hidden)"}`},
		{`{"paid":"secret"}`, `{"paid":"(hidden)"}`},
		{`{"data":{"id":"a"},"ids":["a"]}`, `{"data":"(hidden)","ids":"(hidden)"}`},
		{long, hidden},
		{`not JSON`, hidden},
		{`"text"`, hidden},
		{`["a"]`, hidden},
		{`null`, hidden},
		{"\x00\xff", hidden},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, showIDs([]byte(tt.payload)), "%q", tt.payload)
	}
}

func TestDashboardShowsIDsAlone(t *testing.T) {
	d := newDashboard(t, false)
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: d.redis.Addr()})
	defer func() { _ = client.Close() }()
	for _, payload := range []string{`{"sessionId":"abc"}`, `{"text":"a secret word"}`, `a secret word`} {
		_, err := client.Enqueue(asynq.NewTask("message:send", []byte(payload)), asynq.Queue("messages"))
		require.NoError(t, err)
	}
	resp, body := d.do(t, http.MethodGet, root+"/api/queues/messages/pending_tasks")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	var answer struct {
		Tasks []struct{ Payload string } `json:"tasks"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Len(t, answer.Tasks, 3)
	assert.Contains(t, body, `{\"sessionId\":\"abc\"}`)
	assert.NotContains(t, body, "secret")
}

func TestDashboardLoadsItsOwnFilesAlone(t *testing.T) {
	d := newDashboard(t, false)
	for _, path := range []string{root, root + "/", root + "/queues/messages?status=pending"} {
		resp, page := d.do(t, http.MethodGet, path)
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		assert.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
		assert.NotRegexp(t, `(src|href)="(https?:)?//`, page, "no foreign host")
		assert.NotContains(t, page, "googleapis")
		assert.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
		assert.Equal(t, 2, strings.Count(resp.Header.Get("Content-Security-Policy"), "'sha256-"), "its two inline scripts")
	}
	_, page := d.do(t, http.MethodGet, root)
	files := regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, files)
	for _, file := range files {
		require.True(t, strings.HasPrefix(file[1], root+"/"), "%s is under the root path", file[1])
		resp, body := d.do(t, http.MethodGet, file[1])
		assert.Equal(t, http.StatusOK, resp.StatusCode, file[1])
		assert.False(t, strings.HasPrefix(body, "<!doctype"), "%s is a file, not the page", file[1])
		if strings.HasSuffix(file[1], ".js") {
			assert.Contains(t, resp.Header.Get("Content-Type"), "application/javascript")
		}
	}
}

func TestDashboardTakesOrdersFromItsOwnSiteAlone(t *testing.T) {
	d := newDashboard(t, false)
	enqueue(t, d.redis.Addr(), "messages", 1)
	pause := root + "/api/queues/messages:pause"

	resp, _ := d.do(t, http.MethodPost, pause, "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
	resp, _ = d.do(t, http.MethodPost, pause, "Origin", "https://evil.example")
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
	resp, body := d.do(t, http.MethodPost, pause, "Sec-Fetch-Site", "same-origin")
	assert.Equal(t, http.StatusNoContent, resp.StatusCode, body)
}

func TestDashboardReadOnly(t *testing.T) {
	d := newDashboard(t, true)
	enqueue(t, d.redis.Addr(), "messages", 1)
	resp, _ := d.do(t, http.MethodPost, root+"/api/queues/messages:pause")
	assert.Equal(t, http.StatusMethodNotAllowed, resp.StatusCode)
	resp, body := d.do(t, http.MethodGet, root+"/api/queues")
	assert.Equal(t, http.StatusOK, resp.StatusCode, body)
	assert.Contains(t, body, `"messages"`)
	_, page := d.do(t, http.MethodGet, root)
	assert.Contains(t, page, `FLAG_READ_ONLY="true"`)
}

func TestDashboardDrawsCharts(t *testing.T) {
	var queries sync.Map
	prometheus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/api/v1/query_range", r.URL.Path)
		queries.Store(r.URL.Query().Get("query"), true)
		_, _ = io.WriteString(w, `{"status":"success"}`)
	}))
	defer prometheus.Close()
	d := newDashboardOver(t, true, prometheus.URL)
	_, page := d.do(t, http.MethodGet, root)
	assert.Contains(t, page, `FLAG_PROMETHEUS_SERVER_ADDRESS="http`, "the page offers charts")
	resp, body := d.do(t, http.MethodGet, root+"/api/metrics?queues=messages")
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	assert.Contains(t, body, `"queue_size":{"status":"success"}`)
	_, asked := queries.Load(`asynq_queue_size{queue=~"messages"}`)
	assert.True(t, asked, "what rules/asynqmon.yml records")
}

func TestDashboardWithAPrometheusThatHangs(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	entered := make(chan struct{}, chartsAtOnce)
	inner := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-hang })
	handler := chartsInTime(inner, "/charts")
	var waiting sync.WaitGroup
	ctx, leave := context.WithCancel(t.Context())
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/charts", nil).WithContext(ctx))
		return w
	}
	for range chartsAtOnce {
		waiting.Go(func() { get() })
		<-entered
	}
	assert.Equal(t, http.StatusServiceUnavailable, get().Code, "all places are taken")
	leave() // as the time's being up would
	waiting.Wait()
	ctx = t.Context()
	assert.Equal(t, http.StatusServiceUnavailable, get().Code, "who was given up holds his place until Prometheus answers")
}
