package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tool still works: it measures a second of messages on their way from accept to SENT, writes what it saw, and says what
// PostgreSQL and Redis say. Servers that do not sync, on data in memory, make the figures worthless, and the test quick.
func TestSmoke(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(folder), 0o755)) // PostgreSQL's user has to pass through
	require.NoError(t, os.Chmod(folder, 0o755))
	o, err := readOptions([]string{"-scenarios", "e2e", "-runs", "1", "-duration", "1s", "-warmup", "0s", "-few", "2", "-many", "2", "-data", folder, "-out", filepath.Join(folder, "results")})
	require.NoError(t, err)
	o.volatile, o.statements = true, true
	var said strings.Builder
	b := &bench{options: o, out: io.MultiWriter(t.Output(), &said)}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, b.prepare(ctx))
	require.NoError(t, b.all(ctx))
	require.NoError(t, b.clean())
	require.NoError(t, b.write())

	written, err := filepath.Glob(filepath.Join(folder, "results", "*"))
	require.NoError(t, err)
	require.Len(t, written, 1)
	for _, name := range []string{"results.md", "e2e-throughput.svg", "e2e-latency.svg", "e2e-cpu.svg"} {
		require.FileExists(t, filepath.Join(written[0], name))
	}
	text, err := os.ReadFile(filepath.Join(written[0], "results.json"))
	require.NoError(t, err)
	var r report
	require.NoError(t, json.Unmarshal(text, &r))
	require.Len(t, r.Results, 2, "at full speed and at a gentle rate")
	for _, one := range r.Results {
		require.Positive(t, one.Median.Count, one.Case)
		require.Positive(t, one.Median.Latency.P50, one.Case)
		require.Empty(t, one.Median.Errors, one.Case)
		require.Len(t, one.Median.Costs, 10, "PostgreSQL, Redis, six of Kurir's, the load, and the gateway's sum: %v", one.Median.Costs)
	}
	for _, line := range []string{
		`e2e, 2 sessions, full speed: .*\n.* Redis' PING: \d+ times, least 0\.\d+, mean \d`, `e2e, 2 sessions, 500/s: .*\n.* Redis' PING: \d+ times`,
		`statement: .* ms, .* times .*: WITH `, `Redis' command: .* ms, .* times .* µs: evalsha\n`, `Redis' slow log: \d+ commands took 1ms or longer`,
	} {
		require.Regexp(t, line, said.String())
	}
	left, err := filepath.Glob(filepath.Join(folder, "kurir-bench-*"))
	require.NoError(t, err)
	require.Empty(t, left, "the data are gone")
}

func TestOptions(t *testing.T) {
	_, err := readOptions([]string{"-scenarios", "accept,nothing"})
	require.ErrorContains(t, err, `"nothing" is none of accept`)
	_, err = readOptions([]string{"-runs", "0"})
	require.Error(t, err)
	_, err = readOptions([]string{"-rates", "100,fast"})
	require.ErrorContains(t, err, "fast")
	o, err := readOptions([]string{"-rates", "250,0"})
	require.NoError(t, err)
	require.Equal(t, []int{250, 0}, o.rates)
	o, err = readOptions([]string{"-scenarios", "idle,accept"})
	require.NoError(t, err)
	require.Equal(t, []string{"idle", "accept"}, o.scenarios)
	o, err = readOptions(nil)
	require.NoError(t, err)
	require.NotContains(t, o.scenarios, "soak", "which takes half an hour")
	require.ErrorContains(t, run(t.Context(), []string{"-data", "/dev/shm"}, io.Discard), "in memory")
}
