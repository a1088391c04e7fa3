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
	var previous *term
	for {
		t, err := n.register(ctx, asking, previous)
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
		previous = t
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

// register asks for a term until it gets one. Previous is the term that this process held before, if any. The error
// is that of a context that ended.
func (n *Node) register(ctx, asking context.Context, previous *term) (*term, error) {
	pause := newBackOff(250*time.Millisecond, 3*time.Second)
	for {
		if err := asking.Err(); err != nil {
			return nil, err
		}
		sent := n.cfg.Now()
		r, err := n.askForTerm(asking, previous)
		if err == nil {
			return newTerm(ctx, n.cfg.Now, sent, r), nil
		}
		if asking.Err() != nil {
			return nil, asking.Err()
		}
		wait := n.refusedTerm(err, pause)
		if !n.empty() { // what did not close stands in the way of showing that nothing is held
			n.disconnectAll(asking, false)
		}
		select {
		case <-time.After(wait):
		case <-asking.Done():
		}
	}
}

// refusedTerm logs why there is no term and returns how long to wait before asking again.
func (n *Node) refusedTerm(err error, pause *backoff.ExponentialBackOff) time.Duration {
	var e *wire.Error
	if !errors.As(err, &e) || e.Code == wire.CodeBadAnswer || e.Status >= 500 || e.Status == http.StatusTooManyRequests {
		wait := pause.NextBackOff()
		n.log.Warn("cannot register, trying again", "gateway", n.cfg.GatewayURL, "wait", wait, "error", err)
		return wait
	}
	log := n.log.With("gateway", n.cfg.GatewayURL, "wait", operatorWait)
	switch {
	case e.Code == wire.CodeWorkerLive:
		n.log.Info("this worker ID still has a live lease, waiting for it to lapse", "wait", liveWait)
		return liveWait
	case e.Code == wire.CodeWorkerRemoved:
		log.Error("an administrator removed this worker; start it anew to bring it back")
	case e.Code == wire.CodeUnsupportedProtocol:
		log.Error("the gateway does not speak this worker's protocol: upgrade the older of the two, so that gateway and workers are of one release",
			"protocol", wire.Protocol, "version", n.cfg.Version, "gatewaySays", e.Message)
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		log.Error("the gateway refuses this worker's token: WORKER_AUTH_TOKEN must be the same on both sides")
	default:
		log.Error("the gateway refuses the registration", "error", err)
	}
	return operatorWait
}

// askForTerm registers. Once nothing of the previous term is connected it shows so with that term's secret: then the
// gateway need not wait for the lease, which it may count longer than the worker does, as after an outage of its own.
func (n *Node) askForTerm(ctx context.Context, previous *term) (wire.Registered, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	r := wire.Register{
		WorkerID: n.cfg.ID, Endpoint: n.cfg.Endpoint, MaxSessions: n.cfg.MaxSessions,
		Engine: n.engine.Name(), Version: n.cfg.Version, Description: n.cfg.Description, Protocol: wire.Protocol,
	}
	secret := ""
	switch {
	case previous == nil:
	case n.empty():
		r.PreviousTerm, secret = previous.id, previous.secret
	case errors.Is(context.Cause(previous.lease.ctx), errRemoved):
		// Without the previous term it would pass for a new process, which may come back.
		return wire.Registered{}, wire.Refuse(wire.CodeWorkerRemoved, errRemoved.Error())
	}
	return n.gateway.Register(ctx, r, secret)
}

// farewell ends a term whose sessions are all disconnected, so that they may be given to others at once. It is said
// only when the worker leaves for good.
func (n *Node) farewell(ctx context.Context, t *term) error {
	ctx, cancel := context.WithTimeout(ctx, t.patience())
	defer cancel()
	_, err := n.gateway.Heartbeat(ctx, n.cfg.ID, t.secret, wire.Heartbeat{
		Status: wire.HeartbeatOffline, Term: t.id, Metrics: n.metrics(0), Sessions: []wire.HeldSession{},
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

// overBy turns the gateway's refusal of a term into the reason for which its lease ends.
func overBy(err error) error {
	if wire.Code(err) == wire.CodeWorkerRemoved {
		return errRemoved
	}
	return errSuperseded
}

func newBackOff(from, to time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = from, to
	b.Reset()
	return b
}
