package worker

import "sync/atomic"

// Stats are a node's counters since it was made, and its present load.
type Stats struct {
	Sessions     int   // held now
	SessionsMax  int   // that may be
	EventsQueued int   // waiting for the gateway now
	Machine      Usage // of the last sample

	Registrations    int64
	Lapses           int64 // terms lost, for whatever reason
	Heartbeats       int64
	HeartbeatsFailed int64
	Sent             int64 // messages, by the network's outcome
	Failed           int64
	Unknown          int64
	Refused          int64 // by the engine: nothing was sent
	Repeats          int64 // sends answered, or joined, from memory
	EventsDelivered  int64
	EventsDropped    int64 // unacknowledged, so messages among them come again
	BatchesFailed    int64
}

type counters struct {
	registrations, lapses, heartbeats, heartbeatsFailed atomic.Int64
	sent, failed, unknown, refused, repeats             atomic.Int64
	eventsDelivered, eventsDropped, batchesFailed       atomic.Int64
}

// Stats returns the node's figures, for metrics.
func (n *Node) Stats() Stats {
	c := &n.stats
	return Stats{
		Sessions: len(n.held()), SessionsMax: n.cfg.MaxSessions, EventsQueued: n.outbox.len(), Machine: n.sampler.get(),
		Registrations: c.registrations.Load(), Lapses: c.lapses.Load(),
		Heartbeats: c.heartbeats.Load(), HeartbeatsFailed: c.heartbeatsFailed.Load(),
		Sent: c.sent.Load(), Failed: c.failed.Load(), Unknown: c.unknown.Load(),
		Refused: c.refused.Load(), Repeats: c.repeats.Load(),
		EventsDelivered: c.eventsDelivered.Load(), EventsDropped: c.eventsDropped.Load(), BatchesFailed: c.batchesFailed.Load(),
	}
}
