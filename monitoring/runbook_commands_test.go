package monitoring

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const runbookCommands = "../docs/runbooks/README.md"

// Each page with commands leads to where it is said how they are run in containers.
func TestRunbooksSayHowTheirCommandsAreRun(t *testing.T) {
	pages, err := filepath.Glob("../docs/runbooks/*.md")
	require.NoError(t, err)
	commands := regexp.MustCompile("psql \"|redis-cli -u|`kurir |```sql")
	var with int
	for _, page := range pages {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		if filepath.Base(page) != filepath.Base(runbookCommands) && commands.Match(text) {
			with++
			require.Contains(t, string(text), "(README.md#running-their-commands)", page)
		}
	}
	require.Greater(t, with, 5)
}

// What is to be put in their place for containers makes what it should of a command as the pages have it.
func TestRunbookCommandsInContainers(t *testing.T) {
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	text, err := os.ReadFile(runbookCommands)
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```bash\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.Len(t, blocks, 2)
	folder := t.TempDir()
	for _, name := range []string{"docker", "kubectl"} { // each says how it was called, and is a Secret's key in base64
		said := `[[ "$*" == *jsonpath* ]] && { printf %s "$*" | sed 's/.*data.\(.*\)}/\1/' | base64; exit; }; printf '[%s]' "$@"; echo`
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("#!"+bash+"\n"+said+"\n"), 0o700))
	}
	for _, tt := range []struct {
		where         int
		command, want string
	}{
		{0, `psql "$DATABASE_URL" -c 'SELECT 1'`, "[compose][exec][postgres][psql][-U][kurir][kurir][-c][SELECT 1]"},
		{0, `pg_isready -d "$DATABASE_URL"`, "[compose][exec][postgres][pg_isready][-U][kurir]"},
		{0, `redis-cli -u "$REDIS_URL" CONFIG SET maxmemory 768mb`, "[compose][exec][redis][redis-cli][CONFIG][SET][maxmemory][768mb]"},
		{0, `kurir admin drain worker-1`, "[compose][run][--rm][--no-deps][api][admin][drain][worker-1]"},
		{1, `kurir admin drain worker-1`, "[-n][kurir][exec][deployment/kurir-api][--][/kurir][admin][drain][worker-1]"},
		{1, `echo "$DATABASE_URL $REDIS_URL"`, "DATABASE_URL REDIS_URL"},
	} {
		cmd := exec.Command(bash, "-euo", "pipefail", "-c", "DATABASE_URL= REDIS_URL=\n"+blocks[tt.where][1]+tt.command)
		cmd.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", tt.command, out)
		require.Equal(t, tt.want, strings.TrimSpace(string(out)))
	}
}
