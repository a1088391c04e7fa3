package tracing_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"kurir/tracing"
)

var quiet = slog.New(slog.DiscardHandler)

// TestExport takes what is exported as a collector does.
func TestExport(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-token=abc")
	got := make(chan *collector.ExportTraceServiceRequest, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &request); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Token") != "abc" {
			t.Errorf("%s %v: %v", r.URL, r.Header, err)
		}
		got <- &request
	}))
	defer server.Close()
	tracer, err := tracing.New(tracing.Config{Endpoint: server.URL + "/v1/traces", Service: "kurir-api", Version: "1.2.3", Instance: "one"}, quiet)
	require.NoError(t, err)
	_, span := tracer.Request(t.Context(), caller, true)
	span.Route("POST", "/api/v1/messages")
	span.End()
	tracer.Close() // exports what is left
	spans := (<-got).ResourceSpans[0]
	who := map[string]string{}
	for _, a := range spans.Resource.Attributes {
		who[a.Key] = a.Value.GetStringValue()
	}
	require.Subset(t, who, map[string]string{"service.name": "kurir-api", "service.version": "1.2.3", "service.instance.id": "one", "deployment.environment.name": "test"})
	require.Equal(t, "POST /api/v1/messages", spans.ScopeSpans[0].Spans[0].Name)
}

func TestServiceNameOfTheEnvironment(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "courier")
	tracer, kept := newTracer(t, tracing.Config{Service: "kurir-api"})
	_, span := tracer.Root(t.Context(), tracing.Consumer, "x")
	span.End()
	require.Contains(t, kept.GetSpans()[0].Resource.String(), "service.name=courier")
}

// page is a log that is read while others write.
type page struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// TestCollectorThatHangs makes more spans than are queued, and ends, while the collector keeps whoever asks it waiting until
// the test is over.
func TestCollectorThatHangs(t *testing.T) {
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-over }))
	defer server.Close()
	defer close(over)
	log := new(page)
	tracer, err := tracing.New(tracing.Config{Endpoint: server.URL + "/v1/traces"}, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	for range 10_000 {
		_, span := tracer.Root(context.Background(), tracing.Consumer, "x")
		span.End()
	}
	tracer.Close()
	require.Contains(t, log.String(), "the last traces were not exported")
}

func TestCollectorThatIsNotThere(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	tracer, err := tracing.New(tracing.Config{Endpoint: server.URL + "/v1/traces"}, quiet)
	require.NoError(t, err, "it may come later")
	_, span := tracer.Root(t.Context(), tracing.Consumer, strings.Repeat("x", 100))
	span.End()
	tracer.Close()
}
