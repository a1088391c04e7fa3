package kubernetes

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// notOurs are variables that others in the process read.
var notOurs = map[string]bool{"GOMEMLIMIT": true, "AWS_ACCESS_KEY_ID": true, "AWS_SECRET_ACCESS_KEY": true}

// Every variable is one that Kurir reads, in the form that it takes, and no secret stands in a manifest.
func TestVariables(t *testing.T) {
	known := variables(t)
	eachVariant(t, func(t *testing.T, v *variant) {
		for _, w := range v.workloads {
			for _, c := range w.containers() {
				if !isKurir(c) {
					continue
				}
				for name, value := range v.environment(c) {
					if notOurs[name] {
						continue
					}
					of, fromFile := strings.CutSuffix(name, "_FILE")
					if !fromFile {
						of = name
					}
					variable, ok := known[of]
					require.True(t, ok, "%s/%s sets %s, which Kurir does not read", w.name, c.Name, name)
					require.True(t, !fromFile || variable.secret, "%s: only secrets are read from files", name)
					require.True(t, fromFile || !variable.secret || value == "", "the secret %s stands in a manifest", name)
					if !fromFile {
						require.True(t, fits(variable.kind, value), "%s=%s", name, value)
					}
				}
			}
		}
	})
}

// fits says whether a value has the form of a variable's type. Values that only a cluster knows are "".
func fits(kind, value string) bool {
	var err error
	switch {
	case value == "":
	case kind == "int":
		_, err = strconv.Atoi(value)
	case kind == "bool":
		_, err = strconv.ParseBool(value)
	case kind == "duration":
		_, err = time.ParseDuration(value)
	}
	return err == nil
}

// secrets are what make-secrets prints of an overlay, as Secrets with their keys. What may be given is given.
func secrets(t *testing.T, overlay string) map[string]*corev1.Secret {
	t.Helper()
	if overlay != "simulator" {
		overlay = "production"
	}
	script := exec.Command("bash", manifests+"/make-secrets", overlay)
	script.Env = []string{"PATH=" + os.Getenv("PATH")}
	for _, name := range []string{"ADMIN_EMAIL", "DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL", "SMTP_PASS", "WEBHOOK_SECRET", "SCALING_WEBHOOK_URL", "BILLING_WEBHOOK_URL",
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		script.Env = append(script.Env, name+`=of "`+name+`": {`+"\n}") // which no YAML may come of
	}
	var told bytes.Buffer
	script.Stderr = &told
	text, err := script.Output()
	require.NoError(t, err, told.String())
	all := map[string]*corev1.Secret{}
	for _, one := range strings.Split(strings.TrimPrefix(string(text), "---\n"), "---\n") {
		s := decode(t, []byte(one)).(*corev1.Secret)
		all[s.Name] = s
	}
	return all
}

// What pods name is there: Secrets with their keys, ConfigMaps, volumes, accounts; and each file that a variable names is one of a Secret.
func TestReferences(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		made := secrets(t, v.name)
		for _, w := range v.workloads {
			spec := w.template.Spec
			if spec.ServiceAccountName != "" {
				require.Contains(t, v.accounts, spec.ServiceAccountName)
			}
			for _, c := range w.containers() {
				for _, from := range c.EnvFrom {
					require.Contains(t, v.configs, from.ConfigMapRef.Name, "%s/%s", w.name, c.Name)
				}
				for _, e := range c.Env {
					if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
						requireKey(t, made, e.ValueFrom.SecretKeyRef.Name, e.ValueFrom.SecretKeyRef.Key)
					}
				}
				files := v.files(t, w, c, made)
				for name, value := range v.environment(c) {
					if strings.HasSuffix(name, "_FILE") {
						require.Contains(t, files, value, "%s of %s/%s", name, w.name, c.Name)
					}
				}
			}
		}
	})
}

// What an operator may take the number sign from is a variable, and its file a key of the Secret. Workers go past the pooler.
func TestWhatIsCommentedOutWorks(t *testing.T) {
	known, made := variables(t), secrets(t, "production")
	files := map[string]string{"gateway.env": "kurir", "worker.env": "kurir-worker"}
	for file, secret := range files {
		text, err := os.ReadFile(manifests + "/overlays/production/" + file)
		require.NoError(t, err)
		for _, line := range regexp.MustCompile(`(?m)^#([A-Z_]+)=(.*)$`).FindAllStringSubmatch(string(text), -1) {
			name, fromFile := strings.CutSuffix(line[1], "_FILE")
			require.Contains(t, known, name)
			if fromFile {
				require.Equal(t, "/run/secrets/kurir/"+name, line[2])
				requireKey(t, made, secret, name)
			}
		}
	}
	require.Equal(t, made["kurir"].Data["DATABASE_DIRECT_URL"], made["kurir-worker"].Data["WHATSAPP_DATABASE_URL"])
}

// docs/kubernetes.md adds up the connections to PostgreSQL of as many pods as autoscalers may make.
func TestConnectionsAddUp(t *testing.T) {
	most := func(variant, target string) int {
		for _, s := range buildVariant(t, variant).scalers {
			if s.target == target {
				return int(s.most)
			}
		}
		t.Fatalf("nothing scales %s", target)
		return 0
	}
	of := func(workload, variable string) int {
		v := buildVariant(t, "production")
		n, err := strconv.Atoi(v.environment(v.workload(workload).template.Spec.Containers[0])[variable])
		require.NoError(t, err)
		return n
	}
	each, schedulers := of("kurir-api", "DATABASE_MAX_CONNS"), int(*buildVariant(t, "production").workload("kurir-scheduler").replicas)
	gateway := (most("production", "Deployment kurir-api")+1)*each + (most("production", "Deployment kurir-runner")+1)*(each+8) + (schedulers+1)*4
	workers := most("everything-else", "StatefulSet kurir-worker") * (of("kurir-worker", "WHATSAPP_DATABASE_CONNS") + 2)
	text, err := os.ReadFile(root + "/docs/kubernetes.md")
	require.NoError(t, err)
	require.Contains(t, strings.Join(strings.Fields(string(text)), " "), fmt.Sprintf("that is %d and %d", gateway, workers))
}

func requireKey(t *testing.T, made map[string]*corev1.Secret, name, key string) {
	t.Helper()
	require.Contains(t, made, name, "make-secrets makes no such Secret")
	require.Contains(t, made[name].Data, key, "of the Secret %s", name)
}

// files are the paths of the secrets that a container sees. Every mount has a volume, and every volume something in it.
func (v *variant) files(t *testing.T, w workload, c corev1.Container, made map[string]*corev1.Secret) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	put := func(at, secret string) {
		require.Contains(t, made, secret, "make-secrets makes no such Secret")
		for key := range made[secret].Data {
			all[path.Join(at, key)] = true
		}
	}
	volumes := map[string]corev1.VolumeSource{}
	for _, name := range w.claims {
		volumes[name] = corev1.VolumeSource{}
	}
	for _, volume := range w.template.Spec.Volumes {
		volumes[volume.Name] = volume.VolumeSource
		if claim := volume.PersistentVolumeClaim; claim != nil {
			require.Contains(t, v.claims, claim.ClaimName, w.name)
		}
	}
	for _, mount := range c.VolumeMounts {
		require.Contains(t, volumes, mount.Name, "%s/%s", w.name, c.Name)
		source := volumes[mount.Name]
		if source.Secret != nil {
			put(mount.MountPath, source.Secret.SecretName)
		}
		if source.Projected != nil {
			require.EqualValues(t, 0o440, *source.Projected.DefaultMode, "%s: its group has to read them, nobody else", w.name)
			for _, part := range source.Projected.Sources {
				put(mount.MountPath, part.Secret.Name)
			}
		}
	}
	return all
}

// A worker has the shared token and no other secret, but for the database of those that speak to WhatsApp.
func TestWorkersKnowLittle(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		w := v.workload("kurir-worker")
		files := v.files(t, w, w.template.Spec.Containers[0], secrets(t, v.name))
		want := map[string]bool{"/run/secrets/kurir/WORKER_AUTH_TOKEN": true}
		if v.name != "simulator" {
			want["/run/secrets/kurir/WHATSAPP_DATABASE_URL"] = true
		}
		require.Equal(t, want, files)
		for name := range v.environment(w.template.Spec.Containers[0]) {
			if v.name == "simulator" || !strings.HasPrefix(name, "WHATSAPP_DATABASE_") {
				require.NotContains(t, name, "DATABASE")
			}
			require.NotContains(t, name, "REDIS")
		}
	})
}

// Workers and gateway find each other: by the names that the headless Service gives, and at the port that is not the public's.
func TestAddressesFit(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		w := v.workload("kurir-worker")
		c := w.template.Spec.Containers[0]
		env := v.environment(c)
		headless := v.service(w.set.Spec.ServiceName)
		require.Equal(t, corev1.ClusterIPNone, headless.Spec.ClusterIP)
		require.True(t, headless.Spec.PublishNotReadyAddresses, "a worker is called before it is ready")
		require.Equal(t, "http://$(WORKER_ID)."+headless.Name+":"+env["WORKER_PORT"], env["WORKER_ENDPOINT"])
		require.Equal(t, "metadata.name", c.Env[indexOf(t, c.Env, "WORKER_ID")].ValueFrom.FieldRef.FieldPath)
		require.Less(t, indexOf(t, c.Env, "WORKER_ID"), indexOf(t, c.Env, "WORKER_ENDPOINT"), "a variable knows those before it")
		requirePort(t, w, env["WORKER_PORT"], "worker")
		requirePort(t, w, env["METRICS_PORT"], "metrics")

		gateway, err := url.Parse(env["GATEWAY_URL"])
		require.NoError(t, err)
		api := v.workload("kurir-api")
		its := v.environment(api.template.Spec.Containers[0])
		requirePort(t, api, its["PORT"], "http")
		requirePort(t, api, its["INTERNAL_PORT"], "internal")
		require.NotEqual(t, its["PORT"], its["INTERNAL_PORT"])
		internal := v.service(gateway.Hostname())
		require.Equal(t, gateway.Port(), number(internal.Spec.Ports[0].Port))
		require.Equal(t, "internal", internal.Spec.Ports[0].TargetPort.String())
		for _, name := range []string{"kurir-runner", "kurir-scheduler"} {
			w := v.workload(name)
			requirePort(t, w, v.environment(w.template.Spec.Containers[0])["METRICS_PORT"], "metrics")
		}
	})
}

func indexOf(t *testing.T, env []corev1.EnvVar, name string) int {
	t.Helper()
	for i, e := range env {
		if e.Name == name {
			return i
		}
	}
	t.Fatalf("%s is not set", name)
	return 0
}

func requirePort(t *testing.T, w workload, port, name string) {
	t.Helper()
	found, ok := w.port(port)
	require.True(t, ok, "%s has no port %q", w.name, port)
	require.Equal(t, name, found.Name)
}
