package kubernetes

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// workload is a Deployment, a StatefulSet or a Job: what has pods.
type workload struct {
	kind, name string
	replicas   *int32
	selector   *metav1.LabelSelector // nil of a Job
	template   corev1.PodTemplateSpec
	set        *appsv1.StatefulSet // nil of others
	claims     []string            // made for each pod
}

func workloadOf(object any) (workload, bool) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		return workload{kind: "Deployment", name: o.Name, replicas: o.Spec.Replicas, selector: o.Spec.Selector, template: o.Spec.Template}, true
	case *appsv1.StatefulSet:
		w := workload{kind: "StatefulSet", name: o.Name, replicas: o.Spec.Replicas, selector: o.Spec.Selector, template: o.Spec.Template, set: o}
		for _, c := range o.Spec.VolumeClaimTemplates {
			w.claims = append(w.claims, c.Name)
		}
		return w, true
	case *batchv1.Job:
		return workload{kind: "Job", name: o.Name, template: o.Spec.Template}, true
	}
	return workload{}, false
}

// component is what app.kubernetes.io/component says.
func (w workload) component() string {
	return w.template.Labels["app.kubernetes.io/component"]
}

// isOurs says whether its pods run Kurir.
func (w workload) isOurs() bool { return w.template.Labels["app.kubernetes.io/name"] == "kurir" }

func (w workload) labels() labels.Set { return w.template.Labels }

// containers are all of a pod, those for its beginning first.
func (w workload) containers() []corev1.Container {
	return slices.Concat(w.template.Spec.InitContainers, w.template.Spec.Containers)
}

// port finds a port of the pod, by name or number.
func (w workload) port(nameOrNumber string) (corev1.ContainerPort, bool) {
	for _, c := range w.template.Spec.Containers {
		for _, p := range c.Ports {
			if p.Name == nameOrNumber || nameOrNumber == number(p.ContainerPort) {
				return p, true
			}
		}
	}
	return corev1.ContainerPort{}, false
}

func (v *variant) workload(name string) workload {
	for _, w := range v.workloads {
		if w.name == name {
			return w
		}
	}
	return workload{}
}

// service finds one by its name.
func (v *variant) service(name string) *corev1.Service {
	for _, s := range v.services {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// selected are the workloads whose pods a selector means.
func (v *variant) selected(s labels.Selector) (found []workload) {
	for _, w := range v.workloads {
		if s.Matches(w.labels()) {
			found = append(found, w)
		}
	}
	return found
}

// environment is what a container is told: name to value, "" for values that only a cluster knows.
func (v *variant) environment(c corev1.Container) map[string]string {
	all := map[string]string{}
	for _, from := range c.EnvFrom {
		if config := v.configs[from.ConfigMapRef.Name]; config != nil {
			for name, value := range config.Data {
				all[name] = value
			}
		}
	}
	for _, e := range c.Env {
		all[e.Name] = e.Value
	}
	return all
}

func isSelector(s *metav1.LabelSelector) labels.Selector {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return selector
}

func isKurir(c corev1.Container) bool { return strings.Contains(c.Image, "kurir") }
