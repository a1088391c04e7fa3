// Package tracing makes OpenTelemetry spans of what Kurir does, and carries their context where it goes: in rows of messages,
// events and jobs, in calls to workers, and in webhooks. It is a leaf, and the only package that knows the SDK.
//
// A nil *Tracer, the zero Span and a context without a span stand for "off" everywhere: their methods do nothing and allocate
// nothing, so nobody asks whether traces are on. Arguments are such that a caller has nothing to build first.
//
// Only what is sampled is carried, as a traceparent of the W3C: 55 characters. Its tracestate and baggage are not: they are
// anybody's words, of any length.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// Kinds of spans.
const (
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient
	Consumer = trace.SpanKindConsumer
	Internal = trace.SpanKindInternal
)

// Tracer makes the spans of one part of Kurir, under the name of its service. Nil makes none.
type Tracer struct {
	tracer trace.Tracer
	link   bool // callers' traces are linked to, not continued
	close  func()
}

// Close exports what has ended and is not exported yet, for some seconds at most.
func (t *Tracer) Close() {
	if t != nil {
		t.close()
	}
}

// Request starts the span of a request that came over HTTP. parent is its traceparent, which goes on with the caller's trace, or is
// linked to from a new one, as the Tracer was made. A request without one starts a trace if fresh, else it has no span.
func (t *Tracer) Request(ctx context.Context, parent string, fresh bool) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	caller := parse(parent)
	switch {
	case !caller.IsValid() && !fresh:
		return ctx, Span{}
	case !caller.IsValid():
		return t.start(ctx, Server, "request", trace.WithNewRoot())
	case t.link:
		return t.start(ctx, Server, "request", trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: caller}))
	}
	return t.start(trace.ContextWithRemoteSpanContext(ctx, caller), Server, "request")
}

// Continue starts a span below the one that was carried here, in whose trace it is. Where none was, there is none. batch is the
// span, if there is one, of the work that does this for several at once: it is linked to, and stays out of the trace.
func (t *Tracer) Continue(ctx context.Context, kind trace.SpanKind, name, carried string, batch Span) (context.Context, Span) {
	if t == nil || carried == "" {
		return ctx, Span{}
	}
	parent := parse(carried)
	if !parent.IsSampled() {
		return ctx, Span{}
	}
	ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	if batch.None() {
		return t.start(ctx, kind, name)
	}
	return t.start(ctx, kind, name, trace.WithLinks(trace.Link{SpanContext: batch.span.SpanContext()}))
}

// Batch starts the span of work that is done for n at once. It is a trace of its own, since it belongs to none of theirs, and has a
// link to each of them that is traced. Where none is, there is no span.
func (t *Tracer) Batch(ctx context.Context, kind trace.SpanKind, name string, n int, carried func(i int) string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	var links []trace.Link
	for i := range n {
		if c := parse(carried(i)); c.IsSampled() {
			links = append(links, trace.Link{SpanContext: c})
		}
	}
	if len(links) == 0 {
		return ctx, Span{}
	}
	return t.start(ctx, kind, name, trace.WithNewRoot(), trace.WithLinks(links...))
}

// Root starts a trace.
func (t *Tracer) Root(ctx context.Context, kind trace.SpanKind, name string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	return t.start(ctx, kind, name, trace.WithNewRoot())
}

// Child starts a span below that of ctx. Where ctx has none, there is none.
func (t *Tracer) Child(ctx context.Context, kind trace.SpanKind, name string) (context.Context, Span) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, Span{}
	}
	return t.start(ctx, kind, name)
}

func (t *Tracer) start(ctx context.Context, kind trace.SpanKind, name string, options ...trace.SpanStartOption) (context.Context, Span) {
	ctx, span := t.tracer.Start(ctx, name, append(options, trace.WithSpanKind(kind))...)
	return ctx, Span{span}
}
