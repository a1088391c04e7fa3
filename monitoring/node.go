package monitoring

import "github.com/prometheus/client_golang/prometheus"

// Node is what a worker node tells of itself. The maps count by outcome since the process began.
type Node struct {
	Sessions, EventsQueued    int
	SessionsMax               int
	CPU, Memory               float64 // of what it may use, 0 to 1
	Sends, Heartbeats, Events map[string]int64
	Registrations, TermsLost  int64
}

var (
	nodeSessions   = desc("kurir_node_sessions", "Sessions that this worker node holds.")
	nodeMax        = desc("kurir_node_sessions_max", "Sessions that this worker node can hold.")
	nodeCPU        = desc("kurir_node_cpu_ratio", "Processor time that is used, of the worker node's limit if its container has one, else of its machine, 0 to 1.")
	nodeMemory     = desc("kurir_node_memory_ratio", "Memory that is used, of the worker node's limit if its container has one, else of its machine, 0 to 1.")
	nodeTerms      = desc("kurir_node_registrations_total", "Terms that this worker node was granted.")
	nodeQueued     = desc("kurir_node_events_queued", "Events that wait for the gateway.")
	nodeSends      = desc("kurir_node_sends_total", "Sends of this worker node: sent, failed, unknown, refused by the engine, or repeated from memory.", "outcome")
	nodeHeartbeats = desc("kurir_node_heartbeats_total", "Heartbeats of this worker node: ok or failed.", "outcome")
	nodeEvents     = desc("kurir_node_events_total", "Events of this worker node: delivered, dropped (the network brings messages among them again), or of failed batches.", "outcome")
	nodeTermsLost  = desc("kurir_node_terms_lost_total", "Terms that this worker node lost, for whatever reason.")
)

// WatchNode adds the figures of a worker node. stat reads figures in memory and is asked at every scrape.
func (m *Metrics) WatchNode(stat func() Node) { m.registry.MustRegister(node(stat)) }

type node func() Node

func (node) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{nodeSessions, nodeMax, nodeCPU, nodeMemory, nodeTerms, nodeQueued, nodeSends, nodeHeartbeats, nodeEvents, nodeTermsLost} {
		ch <- d
	}
}

func (stat node) Collect(ch chan<- prometheus.Metric) {
	n, e := stat(), emitter{ch}
	e.gauge(nodeSessions, float64(n.Sessions))
	e.gauge(nodeMax, float64(n.SessionsMax))
	e.gauge(nodeCPU, n.CPU)
	e.gauge(nodeMemory, n.Memory)
	e.gauge(nodeQueued, float64(n.EventsQueued))
	e.counter(nodeTerms, float64(n.Registrations))
	e.counter(nodeTermsLost, float64(n.TermsLost))
	for d, byOutcome := range map[*prometheus.Desc]map[string]int64{nodeSends: n.Sends, nodeHeartbeats: n.Heartbeats, nodeEvents: n.Events} {
		for outcome, count := range byOutcome {
			e.counter(d, float64(count), outcome)
		}
	}
}
