package kubernetes

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Selectors mean what they should, and the names of what is in the namespace are there.
func TestSelectors(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		for _, w := range v.workloads {
			if w.selector != nil {
				require.True(t, isSelector(w.selector).Matches(w.labels()), w.name)
				require.Len(t, v.selected(isSelector(w.selector)), 1, "%s takes the pods of others", w.name)
			}
			for _, spread := range w.template.Spec.TopologySpreadConstraints {
				require.True(t, isSelector(spread.LabelSelector).Matches(w.labels()), w.name)
				require.Equal(t, corev1.ScheduleAnyway, spread.WhenUnsatisfiable, "a zone that is gone would keep its pods away")
			}
		}
		for _, s := range v.services {
			pods := v.selected(labels.SelectorFromSet(s.Spec.Selector))
			require.Len(t, pods, 1, s.Name)
			for _, p := range s.Spec.Ports {
				_, ok := pods[0].port(p.TargetPort.String())
				require.True(t, ok, "%s: %s has no port %s", s.Name, pods[0].name, p.TargetPort.String())
			}
		}
		for _, m := range v.monitors {
			pods := v.selected(isSelector(&m.Spec.Selector))
			require.NotEmpty(t, pods, m.Name)
			for _, w := range pods {
				for _, e := range m.Spec.PodMetricsEndpoints {
					_, ok := w.port(e.Port)
					require.True(t, ok, "%s has no port %s", w.name, e.Port)
					require.Equal(t, "/metrics", e.Path)
				}
			}
		}
	})
}

// Everything that is always there may lose one pod at a time, and never all that it has.
func TestDisruptionBudgets(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		covered := map[string]bool{}
		for _, b := range v.budgets {
			pods := v.selected(isSelector(b.Spec.Selector))
			require.Len(t, pods, 1, b.Name)
			require.Equal(t, 1, b.Spec.MaxUnavailable.IntValue(), b.Name)
			require.GreaterOrEqual(t, v.fewest(pods[0]), int32(2), "%s has but one pod", pods[0].name)
			covered[pods[0].name] = true
		}
		for _, w := range v.workloads {
			if w.isOurs() && w.kind != "Job" && v.fewest(w) > 1 {
				require.True(t, covered[w.name], "%s has no budget", w.name)
			}
		}
	})
}

// fewest is how many pods there are at least.
func (v *variant) fewest(w workload) int32 {
	for _, s := range v.scalers {
		if s.target == w.kind+" "+w.name {
			return s.least
		}
	}
	if w.replicas == nil {
		return 1
	}
	return *w.replicas
}

// The public reaches the public port and no other one, under the name that Kurir says it has.
func TestPublicRoutes(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		public := func(host, service, port string) {
			s := v.service(service)
			require.NotNil(t, s, service)
			at := ""
			for _, p := range s.Spec.Ports {
				if p.Name == port || number(p.Port) == port {
					at = p.TargetPort.String()
				}
			}
			require.Equal(t, "http", at, "%s of %s", port, service)
			if said := v.environment(v.workload("kurir-api").template.Spec.Containers[0])["PUBLIC_URL"]; said != "" {
				u, err := url.Parse(said)
				require.NoError(t, err)
				require.Equal(t, u.Hostname(), host)
			}
		}
		for _, i := range v.ingresses {
			require.Equal(t, i.Spec.Rules[0].Host, i.Spec.TLS[0].Hosts[0])
			for _, r := range i.Spec.Rules {
				for _, p := range r.HTTP.Paths {
					require.Equal(t, "Prefix", string(*p.PathType))
					public(r.Host, p.Backend.Service.Name, p.Backend.Service.Port.Name)
				}
			}
			// Event streams last, and media in base64 are larger than the largest document.
			require.Equal(t, "off", i.Annotations["nginx.ingress.kubernetes.io/proxy-buffering"])
			require.Equal(t, "140m", i.Annotations["nginx.ingress.kubernetes.io/proxy-body-size"])
		}
		for _, r := range v.routes {
			for _, rule := range r.Spec.Rules {
				require.Equal(t, "0s", rule.Timeouts.Request)
				for _, b := range rule.BackendRefs {
					public(r.Spec.Hostnames[0], b.Name, number(b.Port))
				}
			}
		}
		for _, s := range v.services {
			require.Contains(t, []corev1.ServiceType{"", corev1.ServiceTypeClusterIP}, s.Spec.Type, "%s is open to the world", s.Name)
		}
	})
}

// Volumes that several pods write to can be.
func TestMediaAreShared(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		for _, name := range []string{"kurir-api", "kurir-runner"} {
			c := v.workload(name).template.Spec.Containers[0]
			where := v.environment(c)["MEDIA_URL"]
			if strings.HasPrefix(where, "s3://") {
				continue
			}
			mounted := false
			for _, m := range c.VolumeMounts {
				mounted = mounted || m.MountPath == where
			}
			require.True(t, mounted, "%s keeps media in %q, which ends with the pod", name, where)
		}
		claim := v.claims["kurir-media"]
		if claim == nil {
			return
		}
		if claim.Spec.AccessModes[0] != corev1.ReadWriteMany {
			require.NotNil(t, v.workload("kurir-runner").template.Spec.Affinity, "api and runner on one machine")
			require.EqualValues(t, 1, *v.workload("kurir-api").replicas)
		}
	})
}
