package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// Config says who makes traces and where they go. The SDK reads the rest from the process's environment, OTEL_TRACES_SAMPLER and
// OTEL_EXPORTER_OTLP_HEADERS for example.
type Config struct {
	Endpoint    string           // URL that takes traces as OTLP over HTTP; empty: there are none
	Service     string           // its name, unless OTEL_SERVICE_NAME says another one
	Instance    string           // which of the processes of that name
	Version     string           //
	LinkCallers bool             // a caller's trace is linked to; false: it goes on here
	Exporter    sdk.SpanExporter // gets each span as it ends, instead of Endpoint
}

// flushTime bounds the end: a process that stops waits no longer for its last spans to be exported.
const flushTime = 3 * time.Second

// New makes a Tracer, nil if there is nowhere to export to. Whoever makes spans never waits for their export: they are queued, and
// dropped when the queue is full.
func New(cfg Config, log *slog.Logger) (*Tracer, error) {
	if cfg.Endpoint == "" && cfg.Exporter == nil {
		return nil, nil
	}
	who, err := resource.New(context.Background(), resource.WithAttributes(attribute.String("service.name", cfg.Service),
		attribute.String("service.version", cfg.Version), attribute.String("service.instance.id", cfg.Instance)), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil { // what could be read of it is there
		log.Warn("OTEL_RESOURCE_ATTRIBUTES cannot be read as a whole", "error", err)
	}
	life, end := context.WithCancel(context.Background())
	process, err := processor(life, cfg, log)
	if err != nil {
		end()
		return nil, fmt.Errorf("exporter of traces: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithResource(who), sdk.WithSpanProcessor(process))
	return &Tracer{tracer: provider.Tracer("kurir"), link: cfg.LinkCallers, close: func() {
		defer end() // what still hangs is given up
		flush, cancel := context.WithTimeout(life, flushTime)
		defer cancel()
		if err := provider.Shutdown(flush); err != nil {
			log.Warn("the last traces were not exported", "error", err)
		}
	}}, nil
}

func processor(life context.Context, cfg Config, log *slog.Logger) (sdk.SpanProcessor, error) {
	if cfg.Exporter != nil {
		return sdk.NewSimpleSpanProcessor(cfg.Exporter), nil
	}
	over, err := otlptracehttp.New(life, otlptracehttp.WithEndpointURL(cfg.Endpoint))
	if err != nil {
		return nil, err
	}
	return sdk.NewBatchSpanProcessor(&exporter{SpanExporter: over, life: life, log: log}), nil
}

// exporter keeps the failures of the one under it to itself: they are nobody's problem but the log's, which gets a line when they
// begin and one when they end. The SDK calls it for one batch at a time.
type exporter struct {
	sdk.SpanExporter
	life context.Context // ends exports that hang when the process stops
	log  *slog.Logger
	lost int // spans, since it fails
}

// ExportSpans exports or drops a batch.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil && e.lost == 0:
		e.log.Warn("traces cannot be exported and are dropped", "error", err)
		e.lost = len(spans)
	case err != nil:
		e.lost += len(spans)
	case e.lost > 0:
		e.log.Info("traces are exported again", "lost", e.lost)
		e.lost = 0
	}
	return nil
}
