package monitoring

import "github.com/prometheus/client_golang/prometheus"

// WhatsApp is what a worker that speaks to WhatsApp says of its connections.
type WhatsApp struct {
	Statuses   map[string]int // sessions by status
	Outdated   bool           // WhatsApp refuses this version of the worker
	Reconnects int64
	Panics     int64 // of one session each
	Fenced     int64 // sends that the database refused, since another worker held the session
	Retries    int64 // messages that phones have asked for again
	Unreadable int64 // messages that came in and could not be read, each time that they came
}

var (
	whatsappSessions   = desc("kurir_whatsapp_sessions", "Sessions of this worker by the status of their connection.", "status")
	whatsappOutdated   = desc("kurir_whatsapp_outdated", "1: WhatsApp refuses this version of the worker, and no session connects.")
	whatsappReconnects = desc("kurir_whatsapp_reconnects_total", "Connections to WhatsApp that broke and were opened again.")
	whatsappPanics     = desc("kurir_whatsapp_panics_total", "Panics, each of which was kept to one session.")
	whatsappFenced     = desc("kurir_whatsapp_fenced_total", "Sends that the database refused because another worker held the session.")
	whatsappRetries    = desc("kurir_whatsapp_retries_total", "Messages that phones could not read and asked for again.")
	whatsappUnreadable = desc("kurir_whatsapp_unreadable_total", "Messages that came in and could not be read, each time that they came.")
)

// WatchWhatsApp adds the figures of a worker that speaks to WhatsApp. stat reads figures in memory and is asked at every scrape.
func (m *Metrics) WatchWhatsApp(stat func() WhatsApp) { m.registry.MustRegister(whatsApp(stat)) }

type whatsApp func() WhatsApp

func (whatsApp) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{whatsappSessions, whatsappOutdated, whatsappReconnects, whatsappPanics, whatsappFenced, whatsappRetries, whatsappUnreadable} {
		ch <- d
	}
}

func (stat whatsApp) Collect(ch chan<- prometheus.Metric) {
	w, e := stat(), emitter{ch}
	for status, count := range w.Statuses {
		e.gauge(whatsappSessions, float64(count), status)
	}
	outdated := 0.0
	if w.Outdated {
		outdated = 1
	}
	e.gauge(whatsappOutdated, outdated)
	e.counter(whatsappReconnects, float64(w.Reconnects))
	e.counter(whatsappPanics, float64(w.Panics))
	e.counter(whatsappFenced, float64(w.Fenced))
	e.counter(whatsappRetries, float64(w.Retries))
	e.counter(whatsappUnreadable, float64(w.Unreadable))
}
