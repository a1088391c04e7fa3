package tracing

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Header is the name of the header that carries a span over HTTP.
const Header = "Traceparent"

// Of is the span of ctx.
func Of(ctx context.Context) Span {
	span := trace.SpanFromContext(ctx)
	if !span.SpanContext().IsValid() {
		return Span{}
	}
	return Span{span}
}

// In is ctx with the span that was carried here in place of its own, which may be the span of work that is done for several at once.
func In(ctx context.Context, carried string) context.Context {
	if carried == "" && Of(ctx).None() {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, parse(carried))
}

// Carried is the span of ctx as a row carries it; nil if there is none, or it is not sampled.
func Carried(ctx context.Context) *string { return Of(ctx).Carried(nil) }

// Carried is the span as a row carries it; otherwise if there is none, or it is not sampled.
func (s Span) Carried(otherwise *string) *string {
	if s.span == nil || !s.span.SpanContext().IsSampled() {
		return otherwise
	}
	text := format(s.span.SpanContext())
	return &text
}

// Traceparent is the span as a header carries it; "" if there is none, or it is not sampled.
func (s Span) Traceparent() string {
	if s.span == nil || !s.span.SpanContext().IsSampled() {
		return ""
	}
	return format(s.span.SpanContext())
}

// TraceID names the trace; "" if there is no span, or it is not sampled.
func (s Span) TraceID() string {
	if s.span == nil || !s.span.SpanContext().IsSampled() {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Inject puts the span of ctx into the header of a call.
func Inject(ctx context.Context, h http.Header) {
	if parent := Of(ctx).Traceparent(); parent != "" {
		h.Set(Header, parent)
	}
}

// format writes version 00, whatever was read.
func format(c trace.SpanContext) string {
	return "00-" + c.TraceID().String() + "-" + c.SpanID().String() + "-01"
}

// parse reads a traceparent. What is none is no valid context.
func parse(text string) trace.SpanContext {
	if text == "" || len(text) > longest {
		return trace.SpanContext{}
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), header(text)))
}

// longest is more than any traceparent of the present version, 55; what later ones add comes behind that.
const longest = 256

// header carries nothing but a traceparent.
type header string

// Get is of propagation.TextMapCarrier, as are the others.
func (h header) Get(key string) string {
	if key == "traceparent" {
		return string(h)
	}
	return ""
}

// Set does nothing.
func (header) Set(string, string) {}

// Keys lists none: nobody asks.
func (header) Keys() []string { return nil }
