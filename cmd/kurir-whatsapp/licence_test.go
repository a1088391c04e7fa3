package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func depsOf(t *testing.T, program string, flags ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append(append([]string{"list", "-deps"}, flags...), program)...).Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}

// The binary kurir is under the Apache licence: nothing of GPL code may be in it, by whichever way.
func TestKurirLinksNothingOfTheGPL(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"kurir/cmd/kurir", "kurir/clients/go"} {
		for _, dep := range depsOf(t, program) {
			require.NotContains(t, dep, "go.mau.fi/", program)
			require.NotContains(t, dep, "kurir/worker/whatsapp", program)
			require.NotContains(t, dep, "modernc.org/", "SQLite is for imports into the other program")
		}
	}
}

// The fake WhatsApp is for tests, and for a build of its own.
func TestTheWorkerLinksNoFake(t *testing.T) {
	t.Parallel()
	deps := depsOf(t, "kurir/cmd/kurir-whatsapp")
	require.Contains(t, deps, "go.mau.fi/libsignal/session")
	for _, dep := range deps {
		require.NotContains(t, dep, "wafake")
		require.NotContains(t, dep, "kurir/models", "a worker knows the gateway by its protocol only")
	}
	require.Contains(t, depsOf(t, "kurir/cmd/kurir-whatsapp", "-tags=wafake"), "kurir/worker/whatsapp/wafake")
}

// The image has the text of every licence that its program is under: what deploy/Dockerfile does for it is done here.
func TestTheImageHasTheLicences(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/Dockerfile")
	require.NoError(t, err)
	step := regexp.MustCompile(`(?m)^RUN (?:--mount=\S+ |\\\n\s*)*(go list (?:.*\\\n)*.*)`).FindSubmatch(text)
	require.NotNil(t, step)
	into := t.TempDir()
	run := exec.Command("sh", "-c", strings.ReplaceAll(string(step[1]), "/licences", into))
	run.Dir = "../.."
	out, err := run.CombinedOutput()
	require.NoError(t, err, string(out))
	for path, title := range map[string]string{"go.mau.fi/libsignal/LICENSE": "GNU GENERAL PUBLIC LICENSE", "go.mau.fi/whatsmeow/LICENSE": "Mozilla Public License", "go/LICENSE": "The Go Authors"} {
		licence, err := os.ReadFile(filepath.Join(into, path))
		require.NoError(t, err)
		require.Contains(t, string(licence), title)
	}
	modules, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", ".").Output()
	require.NoError(t, err)
	for _, module := range strings.Fields(string(modules)) {
		files, err := os.ReadDir(filepath.Join(into, module))
		require.NoError(t, err)
		require.NotEmpty(t, files, module)
	}
	require.Contains(t, string(text), "COPY --from=build-whatsapp /licences /licences\n")
}
