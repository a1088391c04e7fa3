package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

// postgresPrograms reports whether pg_dump and its like are installed. Where the tests' server was downloaded there are none, and the
// test says so; CI has to have them.
func postgresPrograms(t *testing.T) bool {
	t.Helper()
	if _, err := exec.LookPath("pg_dump"); err == nil {
		return true
	}
	require.Empty(t, os.Getenv("CI"), "pg_dump is not installed")
	t.Log("NOT RUN: pg_dump is not installed (Debian: apt-get install postgresql-client).")
	return false
}

func TestBackupCommands(t *testing.T) {
	t.Parallel()
	if !postgresPrograms(t) {
		return
	}
	source, target := modelstest.URL(t), embeddedtest.DB(t)
	modelstest.Ready(t, modelstest.Open(t, source))
	// Enough rows that a restore which is killed half way has long begun.
	_, err := modelstest.Open(t, source).Pool.Exec(t.Context(), `UPDATE workers SET lease_expires_at = now(); INSERT INTO intake VALUES (true, now(), now(), '100 ms');
		INSERT INTO events (id, user_id, type, data) SELECT kurir_uuid_v7(), u.id, 'x', jsonb_build_object('x', repeat('x', 1000)) FROM users u, generate_series(1, 1000)`)
	require.NoError(t, err)
	folder := t.TempDir()
	file := filepath.Join(folder, "kurir.backup")
	const key = "ENCRYPTION_KEY=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	says := func(url string, args ...string) (out, errs string, err error) {
		var o, e bytes.Buffer
		err = run(t.Context(), args, []string{"DATABASE_URL=" + url, "PATH=" + os.Getenv("PATH"), "HOME=" + folder, key}, &o, &e)
		return o.String(), e.String(), err
	}
	for _, args := range [][]string{{"backup"}, {"backup", file}, {"backup", "--into", file}, {"restore"}, {"restore", "--from", file, "--recovered"},
		{"restore", "--recovered", "--replace"}} {
		_, _, err := says(source, args...)
		require.Equal(t, 2, exitCode(err), "%v: %v", args, err)
	}
	_, _, err = says("", "backup", "--to", file)
	require.ErrorIs(t, err, errNoDatabase)

	out, errs, err := says(source, "backup", "--to", file)
	require.NoError(t, err)
	require.Empty(t, out)
	require.Contains(t, errs, "the database as it was at")
	plain, _, err := says(source, "backup", "--to", "-")
	require.NoError(t, err)
	require.Contains(t, plain, "PGDMP")

	_, _, err = says(target, "restore", "--from", file+".none")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Equal(t, 1, exitCode(err))
	out, _, err = says(target, "restore", "--from", file, "--hold")
	require.NoError(t, err)
	for _, want := range []string{"1 users, 1 sessions", "empty Redis", "admin/platform/resume", "raised by 1000000"} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "WARNING")
	_, _, err = says(target, "restore", "--from", file)
	require.ErrorContains(t, err, "--replace")
	require.Equal(t, 2, exitCode(err))
	_, err = modelstest.Open(t, target).Pool.Exec(t.Context(), `INSERT INTO intake VALUES (true, now(), now() - interval '1 hour', '100 ms')`)
	require.NoError(t, err)
	out, _, err = says(target, "restore", "--recovered")
	require.NoError(t, err)
	require.Contains(t, out, "raised by 37000000")

	t.Run("killed half way", func(t *testing.T) {
		url := embeddedtest.DB(t)
		db := modelstest.Open(t, url)
		cmd := exec.Command(os.Args[0], "restore", "--from", "-")
		cmd.Env = []string{beKurir + "=1", "DATABASE_URL=" + url, "PATH=" + os.Getenv("PATH"), "HOME=" + folder}
		input, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = io.WriteString(input, plain[:len(plain)-1])
		require.NoError(t, err)
		const working = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kurir backup' AND xact_start IS NOT NULL`
		require.Eventually(t, func() bool { return modelstest.Scalar[int64](t, db, working) == 1 }, 30*time.Second, 10*time.Millisecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		require.Eventually(t, func() bool { return modelstest.Scalar[int64](t, db, working) == 0 }, 30*time.Second, 10*time.Millisecond)
		require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`))
	})
}

// kurir runs a command of the cluster's, with other variables beside its own.
func (c *cluster) kurir(args []string, env ...string) string {
	c.t.Helper()
	var out, errs bytes.Buffer
	began := time.Now()
	err := run(context.Background(), args, append(append([]string{}, c.env...), env...), &out, &errs)
	require.NoError(c.t, err, "%v: %s", args, &errs)
	c.t.Logf("kurir %s: %s", args[0], round(time.Since(began)))
	return out.String()
}
