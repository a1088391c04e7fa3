package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/monitoring"
)

const watching = "../../monitoring"

// TestWatching runs the Prometheus that would watch Kurir, with its configuration and its rules, beside a Kurir under load
// that loses a worker, and asks it whatever a panel, a rule or asynqmon's charts ask for. Each question finds an answer, and
// each figure that Kurir is measured by is a number.
func TestWatching(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("prometheus")
	if err != nil {
		require.Empty(t, os.Getenv("CI"), "Prometheus is not installed: make prometheus")
		t.Log("NOT RUN: Prometheus is not installed (make prometheus), so nobody has asked what dashboards and rules ask.")
		return
	}
	at := loopback(embeddedtest.Port(t))
	c := plan{workers: 2, env: []string{"PROMETHEUS_URL=" + at, "LEASE_TTL=4s", "HEARTBEAT_INTERVAL=1s", "WEBHOOK_RETRY_SCHEDULE=0s,1s,1s"}}.start(t)
	if strings.Contains(c.redis.Kind(), "miniredis") {
		require.Empty(t, os.Getenv("CI"), "Redis is not installed: make servers")
		t.Log("NOT RUN: Redis is not installed (make servers), and miniredis does not tell of its memory.")
		return
	}
	p := c.watchedBy(binary, at)
	c.underLoad(p)
	p.knows(c)

	var failed []string
	for _, q := range append(p.rules(c), panels(t)...) {
		if why := p.answers(t, q); why != "" {
			failed = append(failed, fmt.Sprintf("%s: %s\n\t%s", q.where, why, q.expr))
		}
	}
	require.Empty(t, failed, "\n%s", strings.Join(failed, "\n"))
	c.charts()
}

// underLoad has tenants come, messages go, subscribers fail and a worker die.
func (c *cluster) underLoad(p *prometheus) {
	c.t.Helper()
	for i := range 3 {
		c.call(http.MethodPost, "/auth/register", map[string]any{"email": fmt.Sprintf("tenant%d@example.com", i), "password": "correct horse"}, nil, 201)
	}
	var came atomic.Int64
	c.hooks.answering(func(string) int {
		if came.Add(1)%5 == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	})
	sessions := c.linkedSessions(6)
	f := c.startFlow(sessions, 50, false)
	victim := c.fullest(1)[0].ID
	c.elsewhere(c.kill(victim), elsewhereWithin, victim)
	c.eventually(40*time.Second, "Prometheus sees that the worker is gone", func() (bool, string) {
		down := p.ask(c.t, `up{job="kurir-worker"} == 0`)
		return len(down) == 1, fmt.Sprint(down)
	})
	c.again(victim)
	f.more(50)
	f.end()
}

// prometheus is one that scrapes a cluster every second.
type prometheus struct {
	url  string
	asks map[string]bool // selectors that found something
}

var intervals = regexp.MustCompile(`(?m)((?:scrape_|evaluation_)?(?:interval|timeout)): \w+$`)

// watchedBy starts Prometheus on what is shipped, but for where the targets are and how often it looks, and waits until it
// reaches them all.
func (c *cluster) watchedBy(binary, at string) *prometheus {
	c.t.Helper()
	folder := c.t.TempDir()
	require.NoError(c.t, os.CopyFS(filepath.Join(folder, "rules"), os.DirFS(watching+"/prometheus/rules")))
	names, err := filepath.Glob(folder + "/rules/*.yml")
	require.NoError(c.t, err)
	for _, name := range append(names, folder+"/prometheus.yml") {
		from := name
		if filepath.Base(name) == "prometheus.yml" {
			from = watching + "/prometheus/prometheus.yml"
		}
		text, err := os.ReadFile(from)
		require.NoError(c.t, err)
		text = intervals.ReplaceAll(c.targets(text), []byte("$1: 1s"))
		require.NoError(c.t, os.WriteFile(name, text, 0o600))
	}
	said := newTail(c.t, "prometheus")
	cmd := exec.Command(binary, "--config.file="+folder+"/prometheus.yml", "--storage.tsdb.path="+folder+"/data",
		"--web.listen-address="+strings.TrimPrefix(at, "http://"), "--log.level=warn")
	cmd.Stdout, cmd.Stderr = said, said
	require.NoError(c.t, cmd.Start())
	c.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	p := &prometheus{url: at, asks: map[string]bool{}}
	c.eventually(40*time.Second, "Prometheus reaches all processes", func() (bool, string) {
		res, err := http.Get(at + "/-/ready")
		if err != nil {
			return false, said.notable(5)
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			return false, res.Status
		}
		up := p.ask(c.t, `up == 1`)
		return len(up) == 2+2+2+2+1, fmt.Sprint(up, said.notable(5))
	})
	return p
}

var discovery = regexp.MustCompile(`(?m)- job_name: kurir-(\w+)\n    (\w+: .*)$`)

// targets puts the processes of the cluster where the configuration has names of containers.
func (c *cluster) targets(text []byte) []byte {
	return discovery.ReplaceAllFunc(text, func(match []byte) []byte {
		groups := discovery.FindSubmatch(match)
		var list []string
		for _, p := range c.procs {
			for _, variable := range p.env { // an api without INTERNAL_PORT has its metrics at PORT
				name, port, _ := strings.Cut(variable, "=")
				if p.command == string(groups[1]) && (name == "METRICS_PORT" || name == "PORT") {
					list = append(list, strconv.Quote("127.0.0.1:"+port))
				}
			}
		}
		require.NotEmpty(c.t, list, "%s", match)
		if string(groups[1]) == "worker" {
			list = append(list, strconv.Quote(whatsAppFigures(c.t)))
		}
		return []byte(strings.Replace(string(match), string(groups[2]), "static_configs: [{targets: ["+strings.Join(list, ", ")+"]}]", 1))
	})
}

// whatsAppFigures are those of a worker that speaks to WhatsApp, which is no part of this program.
func whatsAppFigures(t *testing.T) (address string) {
	t.Helper()
	m := monitoring.New("test")
	m.WatchWhatsApp(func() monitoring.WhatsApp { return monitoring.WhatsApp{Statuses: map[string]int{"connected": 1}} })
	s := httptest.NewServer(m.Handler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// promSeries is one series of an answer.
type promSeries struct {
	Metric map[string]string
	Value  [2]any
}

func (s promSeries) value() float64 {
	v, err := strconv.ParseFloat(fmt.Sprint(s.Value[1]), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

func (p *prometheus) get(t *testing.T, path string, into any) {
	t.Helper()
	res, err := http.Get(p.url + path)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode, "%s: %s", path, body)
	require.NoError(t, json.Unmarshal(body, into))
}

func (p *prometheus) ask(t *testing.T, expr string) []promSeries {
	t.Helper()
	var answer struct{ Data struct{ Result []promSeries } }
	p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &answer)
	return answer.Data.Result
}

// question is what somebody asks of Prometheus. An alert is silent while all is well: only what it looks at has to be there.
type question struct {
	where, expr string
	alert       bool
}

// selector is a metric of ours, or one of every process, with its labels.
var selector = regexp.MustCompile(`\b(?:kurir[_:][\w:]+|asynq_\w+|process_\w+|go_\w+|up\b)(?:\{[^}]*\})?`)

// answers says why a question has no answer.
func (p *prometheus) answers(t *testing.T, q question) string {
	t.Helper()
	named := selector.FindAllString(q.expr, -1)
	if len(named) == 0 {
		return "it names no metric"
	}
	for _, s := range named {
		if !p.asks[s] {
			p.asks[s] = len(p.ask(t, s)) > 0
		}
		if !p.asks[s] {
			return "no series for " + s
		}
	}
	if !q.alert && len(p.ask(t, q.expr)) == 0 {
		return "no series"
	}
	return ""
}

// rules are those that Prometheus has loaded. Each is evaluated without an error.
func (p *prometheus) rules(c *cluster) (list []question) {
	c.t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Query, Type, Health, LastError string }
			}
		}
	}
	p.get(c.t, "/api/v1/rules", &answer)
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			assert.Equal(c.t, "ok", r.Health, "%s: %s", r.Name, r.LastError)
			list = append(list, question{where: "rule " + r.Name, expr: r.Query, alert: r.Type == "alerting"})
		}
	}
	require.Greater(c.t, len(list), 50)
	return list
}

// panels are the queries of all dashboards, with what Grafana would put in place of its variables.
func panels(t *testing.T) (list []question) {
	t.Helper()
	files, err := filepath.Glob(watching + "/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 6)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var d struct {
			Title  string
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		require.NoError(t, json.Unmarshal(text, &d), file)
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				list = append(list, question{where: d.Title + ", " + panel.Title, expr: strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")})
			}
		}
	}
	return list
}

// measures are the figures that Kurir is measured by, and what they may be after a while in which nothing failed but a worker.
var measures = map[string]func(v float64) bool{
	"kurir:api_uptime:ratio30d":                      func(v float64) bool { return v > 0.5 && v <= 1 }, // it began before the first scrape
	"kurir:http_request_duration_seconds:mean5m":     func(v float64) bool { return v > 0 },
	"kurir:http_request_duration_seconds:p95":        func(v float64) bool { return v > 0 },
	"kurir:http_errors:ratio1h":                      func(v float64) bool { return v >= 0 && v < 1 },
	"kurir:http_requests:per_minute":                 func(v float64) bool { return v > 0 },
	"kurir:database_query_duration_seconds:mean5m":   func(v float64) bool { return v > 0 },
	"kurir:registrations:success_ratio1d":            func(v float64) bool { return v == 1 },
	"kurir:session_creations:success_ratio1d":        func(v float64) bool { return v == 1 },
	"kurir:worker_detections:within30s_ratio1d":      func(v float64) bool { return v == 1 },
	"kurir:worker_detection_seconds:p95_1d":          func(v float64) bool { return v > 0 && v < 30 },
	"kurir:worker_load:spread":                       func(v float64) bool { return v >= 0 && v <= 1 },
	"kurir:session_migrations:success_ratio1d":       func(v float64) bool { return v == 1 },
	"kurir:message_accept_to_sent_seconds:p95":       func(v float64) bool { return v > 0 },
	"kurir:webhook_event_to_delivered_seconds:p95":   func(v float64) bool { return v > 0 },
	`sum(kurir_messages_total{outcome="delivered"})`: func(v float64) bool { return v > 0 },
	`sum(kurir_messages_total{outcome="read"})`:      func(v float64) bool { return v > 0 },
	"kurir:webhook_deliveries:success_ratio15m":      func(v float64) bool { return v > 0 && v < 1 },
}

// knows waits until each of the figures is a number, and one that can be.
func (p *prometheus) knows(c *cluster) {
	c.t.Helper()
	for name, fits := range measures {
		c.eventually(40*time.Second, name+" is there", func() (bool, string) {
			got := p.ask(c.t, name)
			return len(got) == 1 && fits(got[0].value()), fmt.Sprint(got)
		})
	}
}

// charts asks asynqmon for its page of charts, which asks Prometheus.
func (c *cluster) charts() {
	c.t.Helper()
	status, data, err := c.request(c.t.Context(), http.MethodGet, c.entries[0]+"/admin/queues/api/metrics", nil, "Authorization", "Bearer "+c.admin)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, status, "%s", data)
	var charts map[string]struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	require.NoError(c.t, json.Unmarshal(data, &charts), "%s", data)
	require.Len(c.t, charts, 9)
	for name, chart := range charts {
		var queues []string
		for _, series := range chart.Data.Result {
			if len(series.Values) > 0 {
				queues = append(queues, series.Metric["queue"])
			}
		}
		slices.Sort(queues)
		require.Equal(c.t, []string{"control", "media", "messages", "ticks", "webhooks"}, queues, name)
	}
}
