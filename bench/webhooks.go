package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"golang.org/x/sync/errgroup"
)

const (
	hookRate      = 200  // events a second
	hookMade      = 3000 // messages a second, with three events each, for half the time
	hookDelivered = 10 * time.Minute
)

// webhooks measures deliveries to a subscriber on this machine: of a backlog, which is there because the webhooks were switched
// off, and of messages that come in one by one.
func webhooks(ctx context.Context, b *bench) error {
	return b.with(ctx, "webhooks", b.few, func(r *rig) (err error) {
		s, err := newSubscriber()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		if b.warmup > 0 {
			if _, err := r.deliverBacklog(ctx, s, b.warmup); err != nil {
				return err
			}
		}
		return b.repeat(ctx, func() error {
			f, err := r.deliverBacklog(ctx, s, b.duration)
			if err != nil {
				return err
			}
			b.add("webhooks", fmt.Sprintf("a backlog of %d webhooks", len(r.phones)), "deliveries", f)
			if f, err = r.deliverGently(ctx, s); err != nil {
				return err
			}
			b.add("webhooks", fmt.Sprintf("%d events/s, network to subscriber", hookRate), "deliveries", f)
			return nil
		})
	})
}

// hook sets the webhook of every session.
func (r *rig) hook(ctx context.Context, s *subscriber, active bool, events ...string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	body := map[string]any{"url": s.url, "secret": s.secret, "events": events, "isActive": active}
	for _, p := range r.phones {
		group.Go(func() error {
			return call(ctx, http.MethodPut, r.api+"/api/v1/sessions/"+p.id+"/webhook", p.key, body, nil)
		})
	}
	return group.Wait()
}

const waitingDeliveries = `SELECT count(*) FROM webhook_deliveries WHERE status IN ('PENDING', 'RETRYING')`

// deliverBacklog makes events while the webhooks are off, and measures how fast they go out when they are on.
func (r *rig) deliverBacklog(ctx context.Context, s *subscriber, duration time.Duration) (figures, error) {
	if err := r.hook(ctx, s, false, "message.sent", "message.delivered", "message.read"); err != nil {
		return figures{}, err
	}
	t := attack{connections: senders, pacer: atRate(hookMade), duration: duration / 2, target: r.sends(r.phones)}.run(ctx)
	if t.done == 0 {
		return figures{}, fmt.Errorf("no message was accepted: %v", t.errors)
	}
	var waiting int64
	err := eventually(ctx, drainedAfter, "all messages are read", func() (bool, string) {
		var err error
		waiting, err = r.scalar(ctx, waitingDeliveries)
		return waiting >= 3*int64(t.done), fmt.Sprint(waiting, err)
	})
	if err != nil {
		return figures{}, err
	}
	s.forget()
	m, began := r.meter(), time.Now()
	if err := r.hook(ctx, s, true, "message.sent", "message.delivered", "message.read"); err != nil {
		return figures{}, err
	}
	err = s.heard(ctx, waiting, hookDelivered)
	costs := m.end()
	f := s.figures(began)
	f.charge(costs)
	return f, err
}

// deliverGently has messages come in, and measures from then to the subscriber.
func (r *rig) deliverGently(ctx context.Context, s *subscriber) (figures, error) {
	if err := r.hook(ctx, s, true, "message.received"); err != nil {
		return figures{}, err
	}
	s.forget()
	m, began := r.meter(), time.Now()
	t := attack{connections: senders, pacer: atRate(hookRate), duration: r.duration, target: r.arrivals()}.run(ctx)
	err := s.heard(ctx, int64(t.done), time.Minute)
	costs := m.end()
	f := s.figures(began)
	f.charge(costs)
	for code, n := range t.errors {
		f.Errors = map[string]int{"injection: " + code: n}
	}
	return f, err
}

// arrivals are texts that people write to the sessions in turn; each says when it was written.
func (r *rig) arrivals() func(n uint64, t *vegeta.Target) {
	headers := headersOf("")
	return func(n uint64, t *vegeta.Target) {
		body, _ := json.Marshal(map[string]string{"sessionId": r.phones[n%uint64(len(r.phones))].uid, "from": personOf(n), "text": fmt.Sprint(sentAt, time.Now().UnixNano())}) // of strings, which never fail
		t.Method, t.URL, t.Header, t.Body = http.MethodPost, r.network+"/inject/message", headers, body
	}
}
