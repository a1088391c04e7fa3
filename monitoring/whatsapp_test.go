package monitoring

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatsAppFigures(t *testing.T) {
	m := New("test")
	m.WatchWhatsApp(func() WhatsApp {
		return WhatsApp{Statuses: map[string]int{"connected": 3}, Outdated: true, Reconnects: 4, Fenced: 1, Unreadable: 2}
	})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{`kurir_whatsapp_sessions{status="connected"} 3`, "kurir_whatsapp_outdated 1", "kurir_whatsapp_reconnects_total 4",
		"kurir_whatsapp_fenced_total 1", "kurir_whatsapp_panics_total 0", "kurir_whatsapp_unreadable_total 2"} {
		require.Contains(t, w.Body.String(), line)
	}
}

// Whatever a worker tells of WhatsApp is to be seen.
func TestWhatsAppFiguresAreOnADashboard(t *testing.T) {
	text, err := os.ReadFile("grafana/dashboards/fleet.json")
	require.NoError(t, err)
	m := New("test")
	m.WatchWhatsApp(func() WhatsApp { return WhatsApp{Statuses: map[string]int{"connected": 1}} })
	families, err := m.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "kurir_whatsapp_") {
			require.Contains(t, string(text), family.GetName())
		}
	}
}
