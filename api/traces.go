package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"kurir/tracing"
	"kurir/wire"
)

// traced starts the span of a request, in the trace of its caller if that has one. What is asked all the time by machines, and what
// workers ask, starts none of its own.
func (a *API) traced(ctx context.Context, c *fiber.Ctx) (context.Context, tracing.Span) {
	if a.cfg.Traces == nil {
		return ctx, tracing.Span{}
	}
	routine := strings.HasPrefix(c.Path(), "/health") || isInternal(c.Method(), c.Path())
	return a.cfg.Traces.Request(ctx, c.Get(tracing.Header), !routine)
}

// tell notes in the span of a request what the request was and what came of it: no path, which holds names that clients choose,
// no query and no header.
func (i *requestInfo) tell(method, route string, status int) {
	if i.span.None() {
		return
	}
	i.span.Route(method, route)
	i.span.Int("http.response.status_code", status)
	if i.user != uuid.Nil {
		i.span.ID("kurir.user", i.user)
	}
	if i.session != uuid.Nil {
		i.span.ID("kurir.session", i.session)
	}
	if status >= http.StatusInternalServerError {
		i.span.Failed(strconv.Itoa(status))
	}
}

// follow goes on with the traces of a worker's events, each in its own, where what is told of the event is told. The function that
// it returns ends that.
func (a *API) follow(ctx context.Context, events []wire.Event) (done func()) {
	if a.cfg.Traces == nil {
		for i := range events {
			events[i].Trace = ""
		}
		return func() {}
	}
	var spans []tracing.Span
	for i := range events {
		e := &events[i]
		_, span := a.cfg.Traces.Continue(ctx, tracing.Consumer, "event", e.Trace, tracing.Of(ctx))
		if e.Trace = span.Traceparent(); !span.None() {
			span.Text("kurir.event", e.Type)
			spans = append(spans, span)
		}
	}
	return func() {
		for _, s := range spans {
			s.End()
		}
	}
}
