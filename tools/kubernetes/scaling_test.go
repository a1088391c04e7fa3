package kubernetes

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
)

// scaler is what changes the number of a workload's pods.
type scaler struct {
	target      string // kind and name
	least, most int32
	queries     []string // of Prometheus
	thresholds  []string
	addresses   []string // of that Prometheus
	byCPU       bool
}

func scalerOf(h *autoscalingv2.HorizontalPodAutoscaler) scaler {
	s := scaler{target: h.Spec.ScaleTargetRef.Kind + " " + h.Spec.ScaleTargetRef.Name, least: *h.Spec.MinReplicas, most: h.Spec.MaxReplicas}
	for _, m := range h.Spec.Metrics {
		s.byCPU = s.byCPU || m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource.Name == corev1.ResourceCPU
	}
	return s
}

func (o *scaledObject) scaler() scaler {
	s := scaler{target: o.Spec.ScaleTargetRef.Kind + " " + o.Spec.ScaleTargetRef.Name, least: o.Spec.MinReplicaCount, most: o.Spec.MaxReplicaCount}
	for _, trigger := range o.Spec.Triggers {
		s.queries = append(s.queries, trigger.Metadata["query"])
		s.thresholds = append(s.thresholds, trigger.Metadata["threshold"])
		s.addresses = append(s.addresses, trigger.Metadata["serverAddress"])
	}
	return s
}

var (
	metricName  = regexp.MustCompile(`kurir_[a-z_]+`)
	queueLabels = regexp.MustCompile(`queue=~"([a-z|]+)"`)
	stateLabels = regexp.MustCompile(`state=~"([a-z|]+)"`)
)

// Autoscalers look at metrics that Kurir has, and what they scale is not set back by the next apply.
func TestScalers(t *testing.T) {
	metrics := literals(t, "monitoring/*.go", metricName)
	states := literals(t, "monitoring/queue_metrics.go", regexp.MustCompile(`^[a-z]+$`))
	queues := literals(t, "jobs/queue.go", regexp.MustCompile(`^[a-z]+$`))
	eachVariant(t, func(t *testing.T, v *variant) {
		seen := map[string]bool{}
		for _, s := range v.scalers {
			require.False(t, seen[s.target], "two scalers of %s", s.target)
			seen[s.target] = true
			require.GreaterOrEqual(t, s.least, int32(2), s.target)
			require.Greater(t, s.most, s.least, s.target)
			require.True(t, s.byCPU || len(s.queries) > 0, s.target)
			for i, query := range s.queries {
				require.NotEmpty(t, metricName.FindAllString(query, -1))
				for _, name := range metricName.FindAllString(query, -1) {
					require.True(t, metrics[name], "Kurir has no metric %s", name)
				}
				requireEach(t, queues, queueLabels, query)
				requireEach(t, states, stateLabels, query)
				require.Contains(t, query, `namespace="`+v.namespace+`"`)
				threshold, err := strconv.ParseFloat(s.thresholds[i], 64)
				require.NoError(t, err)
				require.Positive(t, threshold)
			}
			found := false
			for _, w := range v.workloads {
				if w.kind+" "+w.name == s.target {
					found = true
					require.Nil(t, w.replicas, "%s has a scaler and a number of its own", s.target)
				}
			}
			require.True(t, found, "there is no %s", s.target)
		}
	})
}

func requireEach(t *testing.T, known map[string]bool, label *regexp.Regexp, query string) {
	t.Helper()
	for _, found := range label.FindAllStringSubmatch(query, -1) {
		for _, value := range regexp.MustCompile(`[a-z]+`).FindAllString(found[1], -1) {
			require.True(t, known[value], "there is no %q in %s", value, query)
		}
	}
}
