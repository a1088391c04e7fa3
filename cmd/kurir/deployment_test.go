package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"kurir/secretfile"
)

const repository = "../.."

// ofLibraries are read by Go's runtime and standard library, and by OpenTelemetry's SDK.
var ofLibraries = map[string]bool{"GOMEMLIMIT": true, "GOMAXPROCS": true, "TZ": true, "TMPDIR": true,
	"OTEL_EXPORTER_OTLP_HEADERS": true, "OTEL_TRACES_SAMPLER": true, "OTEL_TRACES_SAMPLER_ARG": true}

// reads tells whether Kurir reads a variable, and whether it is one for secrets, in clear.
func reads(name string) (known, secret bool) {
	t := reflect.TypeFor[config]()
	for i := range t.NumField() {
		switch field := t.Field(i); field.Tag.Get("env") {
		case name:
			return true, field.Tag.Get("secret") != ""
		case strings.TrimSuffix(name, secretfile.Suffix):
			return field.Tag.Get("secret") != "", false
		}
	}
	return ofLibraries[name], false
}

// whatsappReads tells whether kurir-whatsapp reads a variable, which is a program of its own.
func whatsappReads(t *testing.T, variable string) bool {
	t.Helper()
	return strings.Contains(read(t, filepath.Join(repository, "cmd/kurir-whatsapp/config.go")), `env:"`+strings.TrimSuffix(variable, secretfile.Suffix)+`"`)
}

// compose is what these tests read of docker-compose.yml. A module under tools/ checks the whole of it.
type compose struct {
	Services map[string]struct {
		Image       string
		Command     []string
		Environment map[string]string
	}
	Secrets map[string]struct{ File string }
}

func composeFile(t *testing.T) (c compose) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docker-compose.yml"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &c))
	return c
}

func TestComposeSetsWhatKurirReads(t *testing.T) {
	ours := map[string]bool{}
	for name, service := range composeFile(t).Services {
		if !strings.HasPrefix(service.Image, "kurir") {
			continue
		}
		ours[name] = true
		for variable, value := range service.Environment {
			known, secret := reads(variable)
			if !known && strings.HasPrefix(service.Image, "kurir-whatsapp") {
				known = whatsappReads(t, variable)
			}
			require.True(t, known, "%s sets %s, which nobody reads", name, variable)
			require.False(t, secret && value != "" && variable != "REDIS_URL", "%s has %s in clear", name, variable)
		}
	}
	require.Subset(t, ours, map[string]bool{"migrate": true, "api": true, "runner": true, "scheduler": true, "worker-1": true, "worker-2": true, "simnet": true})
}

// The variables of a process are enough for it to start in production, with secrets as the script makes them.
func TestComposeWithItsSecretsIsEnough(t *testing.T) {
	folder := t.TempDir()
	script, err := os.ReadFile(filepath.Join(repository, "deploy/make-secrets"))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(folder, "deploy"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "deploy/make-secrets"), script, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, ".env"), []byte("JWT_SECRET=\nADMIN_PASSWORD=\"with $$ before\"\nWORKER_AUTH_TOKEN='a token from before with $' # keep\nPOSTGRES_PASSWORD=frombefore # in the volume\nPORT=80\n"), 0o600))
	makeSecrets := func() string {
		out, err := exec.Command("bash", filepath.Join(folder, "deploy/make-secrets")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	out := makeSecrets()
	require.Contains(t, out, "WORKER_AUTH_TOKEN stands in .env")
	require.NotContains(t, out, "from before")

	c := composeFile(t)
	kept := map[string]string{}
	for name, secret := range c.Secrets {
		info, err := os.Stat(filepath.Join(folder, secret.File))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o444), info.Mode(), "containers read %s as users of their own", name)
		kept[name] = read(t, filepath.Join(folder, secret.File))
	}
	info, err := os.Stat(filepath.Join(folder, "secrets"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	require.Equal(t, "postgres://kurir:frombefore@postgres:5432/kurir?sslmode=disable\n", kept["database_url"])
	require.Equal(t, "a token from before with $\n", kept["worker_auth_token"])
	require.Equal(t, "with $ before\n", kept["admin_password"])
	require.NotContains(t, makeSecrets(), "made", "what is there stays")
	for name, secret := range c.Secrets {
		require.Equal(t, kept[name], read(t, filepath.Join(folder, secret.File)))
	}

	unset := regexp.MustCompile(`\$\{\w+:-([^}]*)\}`)
	for name, need := range map[string]func(*config) error{"api": (*config).need, "runner": (*config).need, "scheduler": (*config).need,
		"migrate":  func(c *config) error { return c.checkSecrets() },
		"worker-1": func(c *config) error { return c.needSecrets("WORKER_AUTH_TOKEN") }, "simnet": func(*config) error { return nil }} {
		var env []string
		for variable, value := range c.Services[name].Environment {
			value = unset.ReplaceAllString(value, "$1")
			env = append(env, variable+"="+strings.Replace(value, "/run/secrets/", filepath.Join(folder, "secrets")+"/", 1))
		}
		cfg, err := readConfig(env)
		require.NoError(t, err, name)
		require.Equal(t, production, cfg.Env)
		require.NoError(t, need(cfg), name)
		if name != "migrate" {
			_, err = cfg.healthURL(c.Services[name].Command[0], false)
			require.NoError(t, err, "the image's HEALTHCHECK knows where to ask %s", name)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// units are the lines of systemd's units, by file.
func units(t *testing.T) map[string][]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(repository, "deploy/systemd", "*.service"))
	require.NoError(t, err)
	all := map[string][]string{"10-kurir.conf": strings.Split(read(t, filepath.Join(repository, "deploy/systemd/kurir-.service.d/10-kurir.conf")), "\n")}
	for _, path := range paths {
		all[filepath.Base(path)] = strings.Split(read(t, path), "\n")
	}
	require.Len(t, all, 8)
	return all
}

func TestUnitsSetWhatKurirReads(t *testing.T) {
	for unit, lines := range units(t) {
		credentials, named := map[string]bool{}, map[string]bool{}
		for _, line := range lines {
			if credential, ok := strings.CutPrefix(line, "LoadCredential="); ok {
				name, _, _ := strings.Cut(credential, ":")
				credentials[name] = true
				require.Equal(t, credential, name+":/etc/kurir/secrets/"+name)
			}
			list, ok := strings.CutPrefix(line, "Environment=")
			if !ok {
				continue
			}
			for _, pair := range strings.Fields(list) {
				variable, value, _ := strings.Cut(pair, "=")
				known, secret := reads(variable)
				if !known && strings.HasPrefix(unit, "kurir-whatsapp") {
					known = whatsappReads(t, variable)
				}
				require.True(t, known, "%s sets %s, which nobody reads", unit, variable)
				require.False(t, secret, "%s has %s in clear", unit, variable)
				if credential, ok := strings.CutPrefix(value, "%d/"); ok {
					named[credential] = true
					require.Equal(t, strings.ToUpper(credential)+secretfile.Suffix, variable)
				}
			}
		}
		require.Equal(t, credentials, named, unit)
	}
}

// What docs/monitoring.md has Prometheus scrape is where the units serve it, and so is what docs/deployment.md installs.
func TestUnitsAreWhereTheDocumentationHasThem(t *testing.T) {
	monitoring, deployment := read(t, filepath.Join(repository, "docs/monitoring.md")), read(t, filepath.Join(repository, "docs/deployment.md"))
	served := regexp.MustCompile(`(?m)^Environment=.*\b(?:METRICS|INTERNAL)_PORT=(\S+)`)
	for unit, lines := range units(t) {
		name, isUnit := strings.CutSuffix(unit, ".service")
		if !isUnit {
			continue
		}
		require.Contains(t, deployment, strings.TrimSuffix(name, "@"), "nobody is told of %s", unit)
		if port := served.FindStringSubmatch(strings.Join(lines, "\n")); port != nil {
			at := strings.ReplaceAll(port[1], "%i", "8001")
			job := strings.TrimSuffix(strings.Replace(name, "kurir-whatsapp", "kurir-worker", 1), "@")
			require.Regexp(t, `job_name: `+job+`, static_configs: \[\{targets: \["localhost:`+at+`"`, monitoring)
		}
	}
}

// installed is a program of ours in a unit.
var installed = regexp.MustCompile(`/usr/local/bin/kurir(-whatsapp)?`)

// TestUnitsAreValid asks systemd, where it is installed.
func TestUnitsAreValid(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("the units were not verified: there is no systemd-analyze")
		return
	}
	folder := t.TempDir()
	require.NoError(t, os.CopyFS(folder, os.DirFS(filepath.Join(repository, "deploy/systemd"))))
	var files []string
	for unit, lines := range units(t) {
		if strings.HasSuffix(unit, ".service") { // its program has to be there
			path := filepath.Join(folder, unit)
			require.NoError(t, os.WriteFile(path, []byte(installed.ReplaceAllString(strings.Join(lines, "\n"), "/bin/true")), 0o600))
			files = append(files, strings.Replace(path, "@.", "@8001.", 1))
		}
	}
	ask := func(args ...string) string {
		cmd := exec.Command(analyze, args...)
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+folder+":", "SYSTEMD_LOG_LEVEL=notice")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", strings.Join(args, " "), out)
		return string(out)
	}
	require.Empty(t, ask(append([]string{"verify"}, files...)...))
	for _, file := range files { // in tenths: 2 of 10, where 10 is open
		ask("security", "--offline=true", "--threshold=20", "--no-pager", file)
	}
}

// .env.example is where operators look.
func TestEveryVariableIsInTheExample(t *testing.T) {
	lines := read(t, filepath.Join(repository, ".env.example"))
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		if name := field.Tag.Get("env"); name != "" {
			require.Regexp(t, fmt.Sprintf(`(?m)^#?%s=`, name), lines)
		}
	}
}
