package tracing

import (
	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Span is a part of a trace. The zero Span is none. What is put into it leaves for the operator's tracing system, where tenants' data
// have no business: IDs of ours, names from closed sets, and counts; never a text, an address, a phone number or a secret, and so
// no error's words.
type Span struct{ span trace.Span }

// None reports that there is no span.
func (s Span) None() bool { return s.span == nil }

// End ends it.
func (s Span) End() {
	if s.span != nil {
		s.span.End()
	}
}

// Route names the span of a request when its route is known.
func (s Span) Route(method, route string) {
	if s.span != nil {
		s.span.SetName(method + " " + route)
		s.span.SetAttributes(attribute.String("http.request.method", method), attribute.String("http.route", route))
	}
}

// Text notes a word.
func (s Span) Text(key, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, value))
	}
}

// ID notes an ID of ours.
func (s Span) ID(key string, id uuid.UUID) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, id.String()))
	}
}

// Int notes a number.
func (s Span) Int(key string, value int) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int(key, value))
	}
}

// Failed marks the span as failed. why is a code, as docs/errors.md has them.
func (s Span) Failed(why string) {
	if s.span != nil {
		s.span.SetStatus(codes.Error, "")
		s.span.SetAttributes(attribute.String("error.type", why))
	}
}
