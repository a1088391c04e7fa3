package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"kurir/tracing"
	"kurir/wire"
)

const eventsTimeout = 10 * time.Second // for the gateway to take one batch

// sink takes a session's events into the outbox.
func (n *Node) sink(s *session, t *term) Sink {
	return func(e Event) {
		if aboutSession(e.Type) && !t.lease.held() {
			return // the session was dropped with its term
		}
		if e.Type == wire.EventPresence && n.outbox.len() > n.cfg.MaxEvents/10 {
			n.stats.eventsDropped.Add(1) // of the moment, which is over when the gateway hears of it
			if e.Ack != nil {
				e.Ack()
			}
			return
		}
		data, err := json.Marshal(e.Data)
		if err != nil { // not redelivered either: the engine's fault
			n.stats.eventsDropped.Add(1)
			n.log.Error("an event cannot be encoded", "session", s.id, "type", e.Type, "error", err)
			return
		}
		if e.Timestamp.IsZero() {
			e.Timestamp = n.cfg.Now()
		}
		ev := wire.Event{
			EventID: n.eventID(s, t, e), SessionID: s.id, Epoch: s.epoch,
			Type: e.Type, Timestamp: e.Timestamp.UTC(), Data: data,
		}
		span := n.cameIn(&ev)
		if !n.outbox.add(entry{event: ev, ack: e.Ack, term: t}, s.gone) {
			n.stats.eventsDropped.Add(1)
			span.Failed("dropped")
		}
		span.End()
	}
}

// cameIn starts the trace of an event. Receipts belong to the trace of their message, which the gateway knows; presences are of the
// moment, and many.
func (n *Node) cameIn(e *wire.Event) (span tracing.Span) {
	if e.Type != wire.EventMessageReceipt && e.Type != wire.EventPresence {
		_, span = n.cfg.Traces.Root(context.Background(), tracing.Consumer, e.Type)
		span.Text("kurir.session", e.SessionID)
		e.Trace = span.Traceparent()
	}
	return span
}

// eventID names messages as the network does, so that a redelivery has the same ID. What happens to a session has
// no name there and gets one of worker, term and a counter.
func (n *Node) eventID(s *session, t *term, e Event) string {
	if aboutSession(e.Type) {
		return wire.EventID(s.id, e.Type, fmt.Sprintf("%s/%d/%d", n.cfg.ID, t.id, n.eventCount.Add(1)), "")
	}
	kind := e.Kind
	if kind == "" {
		kind = e.Type
	}
	return wire.EventID(s.id, kind, e.Message, e.Sender)
}

// receiptsWait is how long receipts wait for others, where nothing else is to be told. Nobody waits for them, each batch costs the gateway
// a transaction, and a receipt that comes while the outcome of its send is being written down is in the way of that.
const receiptsWait = 100 * time.Millisecond

// pump passes the outbox to the gateway, one batch at a time. But for receipts it never lingers: a batch is what gathered while the
// one before was on its way.
func (n *Node) pump(ctx context.Context) {
	pause := newBackOff(100*time.Millisecond, 5*time.Second)
	most := batchEvents
	for ctx.Err() == nil {
		if n.outbox.patient() {
			select {
			case <-n.outbox.wake:
			case <-time.After(receiptsWait):
			case <-ctx.Done():
			}
		}
		t, events := n.outbox.batch(most)
		if len(events) == 0 {
			select {
			case <-n.outbox.wake:
			case <-ctx.Done():
			}
			continue
		}
		err := n.deliver(t, events)
		if err == nil {
			most = batchEvents
			pause.Reset()
			continue
		}
		n.stats.batchesFailed.Add(1)
		if t.lease.ctx.Err() != nil {
			continue
		}
		n.log.Warn("the gateway did not take events", "term", t.id, "events", len(events), "error", err)
		switch {
		case refused(err):
			t.lease.revoke(overBy(err))
			continue
		case errors.Is(err, errOutOfStep):
			t.lease.revoke(errOutOfStep)
			continue
		case indigestible(err) && len(events) > 1:
			most = 1 // find the one that it will not take
			continue
		case indigestible(err):
			n.log.Error("an event is left out, the gateway refuses its form", "session", events[0].SessionID, "type", events[0].Type)
			n.stats.eventsDropped.Add(1)
			n.outbox.skip(t, events[0].Seq)
			continue
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-t.lease.lost():
		case <-ctx.Done():
		}
	}
}

// deliver sends one batch and acknowledges what the gateway has stored. An answer that stored nothing is an error.
func (n *Node) deliver(t *term, events []wire.Event) error {
	ctx, cancel := context.WithTimeout(t.lease.ctx, eventsTimeout)
	defer cancel()
	ctx, span := n.cfg.Traces.Batch(ctx, tracing.Client, "events", len(events), func(i int) string { return events[i].Trace })
	defer span.End()
	span.Int("kurir.events", len(events))
	answer, err := n.gateway.Events(ctx, n.cfg.ID, t.secret, wire.EventBatch{Term: t.id, Events: events})
	if err != nil {
		span.Failed(cmp.Or(wire.Code(err), "unanswered"))
		return err
	}
	stored, err := n.outbox.settle(t, answer.Next)
	if err != nil {
		return err
	}
	for _, e := range stored {
		if e.ack != nil {
			e.ack()
		}
	}
	n.stats.eventsDelivered.Add(int64(len(stored)))
	if len(stored) == 0 {
		return errors.New("it stored nothing")
	}
	return nil
}

// indigestible reports whether the gateway refuses the form of a batch, which repeating will not change.
func indigestible(err error) bool {
	var e *wire.Error
	if !errors.As(err, &e) || e.Code == wire.CodeBadAnswer {
		return false
	}
	return e.Status == http.StatusBadRequest || e.Status == http.StatusRequestEntityTooLarge || e.Status == http.StatusUnprocessableEntity
}
