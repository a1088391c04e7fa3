package worker

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"kurir/wire"
)

const (
	registerTimeout = 10 * time.Second
	liveWait        = time.Second      // between attempts while a predecessor's lease still stands
	operatorWait    = 30 * time.Second // between attempts that only the operator can help
)

// term is what one registration grants.
type term struct {
	id     int64
	secret string
	lease  *lease
	leased time.Duration // length of the lease as registered
	every  time.Duration // between heartbeats
}

// supervise holds one term after the other until the node leaves or ctx ends. Registering stops with asking, so
// that a node that leaves does not begin a term.
func (n *Node) supervise(ctx, asking context.Context) {
	var last *term
	for {
		t, err := n.register(ctx, asking, last)
		if err != nil {
			return
		}
		n.stats.registrations.Add(1)
		n.enter(t)
		n.keep(t)
		if n.isLeaving() && t.lease.ctx.Err() == nil {
			return
		}
		n.outbox.suspend()
		n.stats.lapses.Add(1)
		n.log.Warn("term lost, disconnecting all sessions", "term", t.id, "sessions", len(n.held()), "reason", context.Cause(t.lease.ctx))
		n.disconnectAll(ctx, false)
		if asking.Err() != nil {
			return
		}
		last = t
	}
}

// enter makes t the current term. Nothing of the one before is connected any more.
func (n *Node) enter(t *term) {
	n.mu.Lock()
	n.term = t
	n.mu.Unlock()
	n.outbox.begin(t)
	n.log.Info("registered", "term", t.id, "lease", t.leased, "heartbeat", t.every)
}

// register asks for a term until it gets one. The error is that of a context that ended.
func (n *Node) register(ctx, asking context.Context, last *term) (*term, error) {
	pause := newBackOff(250*time.Millisecond, 10*time.Second)
	for {
		if err := asking.Err(); err != nil {
			return nil, err
		}
		sent := n.cfg.Now()
		r, err := n.askForTerm(asking)
		if err == nil {
			return newTerm(ctx, n.cfg.Now, sent, r), nil
		}
		if asking.Err() != nil {
			return nil, asking.Err()
		}
		wait := pause.NextBackOff()
		var e *wire.Error
		switch {
		case !errors.As(err, &e) || e.Code == wire.CodeBadAnswer || e.Status >= 500 || e.Status == http.StatusTooManyRequests:
			n.log.Warn("cannot register, trying again", "gateway", n.cfg.GatewayURL, "wait", wait, "error", err)
		case e.Code == wire.CodeWorkerLive:
			wait = liveWait
			if last != nil && len(n.held()) == 0 {
				err := n.farewell(asking, last)
				if err == nil {
					wait = 0
				}
				if err == nil || refused(err) {
					last = nil
				}
				break
			}
			n.log.Info("this worker ID still has a live lease, waiting for it to lapse", "worker", n.cfg.ID)
		case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
			wait = operatorWait
			n.log.Error("the gateway refuses this worker's token: WORKER_AUTH_TOKEN must be the same on both sides",
				"gateway", n.cfg.GatewayURL, "wait", wait)
		default:
			wait = operatorWait
			n.log.Error("the gateway refuses the registration", "gateway", n.cfg.GatewayURL, "wait", wait, "error", err)
		}
		select {
		case <-time.After(wait):
		case <-asking.Done():
		}
	}
}

func (n *Node) askForTerm(ctx context.Context) (wire.Registered, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	return n.gateway.Register(ctx, wire.Register{
		WorkerID: n.cfg.ID, Endpoint: n.cfg.Endpoint, MaxSessions: n.cfg.MaxSessions,
		Engine: n.engine.Name(), Version: n.cfg.Version, Description: n.cfg.Description,
	})
}

// farewell ends a term whose lease the gateway still counts though all of its sessions are disconnected: after an
// outage of the gateway it gives every lease a full length before it lets it expire. It also says goodbye for good.
func (n *Node) farewell(ctx context.Context, t *term) error {
	ctx, cancel := context.WithTimeout(ctx, t.patience())
	defer cancel()
	_, err := n.gateway.Heartbeat(ctx, n.cfg.ID, t.secret, wire.Heartbeat{
		Status: "offline", Term: t.id, Metrics: n.metrics(0), Sessions: []wire.HeldSession{},
	})
	return err
}

func newTerm(ctx context.Context, now func() time.Time, sent time.Time, r wire.Registered) *term {
	leased := time.Duration(r.LeaseMs) * time.Millisecond
	every := time.Duration(r.HeartbeatMs) * time.Millisecond
	if every <= 0 || every > leased/3 {
		every = leased / 4
	}
	return &term{id: r.Term, secret: r.Secret, lease: newLease(ctx, now, sent, leased), leased: leased, every: every}
}

// patience is how long a heartbeat may take: short enough for several attempts within one lease.
func (t *term) patience() time.Duration { return t.leased / 4 }

// refused reports whether the gateway, and nothing between, says that the term is over.
func refused(err error) bool {
	var e *wire.Error
	if !errors.As(err, &e) || e.Code == wire.CodeBadAnswer {
		return false
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict:
		return true
	default:
		return false
	}
}

func newBackOff(from, to time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = from, to
	b.Reset()
	return b
}
