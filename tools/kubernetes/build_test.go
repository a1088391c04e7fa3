package kubernetes

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const root = "../.."

// manifests is the folder that is looked at.
const manifests = root + "/deploy/kubernetes"

// dashboards is the folder of the one component that is elsewhere.
const dashboards = root + "/monitoring/grafana"

// everythingElse is an overlay of the components that no other one has.
const everythingElse = `
kind: Kustomization
namespace: kurir
resources: [namespace.yaml, ../../base, network.yaml]
components:
  - ../../components/http-route
  - ../../components/media-volume
  - ../../components/keda
  - ../../components/pod-monitors
  - ../../components/prometheus-rules
  - ../../../../monitoring/grafana
`

// variant is what one overlay comes to.
type variant struct {
	name       string
	namespace  string
	workloads  []workload
	services   []*corev1.Service
	claims     map[string]*corev1.PersistentVolumeClaim
	configs    map[string]*corev1.ConfigMap
	accounts   map[string]*corev1.ServiceAccount
	budgets    []*policyv1.PodDisruptionBudget
	policies   []*networkingv1.NetworkPolicy
	ingresses  []*networkingv1.Ingress
	routes     []*httpRoute
	monitors   []*podMonitor
	rules      []*prometheusRule
	scalers    []scaler
	namespaces map[string]*corev1.Namespace
	inside     map[string]bool // the namespaces that objects name
}

// eachVariant runs a test on all of them.
func eachVariant(t *testing.T, test func(t *testing.T, v *variant)) {
	for _, name := range []string{"simulator", "production", "everything-else"} {
		t.Run(name, func(t *testing.T) { test(t, buildVariant(t, name)) })
	}
}

// built are the variants that were built already: nobody changes them. Those that cannot be built are nil.
var built = map[string]*variant{}

func buildVariant(t *testing.T, name string) *variant {
	t.Helper()
	v, known := built[name]
	if !known {
		built[name] = nil
		v = build(t, name)
		built[name] = v
	}
	require.NotNil(t, v, "it cannot be built: the first test says why")
	return v
}

func build(t *testing.T, name string) *variant {
	t.Helper()
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(tree(t), "/deploy/kubernetes/overlays/"+name)
	require.NoError(t, err)
	v := &variant{name: name, claims: map[string]*corev1.PersistentVolumeClaim{}, configs: map[string]*corev1.ConfigMap{},
		accounts: map[string]*corev1.ServiceAccount{}, namespaces: map[string]*corev1.Namespace{}, inside: map[string]bool{}}
	for _, r := range all.Resources() {
		text, err := r.AsYAML()
		require.NoError(t, err)
		v.add(t, decode(t, text))
	}
	require.Len(t, v.namespaces, 1)
	require.Equal(t, map[string]bool{"": true, v.namespace: true}, v.inside, "the namespace itself is in none, all else is in it")
	return v
}

// tree is the folders of manifests in memory, with the overlay of the tests in them.
func tree(t *testing.T) filesys.FileSystem {
	t.Helper()
	files := filesys.MakeFsInMemory()
	const production, tests = "/deploy/kubernetes/overlays/production/", "/deploy/kubernetes/overlays/everything-else/"
	for _, folder := range []string{manifests, dashboards} {
		require.NoError(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			body, err := os.ReadFile(path)
			require.NoError(t, err)
			name := strings.TrimPrefix(path, root)
			require.NoError(t, files.WriteFile(name, body))
			if kept := strings.TrimPrefix(name, production); kept == "namespace.yaml" || kept == "network.yaml" {
				require.NoError(t, files.WriteFile(tests+kept, body))
			}
			return nil
		}))
	}
	require.NoError(t, files.WriteFile(tests+"kustomization.yaml", []byte(everythingElse)))
	return files
}

func (v *variant) add(t *testing.T, object any) {
	t.Helper()
	named, ok := object.(metav1.Object)
	require.True(t, ok)
	v.inside[named.GetNamespace()] = true
	switch o := object.(type) {
	case *corev1.Namespace:
		v.namespaces[o.Name], v.namespace = o, o.Name
	case *corev1.Service:
		v.services = append(v.services, o)
	case *corev1.ConfigMap:
		v.configs[o.Name] = o
	case *corev1.PersistentVolumeClaim:
		v.claims[o.Name] = o
	case *corev1.ServiceAccount:
		v.accounts[o.Name] = o
	case *policyv1.PodDisruptionBudget:
		v.budgets = append(v.budgets, o)
	case *networkingv1.NetworkPolicy:
		v.policies = append(v.policies, o)
	case *networkingv1.Ingress:
		v.ingresses = append(v.ingresses, o)
	case *autoscalingv2.HorizontalPodAutoscaler:
		v.scalers = append(v.scalers, scalerOf(o))
	case *scaledObject:
		v.scalers = append(v.scalers, o.scaler())
	case *httpRoute:
		v.routes = append(v.routes, o)
	case *podMonitor:
		v.monitors = append(v.monitors, o)
	case *prometheusRule:
		v.rules = append(v.rules, o)
	default:
		w, ok := workloadOf(o)
		require.True(t, ok, "nobody looks at a %T", o)
		v.workloads = append(v.workloads, w)
	}
}
