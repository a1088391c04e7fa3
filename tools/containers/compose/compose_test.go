// Package compose checks docker-compose.yml with the library that Docker Compose is made of, and by rules of ours. It is in a module of
// its own, so that this library stays out of Kurir's. Nothing is started, and no network is needed.
package compose

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"
)

const repository = "../../.."

// project loads docker-compose.yml as a newcomer's `docker compose up` would: without .env, against the schema, and with all
// references looked up.
func project(t *testing.T) *types.Project {
	t.Helper()
	return load(t, []string{"*"})
}

func load(t *testing.T, profiles []string, overrides ...string) *types.Project {
	t.Helper()
	files := append([]string{filepath.Join(repository, "docker-compose.yml")}, overrides...)
	options, err := cli.NewProjectOptions(files, cli.WithWorkingDirectory(repository),
		cli.WithEnv(nil), cli.WithProfiles(profiles), cli.WithConsistency(true), cli.WithNormalization(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// simulators leaves the simulated phones out, as docs/whatsapp.md has it.
const simulators = `  services:
    simnet: {profiles: [simulator]}
    worker-1: {profiles: [simulator]}
    worker-2: {profiles: [simulator]}
`

// What docs/whatsapp.md says to write into docker-compose.override.yml leaves the real worker and all that it needs.
func TestComposeWithoutSimulatedPhones(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs/whatsapp.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), simulators) {
		t.Fatal("docs/whatsapp.md says something else")
	}
	override := filepath.Join(t.TempDir(), "docker-compose.override.yml")
	if err := os.WriteFile(override, []byte(simulators), 0o600); err != nil {
		t.Fatal(err)
	}
	names := load(t, []string{"whatsapp"}, override).ServiceNames()
	slices.Sort(names)
	if want := []string{"api", "grafana", "migrate", "postgres", "prometheus", "redis", "runner", "scheduler", "whatsapp-1"}; !slices.Equal(names, want) {
		t.Errorf("services: %v", names)
	}
}

// Several of a service need no name and no port of the machine's; docs/deployment.md says which may be several, and what api needs.
func TestComposeReplicas(t *testing.T) {
	override := filepath.Join(t.TempDir(), "docker-compose.override.yml")
	if err := os.WriteFile(override, []byte("services: {api: {ports: !reset []}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := load(t, nil, override)
	for _, name := range []string{"api", "runner", "scheduler"} {
		if s := p.Services[name]; len(s.Ports) > 0 || s.ContainerName != "" || s.Hostname != "" {
			t.Errorf("there can be but one %s", name)
		}
	}
}

func ours(s types.ServiceConfig) bool { return strings.HasPrefix(s.Image, "kurir") }

// once are services that end.
func once(s types.ServiceConfig) bool { return s.Restart == "no" }

func TestComposeHasItsServices(t *testing.T) {
	p := project(t)
	want := []string{"api", "grafana", "migrate", "postgres", "prometheus", "redis", "runner", "scheduler", "simnet", "whatsapp-1", "worker-1", "worker-2"}
	names := p.ServiceNames()
	slices.Sort(names)
	if !slices.Equal(names, want) {
		t.Errorf("services: %v", names)
	}
	if profiles := p.Services["whatsapp-1"].Profiles; !slices.Equal(profiles, []string{"whatsapp"}) {
		t.Errorf("whatsapp-1 has the profiles %v", profiles)
	}
}

func TestComposeServicesAreBoundedAndWatched(t *testing.T) {
	p := project(t)
	for name, s := range p.Services {
		tag := s.Image[strings.LastIndex(s.Image, ":")+1:]
		if tag == s.Image || tag == "latest" || tag == "" {
			t.Errorf("%s: the image %s has no version", name, s.Image)
		}
		if !once(s) && s.Restart != "unless-stopped" {
			t.Errorf("%s is not started again: %q", name, s.Restart)
		}
		if s.Deploy == nil || s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 || s.Deploy.Resources.Limits.Pids == 0 {
			t.Errorf("%s is not bounded", name)
		}
		if s.Logging == nil || s.Logging.Driver != "local" {
			t.Errorf("%s: its log grows without end", name)
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may gain privileges", name)
		}
		own := s.HealthCheck != nil && len(s.HealthCheck.Test) > 1 && !s.HealthCheck.Disable
		if !own && !ours(s) && !once(s) { // our image has one
			t.Errorf("%s says nothing of its health", name)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" && (name != "api" || port.Target != 8000) {
				t.Errorf("%s: port %d is open to the network", name, port.Target)
			}
		}
		for on, dependency := range s.DependsOn {
			if ended := dependency.Condition == types.ServiceConditionCompletedSuccessfully; ended != once(p.Services[on]) || dependency.Condition == types.ServiceConditionStarted {
				t.Errorf("%s waits for %s with %s", name, on, dependency.Condition)
			}
		}
	}
}

func TestComposeKeepsKurirClosed(t *testing.T) {
	p := project(t)
	for name, s := range p.Services {
		if !ours(s) {
			continue
		}
		if !s.ReadOnly || s.Privileged || s.User != "" || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 {
			t.Errorf("%s may do more than it needs", name)
		}
		_, sees := s.Networks["data"]
		// The worker that speaks to WhatsApp keeps the phones' credentials there.
		if may := slices.Contains([]string{"api", "runner", "scheduler", "migrate", "whatsapp-1"}, name); sees != may {
			t.Errorf("%s sees the databases: %v", name, sees)
		}
		secrets := []string{"worker_auth_token"}
		if name == "whatsapp-1" {
			secrets = append(secrets, "database_url")
		} else if len(s.Command) == 0 || s.Command[0] != "worker" {
			continue
		}
		var has []string
		for _, secret := range s.Secrets {
			has = append(has, secret.Source)
		}
		if !slices.Equal(has, secrets) || len(s.EnvFiles) > 0 {
			t.Errorf("%s has the secrets %v", name, has)
		}
	}
}

// What lies in a tmpfs is memory of its container: full, it must not take what the Go runtime counts upon.
func TestComposeMemoryHoldsWhatItHasTo(t *testing.T) {
	for name, s := range project(t).Services {
		if !ours(s) {
			continue
		}
		limit, err := units.RAMInBytes(strings.TrimSuffix(*s.Environment["GOMEMLIMIT"], "iB"))
		if err != nil {
			t.Errorf("%s: GOMEMLIMIT: %v", name, err)
		}
		sum := limit
		for _, folder := range s.Tmpfs {
			_, size, _ := strings.Cut(folder, "size=")
			n, err := units.RAMInBytes(size)
			if err != nil {
				t.Errorf("%s: the tmpfs %s has no bound: %v", name, folder, err)
			}
			sum += n
		}
		if most := int64(s.Deploy.Resources.Limits.MemoryBytes); sum > most || limit < most*4/5 {
			t.Errorf("%s: GOMEMLIMIT (%d MB) and its tmpfs make %d MB of %d", name, limit>>20, sum>>20, most>>20)
		}
	}
}

// Each variable that names a secret's file names one that is mounted, and each that is mounted is named.
func TestComposeSecretsAreWhereTheyAreReadFrom(t *testing.T) {
	p := project(t)
	used := map[string]bool{}
	for name, s := range p.Services {
		mounted, named := map[string]bool{}, map[string]bool{}
		for _, secret := range s.Secrets {
			mounted[secret.Source], used[secret.Source] = true, true
			if secret.Target != "" && path.Base(secret.Target) != secret.Source {
				t.Errorf("%s: %s is mounted as %s", name, secret.Source, secret.Target)
			}
		}
		for variable, value := range s.Environment {
			if strings.HasSuffix(variable, "_FILE") && value != nil {
				file, ok := strings.CutPrefix(*value, "/run/secrets/")
				if !ok || !mounted[file] {
					t.Errorf("%s: %s=%s is not mounted", name, variable, *value)
				}
				named[file] = true
			}
		}
		for secret := range mounted {
			if !named[secret] {
				t.Errorf("%s has %s, and nothing reads it", name, secret)
			}
		}
	}
	for secret, source := range p.Secrets {
		if !used[secret] || filepath.Base(source.File) != secret || filepath.Base(filepath.Dir(source.File)) != "secrets" {
			t.Errorf("secret %s: used %v, in %s", secret, used[secret], source.File)
		}
	}
}

// Workers read no .env, which may hold secrets that are not theirs; what it says of traces reaches them all the same.
func TestComposeTracesReachWorkers(t *testing.T) {
	dotenv := filepath.Join(t.TempDir(), ".env")
	if err := os.WriteFile(dotenv, []byte("OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(repository, "docker-compose.yml")}, cli.WithWorkingDirectory(repository),
		cli.WithEnvFiles(dotenv), cli.WithDotEnv, cli.WithProfiles([]string{"*"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"worker-1", "worker-2", "whatsapp-1"} {
		if at := p.Services[name].Environment["OTEL_EXPORTER_OTLP_ENDPOINT"]; at == nil || *at != "http://collector:4318" {
			t.Errorf("%s sends its traces nowhere", name)
		}
		if off, ok := p.Services[name].Environment["OTEL_SDK_DISABLED"]; ok && off != nil {
			t.Errorf("%s: what is not in .env is set to %q", name, *off)
		}
	}
}

func TestComposeWorkersDiffer(t *testing.T) {
	p := project(t)
	for _, name := range []string{"worker-1", "worker-2", "whatsapp-1"} {
		env := p.Services[name].Environment
		if *env["WORKER_ID"] != name || *env["WORKER_ENDPOINT"] != "http://"+name+":"+*env["WORKER_PORT"] {
			t.Errorf("%s is %s at %s", name, *env["WORKER_ID"], *env["WORKER_ENDPOINT"])
		}
		if *env["GATEWAY_URL"] != "http://api:"+*p.Services["api"].Environment["INTERNAL_PORT"] {
			t.Errorf("%s looks for its gateway at %s", name, *env["GATEWAY_URL"])
		}
	}
}

func TestComposeServersAreDurable(t *testing.T) {
	p := project(t)
	redis := strings.Join(p.Services["redis"].Command, " ")
	for _, want := range []string{"--appendonly yes", "--appendfsync always", "--maxmemory-policy noeviction", "--maxmemory 512mb"} {
		if !strings.Contains(redis, want) {
			t.Errorf("redis runs without %s: %s", want, redis)
		}
	}
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		if strings.Contains(strings.Join(p.Services["postgres"].Command, " "), setting) {
			t.Errorf("postgres has its %s changed", setting)
		}
	}
	if at := p.Services["simnet"].Environment["SIMNET_STATE"]; at == nil || path.Dir(*at) != "/var/lib/kurir" {
		t.Error("the simulated network forgets its phones")
	}
	for service, folder := range map[string]string{"simnet": "/var/lib/kurir", "whatsapp-1": "/tmp", "postgres": "/var/lib/postgresql/data", "redis": "/data", "api": "/media", "runner": "/media", "prometheus": "/prometheus", "grafana": "/var/lib/grafana"} {
		if !slices.ContainsFunc(p.Services[service].Volumes, func(v types.ServiceVolumeConfig) bool {
			return v.Type == types.VolumeTypeVolume && v.Source != "" && v.Target == folder
		}) {
			t.Errorf("%s keeps %s in no volume", service, folder)
		}
	}
}

// A folder of the repository that is mounted has to be there: Docker would make an empty one.
func TestComposeMountsAreNotMade(t *testing.T) {
	for name, s := range project(t).Services {
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeBind && (v.Bind == nil || bool(v.Bind.CreateHostPath) || !v.ReadOnly) {
				t.Errorf("%s: %s would be made if it is missing, or can be written to", name, v.Source)
			}
		}
	}
}
