package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestConfigOfTraces(t *testing.T) {
	for environ, want := range map[string]string{
		"":                                     "",
		"OTEL_TRACES_SAMPLER=always_on":        "",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://a": "http://a/v1/traces",
		"OTEL_EXPORTER_OTLP_ENDPOINT=https://a:1/b/ OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf": "https://a:1/b/v1/traces",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://a OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://b/c":   "http://b/c",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://a OTEL_TRACES_EXPORTER=none":                       "",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://a OTEL_SDK_DISABLED=true":                          "",
	} {
		c, err := readConfig(strings.Fields(environ))
		require.NoError(t, err, environ)
		require.Equal(t, want, c.tracesTo(), environ)
		require.NotContains(t, c.redacted().String(), "http://a", "it may hold a token")
		traces, err := c.tracer("api", "one", slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.Equal(t, want != "", traces != nil, environ)
		traces.Close()
	}
	for wrong, name := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4318":                                  "OTEL_EXPORTER_OTLP_ENDPOINT",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=grpc://a":                                 "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://a OTEL_EXPORTER_OTLP_PROTOCOL=grpc":       "OTEL_EXPORTER_OTLP_PROTOCOL",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://a OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=tcp": "OTEL_EXPORTER_OTLP_PROTOCOL",
		"OTEL_TRACES_EXPORTER=zipkin":                                                 "OTEL_TRACES_EXPORTER",
		"OTEL_TRACES_SAMPLER=sometimes":                                               "OTEL_TRACES_SAMPLER",
		"TRACE_CALLERS=trust":                                                         "TRACE_CALLERS",
	} {
		_, err := readConfig(strings.Fields(wrong))
		require.ErrorContains(t, err, name, wrong)
	}
}

// traceCollector takes what processes export, as a collector does.
type traceCollector struct {
	url   string
	mu    sync.Mutex
	spans []exported
}

type exported struct{ service, name, trace, id, parent string }

func newTraceCollector(t *testing.T) *traceCollector {
	c := &traceCollector{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request otlp.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("export to %s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range request.ResourceSpans {
			service := ""
			for _, a := range of.Resource.Attributes {
				if a.Key == "service.name" {
					service = a.Value.GetStringValue()
				}
			}
			for _, s := range of.ScopeSpans[0].Spans {
				c.spans = append(c.spans, exported{service, s.Name, hex.EncodeToString(s.TraceId), hex.EncodeToString(s.SpanId), hex.EncodeToString(s.ParentSpanId)})
			}
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// of is a trace: service and name of each span and of its parent, sorted. Deliveries are left out but the first: receipts come
// when they like.
func (c *traceCollector) of(trace string) (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := map[string]string{}
	for _, s := range c.spans {
		names[s.id] = s.service + " " + s.name
	}
	for _, s := range c.spans {
		if s.trace == trace {
			lines = append(lines, names[s.id]+" < "+names[s.parent])
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// TestTracesOfTheWholeProgram sends a message through all parts of Kurir and has a collector find one trace.
func TestTracesOfTheWholeProgram(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20") // the SDK reads it of the process
	collector := newTraceCollector(t)
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	delivered := make(chan string, 100)
	hooks := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { delivered <- r.Header.Get("traceparent") }))
	defer hooks.Close()
	url := everything(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.url) + "/api/v1"
	key := ""
	call := func(method, path string, body any, headers ...string) map[string]any {
		raw, err := json.Marshal(body)
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), method, url+path, bytes.NewReader(raw))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Api-Key", key)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		var got struct {
			Success bool
			Data    map[string]any
		}
		require.NoError(t, json.NewDecoder(answer.Body).Decode(&got))
		require.True(t, got.Success, "%s %s: %d", method, path, answer.StatusCode)
		return got.Data
	}
	key, _ = call("POST", "/auth/register", map[string]any{"email": "traces@example.com", "password": "correct horse battery"})["apiKey"].(string)
	call("POST", "/sessions", map[string]any{"name": "shop", "sessionId": "traced-shop", "webhook": map[string]any{"url": hooks.URL, "events": []string{"message.sent"}}}, "Prefer", "wait=20")
	require.Eventually(t, func() bool { return call("GET", "/sessions/traced-shop", nil)["status"] == "connected" }, 20*time.Second, 10*time.Millisecond)
	call("POST", "/sessions/traced-shop/send", map[string]any{"to": "6281234567890", "message": "Hello"}, "traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	require.Contains(t, <-delivered, trace)
	want := []string{
		"kurir-api POST /api/v1/sessions/:id/send < ",
		"kurir-runner message:send < kurir-api POST /api/v1/sessions/:id/send",
		"kurir-worker POST /session/{id}/send < kurir-runner message:send",
		"kurir-worker network send < kurir-worker POST /session/{id}/send",
	}
	var got []string
	require.Eventually(t, func() bool {
		got = collector.of(trace)
		return !slices.ContainsFunc(want, func(line string) bool { return !slices.Contains(got, line) }) && slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "kurir-runner webhook:deliver < ") })
	}, 20*time.Second, 10*time.Millisecond, "%v", got)
	require.Len(t, got, len(want)+1)
}
