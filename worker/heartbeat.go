package worker

import (
	"context"
	"time"

	"kurir/wire"
)

// keep sends heartbeats until the term's lease ends, or until the node has nothing more to say. The first goes at
// once: it tells the gateway that the new term holds no sessions yet.
func (n *Node) keep(t *term) {
	for {
		began := n.cfg.Now()
		wait := t.every
		if err := n.heartbeat(t); err != nil {
			n.stats.heartbeatsFailed.Add(1)
			if t.lease.held() {
				n.log.Warn("a heartbeat failed", "term", t.id, "error", err)
			}
			if refused(err) {
				t.lease.revoke(overBy(err))
			}
			wait /= 3
		}
		if n.handsOver() {
			wait = min(wait, handOverBeat)
		}
		select {
		case <-time.After(wait - n.cfg.Now().Sub(began)):
		case <-n.hurry:
		case <-t.lease.lost():
			return
		case <-n.quiet:
			return
		}
	}
}

// heartbeat renews the lease and lets go of the sessions that the answer names.
func (n *Node) heartbeat(t *term) error {
	if !t.lease.held() { // a heartbeat would claim the sessions of a term that is over
		return errLapsed
	}
	held := n.held()
	list := make([]wire.HeldSession, len(held))
	byID := make(map[string]*session, len(held))
	for i, s := range held {
		list[i] = wire.HeldSession{SessionID: s.id, Epoch: s.epoch, Status: s.state().Status}
		byID[s.id] = s
	}
	draining := n.isDraining()
	status := wire.HeartbeatOnline
	if draining {
		status = wire.HeartbeatMaintenance
	}
	ctx, cancel := context.WithTimeout(t.lease.ctx, t.patience())
	defer cancel()
	sent := n.cfg.Now()
	answer, err := n.gateway.Heartbeat(ctx, n.cfg.ID, t.secret, wire.Heartbeat{
		Status: status, Term: t.id, Metrics: n.metrics(len(held)), Sessions: list,
	})
	if err != nil {
		return err
	}
	t.lease.renew(sent, time.Duration(answer.LeaseMs)*time.Millisecond)
	n.stats.heartbeats.Add(1)
	for _, id := range answer.Drop {
		// Only what this heartbeat named: the session may have come anew, at a higher epoch, since.
		if s := byID[id]; s != nil {
			n.background.Go(func() { n.letGo(t.lease.ctx, s) })
		}
	}
	if draining {
		n.told(answer.HandOver)
	}
	return nil
}

func (n *Node) metrics(sessions int) wire.Metrics {
	u := n.sampler.get()
	return wire.Metrics{
		SessionCount: sessions, CPUUsage: u.CPU, MemoryUsage: u.Memory,
		MessageCount: n.stats.sent.Load(), Uptime: n.uptime(),
	}
}
