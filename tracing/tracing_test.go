package tracing_test

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"kurir/tracing"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	caller  = "00-" + traceID + "-00f067aa0ba902b7-01"
	another = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"
)

func newTracer(t *testing.T, cfg tracing.Config) (*tracing.Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	kept := tracetest.NewInMemoryExporter()
	cfg.Exporter = kept
	tracer, err := tracing.New(cfg, quiet)
	require.NoError(t, err)
	return tracer, kept
}

// everything uses all that there is, as a request, a round and a call to a worker do.
func everything(tracer *tracing.Tracer, ctx context.Context, h http.Header, id uuid.UUID, carried *string) *string {
	ctx, request := tracer.Request(ctx, h.Get(tracing.Header), true)
	defer request.End()
	request.Route("POST", "/x")
	request.Int("n", 500)
	request.ID("user", id)
	request.Failed("500")
	_, batch := tracer.Batch(ctx, tracing.Internal, "round", 1, func(int) string { return *carried })
	ctx, span := tracer.Continue(ctx, tracing.Consumer, "job", *carried, batch)
	ctx, child := tracer.Child(ctx, tracing.Client, "call")
	_, root := tracer.Root(ctx, tracing.Server, "event")
	tracing.Inject(ctx, h)
	root.Text("trace", root.TraceID())
	root.Text("parent", tracing.Of(ctx).Traceparent())
	for _, s := range []tracing.Span{root, child, span, batch} {
		s.End()
	}
	return span.Carried(tracing.Carried(ctx))
}

func TestOffCostsNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	tracer, err := tracing.New(tracing.Config{Service: "kurir-api"}, quiet)
	require.NoError(t, err)
	require.Nil(t, tracer)
	ctx, h, id, carried := t.Context(), http.Header{tracing.Header: {caller}}, uuid.New(), caller
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if everything(tracer, ctx, h, id, &carried) != nil {
			t.Error("something is carried")
		}
	}))
	require.Equal(t, http.Header{tracing.Header: {caller}}, h, "nothing is put into headers")
	tracer.Close()
	require.LessOrEqual(t, runtime.NumGoroutine(), before) // those of other tests may still end
}

// BenchmarkOff is what one message pays for all of its spans where there are none.
func BenchmarkOff(b *testing.B) {
	ctx, h, id, carried := b.Context(), http.Header{tracing.Header: {caller}}, uuid.New(), caller
	b.ReportAllocs()
	for b.Loop() {
		everything(nil, ctx, h, id, &carried)
	}
}

// BenchmarkOn is the same with spans that are dropped at their end.
func BenchmarkOn(b *testing.B) {
	tracer, err := tracing.New(tracing.Config{Exporter: tracetest.NewNoopExporter()}, quiet)
	require.NoError(b, err)
	defer tracer.Close()
	ctx, h, id, carried := b.Context(), http.Header{tracing.Header: {caller}}, uuid.New(), caller
	b.ReportAllocs()
	for b.Loop() {
		everything(tracer, ctx, h, id, &carried)
	}
}

func TestRequestGoesOnWithItsCallersTrace(t *testing.T) {
	tracer, kept := newTracer(t, tracing.Config{})
	_, span := tracer.Request(t.Context(), caller, true)
	span.End()
	got := kept.GetSpans()[0]
	require.Equal(t, traceID, got.SpanContext.TraceID().String())
	require.Equal(t, "00f067aa0ba902b7", got.Parent.SpanID().String())
	require.True(t, got.Parent.IsRemote())

	ctx, span := tracer.Request(t.Context(), "00-"+traceID+"-00f067aa0ba902b7-00", true)
	require.Nil(t, tracing.Carried(ctx), "a caller that does not sample is not kept")
	require.Empty(t, span.TraceID())
}

func TestWhatIsNoTraceparentStartsATraceOfItsOwn(t *testing.T) {
	tracer, _ := newTracer(t, tracing.Config{})
	for _, bad := range []string{"", "x", strings.ToUpper(caller), caller + "-more", caller[:54], "00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01",
		"00-" + traceID + "-0000000000000000-01", "ff" + caller[2:], strings.Repeat(caller, 1000), caller + "\x00", " " + caller, "zz" + caller[2:], "01" + caller[2:] + "-" + strings.Repeat("a", 10_000)} {
		ctx, span := tracer.Request(t.Context(), bad, true)
		require.Len(t, *tracing.Carried(ctx), 55, "%.80q", bad)
		require.NotEqual(t, traceID, span.TraceID(), "%.80q", bad)
		_, span = tracer.Request(t.Context(), bad, false)
		require.True(t, span.None(), "%.80q", bad)
		_, span = tracer.Continue(t.Context(), tracing.Server, "x", bad, tracing.Span{})
		require.True(t, span.None(), "%.80q", bad)
	}
	// A later version may say more, which is not carried on.
	ctx, span := tracer.Request(t.Context(), "01"+caller[2:]+"-more", true)
	require.Equal(t, traceID, span.TraceID())
	require.Len(t, *tracing.Carried(ctx), 55)
}

func TestCallersMayBeLinkedOnly(t *testing.T) {
	tracer, kept := newTracer(t, tracing.Config{LinkCallers: true})
	for _, fresh := range []bool{true, false} {
		kept.Reset()
		_, span := tracer.Request(t.Context(), caller, fresh)
		span.End()
		got := kept.GetSpans()[0]
		require.NotEqual(t, traceID, got.SpanContext.TraceID().String())
		require.False(t, got.Parent.IsValid())
		require.Equal(t, traceID, got.Links[0].SpanContext.TraceID().String())
	}
}

func TestInTakesTheSpanOfTheBatchAway(t *testing.T) {
	tracer, _ := newTracer(t, tracing.Config{})
	batch, span := tracer.Root(t.Context(), tracing.Server, "events")
	defer span.End()
	require.Equal(t, caller, *tracing.Carried(tracing.In(batch, caller)))
	for _, none := range []string{"", "nonsense", caller[:53] + "00"} {
		require.Nil(t, tracing.Carried(tracing.In(batch, none)), none)
	}
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() { tracing.In(ctx, "") }))
}

func TestBatchIsLinkedAndStaysOut(t *testing.T) {
	tracer, kept := newTracer(t, tracing.Config{})
	rows := []string{caller, "", another, "nonsense"}
	_, batch := tracer.Batch(t.Context(), tracing.Internal, "round", len(rows), func(i int) string { return rows[i] })
	ctx, one := tracer.Continue(t.Context(), tracing.Consumer, "one", caller, batch)
	h := http.Header{}
	tracing.Inject(ctx, h)
	require.Equal(t, one.Traceparent(), h.Get("traceparent"))
	one.End()
	batch.End()
	spans := kept.GetSpans()
	require.Len(t, spans, 2)
	require.Equal(t, traceID, spans[0].SpanContext.TraceID().String())
	require.Equal(t, spans[1].SpanContext.SpanID(), spans[0].Links[0].SpanContext.SpanID())
	require.Len(t, spans[1].Links, 2)
	require.NotContains(t, []string{traceID, another[3:35]}, spans[1].SpanContext.TraceID().String())

	_, none := tracer.Batch(t.Context(), tracing.Internal, "round", 2, func(int) string { return "" })
	require.True(t, none.None())
	_, child := tracer.Child(t.Context(), tracing.Client, "call")
	require.True(t, child.None())
	require.Equal(t, &rows[0], none.Carried(&rows[0]))
}

func TestSamplerOfTheEnvironment(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	tracer, kept := newTracer(t, tracing.Config{})
	ctx, span := tracer.Request(t.Context(), "", true)
	require.Nil(t, tracing.Carried(ctx))
	_, child := tracer.Child(ctx, tracing.Client, "call")
	require.True(t, child.None())
	span.End()
	require.Empty(t, kept.GetSpans())
	_, span = tracer.Request(t.Context(), caller, true)
	span.End()
	require.Len(t, kept.GetSpans(), 1)
	require.Equal(t, trace.SpanKindServer, kept.GetSpans()[0].SpanKind)
}
