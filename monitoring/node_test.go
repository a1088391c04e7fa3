package monitoring

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNodeFigures(t *testing.T) {
	m := New("test")
	m.WatchNode(func() Node {
		return Node{Sessions: 3, SessionsMax: 50, CPU: .25, EventsQueued: 2, Sends: map[string]int64{"sent": 7}, Heartbeats: map[string]int64{"failed": 1}, TermsLost: 4}
	})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{"kurir_node_sessions 3", "kurir_node_sessions_max 50", "kurir_node_cpu_ratio 0.25", "kurir_node_events_queued 2", `kurir_node_sends_total{outcome="sent"} 7`,
		`kurir_node_heartbeats_total{outcome="failed"} 1`, "kurir_node_terms_lost_total 4"} {
		require.Contains(t, w.Body.String(), line)
	}
}
