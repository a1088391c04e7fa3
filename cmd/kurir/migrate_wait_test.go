package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
)

// Pods of a new version wait for its migrations, whether the database is empty, behind, or not there.
func TestMigrateWait(t *testing.T) {
	url := embeddedtest.DB(t)
	ask := func(ctx context.Context, url string, out io.Writer, args ...string) error {
		return run(ctx, append([]string{"migrate"}, args...), []string{"DATABASE_URL=" + url, "LOG_FILE_PATH="}, out, out)
	}
	require.ErrorContains(t, ask(t.Context(), url, io.Discard, "wait", "--for=100ms"), "not up to date after 100ms")
	var said strings.Builder
	gone := "postgres://kurir:hidden-password@127.0.0.1:1/kurir"
	require.ErrorContains(t, ask(t.Context(), gone, &said, "wait", "--for=100ms"), "not up to date")
	require.NotContains(t, said.String(), "hidden-password")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	require.ErrorIs(t, ask(stopped, url, io.Discard, "wait"), context.Canceled)

	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := ask(t.Context(), url, in, "wait", "--for=1m")
		_ = in.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), "waiting:")
	require.NoError(t, ask(t.Context(), url, io.Discard))
	last := lines.Text()
	for lines.Scan() {
		last = lines.Text()
	}
	require.Equal(t, "the schema is up to date", last)
	require.NoError(t, <-ended)
	require.NoError(t, ask(t.Context(), url, io.Discard, "wait"))
}
