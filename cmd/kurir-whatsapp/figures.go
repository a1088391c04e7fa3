package main

import (
	"context"
	"errors"

	"kurir/monitoring"
	"kurir/worker"
	"kurir/worker/whatsapp"
)

// figures are what /metrics says.
func figures(node *worker.Node, engine *whatsapp.Engine) *monitoring.Metrics {
	m := monitoring.New(version)
	m.WatchNode(func() monitoring.Node {
		s := node.Stats()
		return monitoring.Node{Sessions: s.Sessions, SessionsMax: s.SessionsMax, EventsQueued: s.EventsQueued, Registrations: s.Registrations, TermsLost: s.Lapses,
			CPU: s.Machine.CPU / 100, Memory: s.Machine.Memory / 100,
			Sends:      map[string]int64{"sent": s.Sent, "failed": s.Failed, "unknown": s.Unknown, "refused": s.Refused, "repeated": s.Repeats},
			Heartbeats: map[string]int64{"ok": s.Heartbeats, "failed": s.HeartbeatsFailed},
			Events:     map[string]int64{"delivered": s.EventsDelivered, "dropped": s.EventsDropped, "batch_failed": s.BatchesFailed}}
	})
	m.WatchWhatsApp(func() monitoring.WhatsApp { return monitoring.WhatsApp(engine.Stats()) })
	m.WatchPool("credentials", func() monitoring.Pool { return monitoring.Pool(engine.Pool()) })
	return m
}

var (
	errNoLease  = errors.New("the gateway has granted no lease")
	errOutdated = errors.New("WhatsApp refuses this version: raise it, see docs/whatsapp.md")
)

// checks make a worker ready that holds a lease and may speak to WhatsApp: a rollout ends at the first one that may not.
func checks(node *worker.Node, engine *whatsapp.Engine) []monitoring.Check {
	return []monitoring.Check{
		{Name: "lease", Func: func(context.Context) error {
			if !node.Leased() {
				return errNoLease
			}
			return nil
		}},
		{Name: "credentials", Func: engine.Ping},
		{Name: "version", Func: func(context.Context) error {
			if engine.Stats().Outdated {
				return errOutdated
			}
			return nil
		}},
	}
}
