package monitoring

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRules has promtool check what Prometheus is given, and run its unit tests. Where it is not installed, the test says so
// and does nothing; CI has to have it.
func TestRules(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil {
		require.Empty(t, os.Getenv("CI"), "promtool is not installed: make prometheus")
		t.Log("NOT RUN: promtool is not installed (make prometheus), so nobody has checked the rules.")
		return
	}
	tests, err := filepath.Glob("prometheus/tests/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, tests)
	for _, args := range [][]string{{"check", "config", "prometheus/prometheus.yml"}, append([]string{"test", "rules"}, tests...)} {
		out, err := exec.Command(tool, args...).CombinedOutput()
		require.NoError(t, err, "promtool %s\n%s", strings.Join(args, " "), out)
	}
}

// Each alert has a test, says how bad it is, and leads to a runbook that is there.
func TestAlertsLeadSomewhere(t *testing.T) {
	rules, err := os.ReadFile("prometheus/rules/alerts.yml")
	require.NoError(t, err)
	tests, err := os.ReadFile("prometheus/tests/alerts.yml")
	require.NoError(t, err)
	for _, text := range strings.Split(string(rules), "- alert: ")[1:] {
		name, _, _ := strings.Cut(text, "\n")
		assert.Contains(t, string(tests), `alertname="`+name+`"`, "a test of %s", name)
		assert.Regexp(t, `severity: (critical|warning)\}`, text, name)
		assert.Contains(t, text, "summary: ", name)
		runbook := regexp.MustCompile(`runbook_url: (docs/runbooks/[a-z-]+\.md)`).FindStringSubmatch(text)
		if assert.NotNil(t, runbook, name) {
			assert.FileExists(t, filepath.Join("..", runbook[1]), name)
		}
	}
}

// Dashboards are what Grafana would make of them: nothing lies upon something else, and all ask the provisioned Prometheus.
func TestDashboardFiles(t *testing.T) {
	source, err := os.ReadFile("grafana/provisioning/datasources/prometheus.yml")
	require.NoError(t, err)
	files, err := filepath.Glob("grafana/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 6)
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var d dashboardFile
		require.NoError(t, json.Unmarshal(text, &d), file)
		assert.False(t, seen[d.UID] || d.UID == "", "uid of %s", file)
		seen[d.UID] = true
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range d.Panels {
			where := file + ": " + p.Title
			assert.False(t, ids[p.ID] || p.ID == 0, "id of %s", where)
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					assert.Empty(t, taken[[2]int{x, y}], "under %s", where)
					taken[[2]int{x, y}] = p.Title
				}
			}
			assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, where)
			assert.Equal(t, p.Type == "row", len(p.Targets) == 0, where)
			for _, target := range p.Targets {
				assert.Contains(t, string(source), "uid: "+target.Datasource.UID+" ", where)
			}
		}
	}
}

type dashboardFile struct {
	UID    string
	Panels []struct {
		ID          int
		Type, Title string
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct{ Datasource struct{ UID string } }
	}
}

// The brief's measures are rows of the overview.
func TestOverviewHasTheMeasures(t *testing.T) {
	text, err := os.ReadFile("grafana/dashboards/overview.json")
	require.NoError(t, err)
	for _, title := range []string{"Uptime: more than 99.9 %", "Response time: less than 200 ms on average", "Error rate: less than 0.1 %",
		"Throughput: 10,000 requests a minute and more can be had", "Query time: less than 50 ms", "User registration: more than 99 % succeed",
		"Session creation: more than 95 % succeed", "Worker health detection: less than 30 s", "Load balancing: even", "Session migration: more than 90 % succeed"} {
		assert.Contains(t, string(text), `"title": "`+title+`"`)
	}
}

// Every metric of ours is explained.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/monitoring.md")
	require.NoError(t, err)
	m := full(t)
	m.WatchNode(func() Node {
		return Node{Sends: map[string]int64{"sent": 1}, Heartbeats: map[string]int64{"ok": 1}, Events: map[string]int64{"delivered": 1}}
	})
	m.WatchScaling(func(context.Context) (Scaling, error) { return Scaling{}, nil })
	m.StreamOpened()
	m.StreamClosed("shutdown")
	families, err := m.registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		name := family.GetName()
		if short := strings.TrimPrefix(name, "kurir_database"); strings.HasPrefix(name, "kurir_") && !strings.Contains(string(text), "`"+short+"`") {
			assert.Contains(t, string(text), "`"+name+"`")
		}
	}
}
