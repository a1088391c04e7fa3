package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/embedded"
)

// listener keeps what was said.
type listener struct{ text strings.Builder }

func (l *listener) say(format string, args ...any) { fmt.Fprintf(&l.text, format+"\n", args...) }

func startRedis(t *testing.T) *embedded.Servers {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(folder), 0o755)) // Redis' user has to pass through
	require.NoError(t, os.Chmod(folder, 0o755))
	servers, err := embedded.Start(t.Context(), embedded.Config{Home: folder, Redis: true, RedisKind: embedded.RedisServer})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, servers.Stop(context.WithoutCancel(t.Context()))) })
	return servers
}

// A script that keeps Redis busy shows everywhere: PINGs wait for it, the slow log has it, with its beginning only, and it leads the commands.
func TestWatchRedis(t *testing.T) {
	w, err := watchRedis(t.Context(), startRedis(t).RedisURL)
	require.NoError(t, err)
	busy := func(rounds int, argument string) {
		require.NoError(t, w.client.Eval(t.Context(), `for i = 1, tonumber(ARGV[1]) do end return redis.call('INCR', KEYS[1])`, []string{"counted"}, rounds, argument).Err())
	}
	busy(1_000_000, "short")
	var took []float64
	require.NoError(t, eventually(t.Context(), 20*time.Second, "a PING waits", func() (bool, string) {
		busy(5_000_000, "long"+strings.Repeat("g", 500))
		took = append(took, w.pings()...)
		return percentilesOf(took).Max > 5, fmt.Sprint(took)
	}))
	require.NoError(t, w.client.Get(t.Context(), "counted").Err())

	var heard listener
	_ = w.pings()
	w.reportPings(heard.say)
	require.Empty(t, heard.text.String(), "some PINGs are not worth a line")
	require.NoError(t, eventually(t.Context(), 20*time.Second, "there are enough PINGs", func() (bool, string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.took) >= pingsWorthALine, fmt.Sprint(len(w.took))
	}))
	w.reportPings(heard.say)
	require.Regexp(t, `^Redis' PING: \d+ times, least \d`, heard.text.String())
	heard.text.Reset()
	require.NoError(t, w.end(heard.say))
	said := heard.text.String()
	require.Regexp(t, `^Redis' command: +\d+ ms, +\d+ times \d+\.\d µs: eval\n`, said)
	require.Regexp(t, `µs: incr\n`, said, "what scripts call counts")
	longest := regexp.MustCompile(`slow log: +(\d+\.\d) ms: "(.+)"`).FindAllStringSubmatch(said, -1)
	require.NotEmpty(t, longest, said)
	require.Contains(t, longest[0][2], " counted 5000000 longgg", "the slowest comes first")
	last := 1e9
	for _, one := range longest {
		require.LessOrEqual(t, len(one[2]), 200, "no more than the beginning")
		ms, err := strconv.ParseFloat(one[1], 64)
		require.NoError(t, err)
		require.LessOrEqual(t, ms, last, said)
		last = ms
	}
}

// What was not measured is not passed over.
func TestWatchRedisGone(t *testing.T) {
	servers := startRedis(t)
	w, err := watchRedis(t.Context(), servers.RedisURL)
	require.NoError(t, err)
	require.NoError(t, servers.Stop(t.Context()))
	require.NoError(t, eventually(t.Context(), 10*time.Second, "a PING fails", func() (bool, string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.err != nil, "none"
	}))
	require.ErrorContains(t, w.end(new(listener).say), "PING Redis: ")

	_, err = watchRedis(t.Context(), servers.RedisURL)
	require.Error(t, err)
	_, err = watchRedis(t.Context(), "nothing://")
	require.Error(t, err)
}

func TestReportOfRedis(t *testing.T) {
	var heard listener
	stats := map[string]string{"cmdstat_config|set": "calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0"}
	for i := range redisMost {
		stats[fmt.Sprintf("cmdstat_c%02d", i)] = fmt.Sprintf("calls=%d,usec=%d,usec_per_call=1.00,rejected_calls=0,failed_calls=0", 2*(i+1), 3000*(i+1))
	}
	require.NoError(t, reportCommands(heard.say, stats))
	lines := strings.Split(strings.TrimSpace(heard.text.String()), "\n")
	require.Len(t, lines, redisMost, "the least of eleven is left out")
	require.Equal(t, "Redis' command:       30 ms,      20 times 1500.0 µs: c09", lines[0])
	require.NotContains(t, heard.text.String(), "config")
	require.ErrorContains(t, reportCommands(heard.say, map[string]string{"cmdstat_get": "calls=many"}), `cmdstat_get: "calls=many"`)

	heard.text.Reset()
	reportSlow(heard.say, []redis.SlowLog{{Duration: 2 * time.Millisecond, Args: []string{"get", "a\x00b"}}, {Duration: 30 * time.Millisecond, Args: []string{"keys", "*"}}})
	require.Equal(t, "Redis' slow log: 2 commands took 1ms or longer (it keeps 10000)\nRedis' slow log:     30.0 ms: \"keys *\"\nRedis' slow log:      2.0 ms: \"get a\\x00b\"\n", heard.text.String())
	require.Equal(t, "4 times, least 1.00, mean 2.50, p99 4.00, most 4.00 ms", pingLine([]float64{4, 1, 3, 2}))
}
