package jobs

import (
	"cmp"
	"context"

	"github.com/google/uuid"

	"kurir/models"
	"kurir/tracing"
	"kurir/webhook"
	"kurir/wire"
)

// A round of a lane does the work of many requests, each of which has a trace of its own: what is done for one row is a span in that
// row's trace, and the round one in a trace of its own, linked with them.

// batchOf starts the span of a round of sends.
func (s *sender) batchOf(ctx context.Context, claim *models.Claim) tracing.Span {
	_, span := s.traces.Batch(ctx, tracing.Internal, "message:send round", len(claim.Messages), func(i int) string { return text(claim.Messages[i].Trace) })
	span.Int("kurir.messages", len(claim.Messages))
	return span
}

// noteSend notes in the span of a send what came of it.
func noteSend(span tracing.Span, session uuid.UUID, m *models.Claimed, r wire.SendResult, err error) {
	span.ID("kurir.session", session)
	span.ID("kurir.message", m.ID)
	span.Int("kurir.attempt", m.Attempts+1)
	switch {
	case err != nil:
		span.Failed(cmp.Or(wire.Code(err), "unanswered"))
	case r.Outcome != wire.OutcomeSent:
		span.Failed(cmp.Or(r.Code, r.Outcome))
	}
}

// batchOf starts the span of a round of deliveries.
func (d *deliverer) batchOf(ctx context.Context, due []models.DueDelivery) tracing.Span {
	_, span := d.traces.Batch(ctx, tracing.Internal, "webhook:deliver round", len(due), func(i int) string { return text(due[i].Trace) })
	span.Int("kurir.deliveries", len(due))
	return span
}

// one makes one attempt at a delivery.
func (d *deliverer) one(ctx context.Context, t *target, due *models.DueDelivery, batch tracing.Span) webhook.Result {
	ctx, span := d.traces.Continue(ctx, tracing.Client, KindDeliverWebhook, text(due.Trace), batch)
	defer span.End()
	span.ID("kurir.delivery", due.ID)
	span.Text("kurir.event", due.Event)
	span.Int("kurir.attempt", due.Attempts+1)
	r := t.sink.deliver(ctx, t, due)
	if r.Status != 0 {
		span.Int("http.response.status_code", r.Status)
	}
	switch {
	case r.OK():
	case r.Aborted:
		span.Failed("aborted")
	case r.Status != 0:
		span.Failed("refused")
	default:
		span.Failed("unanswered")
	}
	return r
}
