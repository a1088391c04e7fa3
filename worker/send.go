package worker

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"

	"kurir/tracing"
	"kurir/wire"
)

// Send hands a message to the session's network, once per WhatsappID.
func (n *Node) Send(ctx context.Context, sessionID string, m wire.Send) (wire.SendResult, error) {
	s := n.session(sessionID)
	if s == nil {
		return wire.SendResult{}, n.absent()
	}
	f, lead, err := s.join(m)
	if err != nil {
		return wire.SendResult{}, err
	}
	if lead {
		go n.fly(context.WithoutCancel(ctx), s, m, f)
	} else {
		n.stats.repeats.Add(1)
	}
	select {
	case <-f.done:
		return f.result, f.err
	case <-ctx.Done():
		return wire.SendResult{}, ctx.Err()
	}
}

// fly carries out a send to its end even if the caller has gone, so that the caller's next attempt, under the same
// WhatsappID, learns the outcome.
func (n *Node) fly(ctx context.Context, s *session, m wire.Send, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.SendTimeout)
	defer cancel()
	ctx, span := n.cfg.Traces.Child(ctx, tracing.Client, "network send")
	r, err := n.hand(ctx, s, m)
	n.flown(span, m, r, err)
	switch {
	case err != nil:
		n.stats.refused.Add(1)
	case r.Outcome == wire.OutcomeSent:
		n.stats.sent.Add(1)
	case r.Outcome == wire.OutcomeFailed:
		n.stats.failed.Add(1)
	default:
		n.stats.unknown.Add(1)
	}
	s.land(m.WhatsappID, f, r, err)
}

// flown ends the span of a send.
func (n *Node) flown(span tracing.Span, m wire.Send, r wire.SendResult, err error) {
	span.Text("kurir.engine", n.engine.Name())
	span.Text("kurir.message", m.MessageID)
	span.Text("kurir.type", m.Type)
	switch {
	case err != nil:
		span.Failed(cmp.Or(wire.Code(err), "refused"))
	case r.Outcome == wire.OutcomeSent:
		span.Text("kurir.outcome", r.Outcome)
	default:
		span.Text("kurir.outcome", r.Outcome)
		span.Failed(cmp.Or(r.Code, r.Outcome))
	}
	span.End()
}

// hand calls the engine. An error that it returns is a refusal; whatever leaves doubt is an unknown outcome.
func (n *Node) hand(ctx context.Context, s *session, m wire.Send) (r wire.SendResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			n.log.ErrorContext(ctx, "panic in the engine's send", "session", s.id, "message", m.MessageID, "panic", p, "stack", string(debug.Stack()))
			r, err = n.doubt("the engine failed"), nil
		}
	}()
	r, err = s.conn.Send(ctx, m)
	if err != nil {
		if known := refusal(err); known != nil {
			return wire.SendResult{}, known
		}
		n.log.WarnContext(ctx, "the engine's send failed", "session", s.id, "message", m.MessageID, "error", redact(err))
		return n.doubt("the engine failed"), nil
	}
	switch r.Outcome {
	case wire.OutcomeSent, wire.OutcomeFailed, wire.OutcomeUnknown, wire.OutcomeThrottled:
	default:
		r = n.doubt(fmt.Sprintf("the engine answered %q", r.Outcome))
	}
	if r.Timestamp.IsZero() {
		r.Timestamp = n.cfg.Now().UTC()
	}
	return r, nil
}

func (n *Node) doubt(why string) wire.SendResult {
	return wire.SendResult{Outcome: wire.OutcomeUnknown, Code: wire.CodeEngineFailed, Error: why, Timestamp: n.cfg.Now().UTC()}
}
