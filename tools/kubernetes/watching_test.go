package kubernetes

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// The Prometheus Operator has the rules that Prometheus has elsewhere, all of them, and the jobs that they name are those of the monitors.
func TestRulesAreThoseOfMonitoring(t *testing.T) {
	made := filepath.Join(t.TempDir(), "rules.yaml")
	out, err := exec.Command("bash", manifests+"/make-rules", made).CombinedOutput()
	require.NoError(t, err, "%s", out)
	fresh, err := os.ReadFile(made)
	require.NoError(t, err)
	kept, err := os.ReadFile(manifests + "/components/prometheus-rules/rules.yaml")
	require.NoError(t, err)
	require.Equal(t, string(fresh), string(kept), "a rule has changed: deploy/kubernetes/make-rules")

	v := buildVariant(t, "everything-else")
	files, err := filepath.Glob(root + "/monitoring/prometheus/rules/*.yml")
	require.NoError(t, err)
	require.Len(t, v.rules, len(files))
	jobs := map[string]bool{}
	for _, m := range v.monitors {
		for _, w := range v.selected(isSelector(&m.Spec.Selector)) {
			jobs["kurir-"+w.component()] = true
		}
		for _, e := range m.Spec.PodMetricsEndpoints {
			require.Equal(t, []string{"__meta_kubernetes_pod_label_app_kubernetes_io_component"}, e.Relabelings[0].SourceLabels)
			require.Equal(t, "job kurir-$1", e.Relabelings[0].TargetLabel+" "+e.Relabelings[0].Replacement)
		}
	}
	for _, r := range v.rules {
		text, err := os.ReadFile(root + "/monitoring/prometheus/rules/" + strings.TrimPrefix(r.Name, "kurir-") + ".yml")
		require.NoError(t, err)
		var want ruleGroups
		require.NoError(t, yaml.UnmarshalStrict(text, &want))
		require.NotEmpty(t, want.Groups, r.Name)
		require.Equal(t, want, r.Spec, r.Name)
		for _, job := range regexp.MustCompile(`job="([^"]+)"`).FindAllStringSubmatch(string(text), -1) {
			require.True(t, jobs[job[1]], "no monitor has the job %s", job[1])
		}
	}
}

// Each dashboard is in a ConfigMap that Grafana's sidecar finds and `kubectl apply` can apply, and asks the data source that is there.
func TestDashboards(t *testing.T) {
	v := buildVariant(t, "everything-else")
	files, err := filepath.Glob(dashboards + "/dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	source := v.configs["kurir-datasource"]
	require.NotNil(t, source)
	require.Equal(t, "1", source.Labels["grafana_datasource"])
	var sources struct{ Datasources []struct{ UID, URL string } }
	require.NoError(t, yaml.Unmarshal([]byte(source.Data["kurir.yaml"]), &sources))
	for _, s := range v.scalers {
		for _, address := range s.addresses {
			require.Equal(t, address, sources.Datasources[0].URL, "KEDA and Grafana ask the same Prometheus")
		}
	}
	for _, file := range files {
		name := filepath.Base(file)
		config := v.configs["kurir-dashboard-"+strings.TrimSuffix(name, ".json")]
		require.NotNil(t, config, "%s is in no ConfigMap", name)
		require.Equal(t, "1", config.Labels["grafana_dashboard"])
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(text), config.Data[name])
		for _, uid := range regexp.MustCompile(`"uid": "(kurir-prometheus[^"]*)"`).FindAllStringSubmatch(string(text), -1) {
			require.Equal(t, sources.Datasources[0].UID, uid[1])
		}
		whole, err := json.Marshal(config)
		require.NoError(t, err)
		require.Less(t, len(whole), 256<<10, "annotations are bounded, and this one becomes one")
	}
}
