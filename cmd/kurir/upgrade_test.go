//go:build upgrade

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

// TestUpgrade is an upgrade without a pause: the version before works on its own schema, goes on while the schema is migrated, works
// on the new one, also where its processes start anew, and is replaced by this version process by process. All the while messages
// are sent and received and webhooks told, no call fails, and nothing is lost, doubled or overtaken.
func TestUpgrade(t *testing.T) {
	source, ok := before(t)
	if !ok {
		return
	}
	binary := filepath.Join(t.TempDir(), "kurir")
	began := time.Now()
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags", "-X main.version=before", "-o", binary, "./cmd/kurir")
	build.Dir = source
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("built in %s", round(time.Since(began)))

	pg := embeddedtest.NewPostgres(t)
	c, sessions := fleet.start(t, plan{postgres: pg, binary: binary, balanced: true, env: []string{"WORKER_HANDOVER=" + handover.String()}})
	uid := c.mustPlaces()[0].UID
	received := 0
	under := func(do func()) func() {
		return func() {
			f := c.startFlow(sessions, fleet.rate, false)
			do()
			for range 3 {
				received++
				c.inject(uid, fmt.Sprintf("UPGRADE%d", received))
			}
			f.more(fleet.rate)
			f.end()
			c.prove(backWithin)
			c.proveEvents(backWithin)
			c.received(received)
		}
	}
	c.step("the version before", under(func() {}))
	c.step("the schema is migrated", under(func() {
		c.binary = os.Args[0]
		c.migrate()
		c.binary = binary
	}))
	c.step("the version before starts on the new schema", func() { c.restartGateway(sessions) })
	c.step("its runner is killed", under(func() {
		c.kill("runner-0")
		c.again("runner-0")
	}))
	c.step("its jobs", func() { c.drain(sessions); c.move(sessions[0]) })
	c.binary = os.Args[0]
	c.step("this version takes its place", func() { c.restartGateway(sessions) })
	c.step("its workers too", func() { c.restartWorkers(sessions) })
	c.step("this version", under(func() {}))
	for name, p := range c.procs {
		require.NotContains(t, p.log.notable(100_000), "SQLSTATE 42", "%s: statements and schema do not fit", name)
		require.NotContains(t, p.log.notable(100_000), "SQLSTATE 0A000", "%s: a prepared statement has changed", name)
	}
}

// received waits until all that people wrote is stored.
func (c *cluster) received(n int) {
	c.t.Helper()
	c.eventually(backWithin, fmt.Sprintf("%d messages came in", n), func() (bool, string) {
		stored := modelstest.Scalar[int64](c.t, c.db, `SELECT count(*) FROM messages WHERE direction = 'INBOUND'`)
		return stored == int64(n), fmt.Sprint(stored)
	})
}

// before is the source of the version before the newest migration: that on which the main line was when it came, or the last
// commit where it is not committed yet. ok is false where git does not know.
func before(t *testing.T) (source string, ok bool) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	git := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	all, err := filepath.Glob(filepath.Join(root, "migrations", "*.up.sql"))
	require.NoError(t, err)
	slices.Sort(all)
	newest := filepath.Base(all[len(all)-1])
	added, err := git("log", "--first-parent", "-m", "--diff-filter=A", "-1", "--format=%H", "--", "migrations/"+newest)
	if err != nil {
		t.Log("NOT RUN: there is no history here:", added)
		return "", false
	}
	commit := "HEAD"
	if added != "" {
		commit = added + "^1"
	}
	said, err := git("log", "-1", "--format=%h of %cs", commit)
	if err != nil {
		t.Log("NOT RUN: the history here does not reach far enough:", said)
		return "", false
	}
	t.Logf("the version before %s is %s", newest, said)
	source = t.TempDir()
	archive := filepath.Join(source, "source.tar")
	out, err := git("archive", "--format=tar", "--output="+archive, commit)
	require.NoError(t, err, out)
	unpacked, err := exec.CommandContext(t.Context(), "tar", "-x", "-f", archive, "-C", source).CombinedOutput()
	require.NoError(t, err, "%s", unpacked)
	return source, true
}

// meant are the tests of the version before which say the opposite of what the newest migration is for: which months there are, and
// are sealed, from the start. The next migration empties it.
const meant = "^(TestAddPartitions|TestAddPartitionsBesideABackup|TestAMonthIsSealedWhenNothingWaitsInIt)$"

// TestQueriesOfTheVersionBefore runs the tests that the version before has of its queries on the new schema.
func TestQueriesOfTheVersionBefore(t *testing.T) {
	source, ok := before(t)
	if !ok {
		return
	}
	files, err := filepath.Glob("../../migrations/*.sql")
	require.NoError(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(source, "migrations", filepath.Base(file)), content, 0o600))
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-count=1", "-timeout=20m", "-skip="+meant, "./models")
	cmd.Dir = source
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
