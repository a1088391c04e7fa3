package worker

import "time"

const (
	handOverBeat   = 500 * time.Millisecond // between heartbeats while handing over, so that its end is noticed soon
	handOverAnswer = 5 * time.Second        // for the first answer; without one nobody is moving the sessions
)

// handOver lets the gateway move the sessions to other workers before this one leaves, so that each is away for as
// long as its own move takes. Heartbeats say so, no new session is taken, and all the rest goes on as usual. It ends
// when no session is left, when the gateway moves none or no longer, with the lease, or when the time is over.
func (n *Node) handOver() {
	t := n.current()
	if n.cfg.HandOver <= 0 || t == nil || !t.lease.held() || n.empty() {
		return
	}
	n.mu.Lock()
	n.draining = true
	n.mu.Unlock()
	began, before := n.cfg.Now(), len(n.held())
	n.log.Info("handing the sessions over", "sessions", before, "within", n.cfg.HandOver)
	left, why := n.awaitHandOver(t)
	n.log.Info("hand-over ended", "handedOver", max(0, before-left), "remaining", left,
		"took", n.cfg.Now().Sub(began).Round(time.Millisecond), "because", why)
}

// awaitHandOver returns how many sessions are left and why there is nothing more to wait for.
func (n *Node) awaitHandOver(t *term) (left int, why string) {
	over := time.NewTimer(n.cfg.HandOver)
	defer over.Stop()
	silence := time.NewTimer(handOverAnswer)
	defer silence.Stop()
	left = len(n.held())
	n.hurry <- struct{}{} // nobody else fills it
	for {
		select {
		case wait := <-n.answers:
			silence.Stop()
			left = len(n.held())
			switch {
			case n.empty():
				return 0, "no session is left"
			case !wait:
				return left, "the gateway moves no more sessions"
			}
		case <-silence.C:
			return len(n.held()), "the gateway does not answer"
		case <-over.C:
			return len(n.held()), "the time is over"
		case <-t.lease.lost():
			return left, "the lease is lost" // by now all are dropped, which hands nothing over
		}
	}
}

// told passes on what the gateway said to a heartbeat that was sent in maintenance. Only the latest word counts.
func (n *Node) told(wait bool) {
	select {
	case <-n.answers:
	default:
	}
	n.answers <- wait
}

// handsOver reports whether the hand-over is under way.
func (n *Node) handsOver() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.draining && !n.leaving
}
