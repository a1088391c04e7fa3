package kubernetes

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

func number(n int32) string { return strconv.Itoa(int(n)) }

// The namespace enforces the standard "restricted", so this is what its admission says of each pod. The rest is ours.
func TestPodsAreLockedDown(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		require.Equal(t, "restricted", v.namespaces[v.namespace].Labels["pod-security.kubernetes.io/enforce"])
		admission, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
		require.NoError(t, err)
		for _, w := range v.workloads {
			spec := w.template.Spec
			verdict := policy.AggregateCheckResults(admission.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()},
				&w.template.ObjectMeta, &spec))
			require.True(t, verdict.Allowed, "%s: %s", w.name, verdict.ForbiddenDetail())
			require.False(t, *spec.AutomountServiceAccountToken, "%s has a token of Kubernetes", w.name)
			require.False(t, *spec.EnableServiceLinks, "%s: a Service named worker would set WORKER_PORT", w.name)
			require.NotZero(t, *spec.SecurityContext.RunAsUser, w.name)
			require.NotZero(t, *spec.SecurityContext.FSGroup, "%s could not read its secrets", w.name)
			for _, c := range w.containers() {
				require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, "%s/%s", w.name, c.Name)
				require.NotContains(t, c.Image, ":latest")
				if isKurir(c) {
					require.EqualValues(t, 65532, *spec.SecurityContext.RunAsUser, "the user of the image")
				}
			}
		}
	})
}

// Each container has its share of memory, and Go's limit is below it.
func TestResources(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		for _, w := range v.workloads {
			for _, c := range w.containers() {
				require.False(t, c.Resources.Requests.Cpu().IsZero(), "%s/%s", w.name, c.Name)
				require.False(t, c.Resources.Requests.Memory().IsZero(), "%s/%s", w.name, c.Name)
				limit := c.Resources.Limits.Memory()
				require.LessOrEqual(t, c.Resources.Requests.Memory().Cmp(*limit), 0, "%s/%s asks for more than it may have", w.name, c.Name)
				if soft := v.environment(c)["GOMEMLIMIT"]; soft != "" {
					bytes := resource.MustParse(strings.TrimSuffix(soft, "B"))
					require.Negative(t, bytes.Cmp(*limit), "%s/%s", w.name, c.Name)
				}
			}
		}
	})
}

// whereRoutesAre names the sources of what a component serves at a port.
var whereRoutesAre = map[string]string{
	"api http": "api/system.go", "api internal": "api/system.go", "worker worker": "wire/server.go",
	"runner metrics": "monitoring/health.go", "scheduler metrics": "monitoring/health.go", "worker metrics": "monitoring/health.go",
	"simnet simnet": "worker/simulator/simnet/simnet.go",
}

// asksTheProcessAlone are probes whose answer depends on nothing outside of the process: an outage restarts nobody.
var asksTheProcessAlone = map[string]bool{
	"api http /health/live": true, "runner metrics /health/live": true, "scheduler metrics /health/live": true,
	"worker worker /health": true, "simnet simnet /health": true,
}

func TestProbes(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		for _, w := range v.workloads {
			if w.kind == "Job" || !w.isOurs() {
				continue
			}
			for _, c := range w.template.Spec.Containers {
				require.NotNil(t, c.StartupProbe, w.name)
				require.NotNil(t, c.LivenessProbe, w.name)
				require.NotNil(t, c.ReadinessProbe, w.name)
				for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
					ask := p.HTTPGet
					port, ok := w.port(ask.Port.String())
					require.True(t, ok, "%s has no port %s", w.name, ask.Port.String())
					where := w.component() + " " + port.Name
					require.True(t, routes(t, whereRoutesAre[where])[ask.Path], "%s serves no %s at its port %s", w.name, ask.Path, port.Name)
					if p != c.ReadinessProbe {
						require.True(t, asksTheProcessAlone[where+" "+ask.Path], "%s is restarted by what %s says", w.name, ask.Path)
					}
				}
				// The checks behind /health/ready take up to 2 s.
				require.Greater(t, c.ReadinessProbe.TimeoutSeconds, int32(2), w.name)
				require.GreaterOrEqual(t, lasting(c.StartupProbe), 30*time.Second, w.name)
				require.GreaterOrEqual(t, lasting(c.LivenessProbe), 20*time.Second, w.name)
			}
		}
	})
}

// lasting is how long a probe has to fail.
func lasting(p *corev1.Probe) time.Duration {
	return time.Duration(p.PeriodSeconds) * time.Duration(max(p.FailureThreshold, 3)) * time.Second
}

// What a process may take to stop, after what its settings let it wait: 25 s for requests and jobs, and what a worker does after
// the hand-over, which a test of it bounds by 20 s.
func TestGracePeriods(t *testing.T) {
	waits := map[string]struct {
		variable string
		then     time.Duration
	}{"api": {"SHUTDOWN_DELAY", 30 * time.Second}, "runner": {"", 30 * time.Second}, "scheduler": {"", 10 * time.Second}, "worker": {"WORKER_HANDOVER", 30 * time.Second}}
	eachVariant(t, func(t *testing.T, v *variant) {
		for component, wait := range waits {
			w := v.workload("kurir-" + component)
			needs := wait.then
			if wait.variable != "" {
				delay, err := time.ParseDuration(v.environment(w.template.Spec.Containers[0])[wait.variable])
				require.NoError(t, err, "%s of %s", wait.variable, component)
				needs += delay
			}
			grace := time.Duration(*w.template.Spec.TerminationGracePeriodSeconds) * time.Second
			require.GreaterOrEqual(t, grace, needs, component)
		}
	})
}

// The commands are Kurir's, and nothing that asks for a schema starts before it is there.
func TestCommands(t *testing.T) {
	known := commands(t)
	eachVariant(t, func(t *testing.T, v *variant) {
		for _, w := range v.workloads {
			for _, c := range w.containers() {
				if !isKurir(c) || strings.Contains(c.Image, "kurir-whatsapp") {
					continue
				}
				require.NotEmpty(t, c.Args, "%s/%s", w.name, c.Name)
				for _, word := range c.Args {
					require.True(t, known[word] || strings.HasPrefix(word, "--"), "kurir %s", strings.Join(c.Args, " "))
				}
				require.Empty(t, c.Command, "the image knows its program")
			}
			switch w.component() {
			case "api", "runner", "scheduler":
				first := w.template.Spec.InitContainers[0]
				require.Equal(t, []string{"migrate", "wait"}, first.Args, w.name)
				require.Equal(t, w.template.Spec.Containers[0].Image, first.Image, "it waits for the schema of another version")
				require.Equal(t, first.Image, v.workload("kurir-migrate").template.Spec.Containers[0].Image)
			}
		}
	})
}
