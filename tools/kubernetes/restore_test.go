package kubernetes

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What brings a backup back takes a file of kurir backup and one of pg_dump, and fails with pg_restore.
func TestTheRestoreTakesBothKindsOfFiles(t *testing.T) {
	job := restoring(t)
	script := job.containers()[0].Command
	require.Equal(t, []string{"sh", "-euc"}, script[:2])
	folder := t.TempDir()
	for from, to := range map[string]string{"/restore/": folder + "/", "/run/secrets/kurir/": folder + "/"} {
		require.Contains(t, script[2], from)
		script[2] = strings.ReplaceAll(script[2], from, to)
	}
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), mode))
	}
	put("DATABASE_URL", "postgres://here\n", 0o600)
	run := func() error {
		cmd := exec.Command("sh", script[1:]...)
		cmd.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH")}
		return cmd.Run()
	}
	put("pg_restore", "#!/bin/sh\necho \"$@\" >"+folder+"/args; cat >"+folder+"/taken\n", 0o700)
	const archive = "PGDMP\x01\x0eone\ntwo\n\x00"
	for _, file := range []string{archive, "kurir backup 1 {\"schema\":\"0028\"}\n" + archive} {
		put("file", file, 0o600)
		require.NoError(t, run())
		taken, err := os.ReadFile(filepath.Join(folder, "taken"))
		require.NoError(t, err)
		require.Equal(t, archive, string(taken))
		args, err := os.ReadFile(filepath.Join(folder, "args"))
		require.NoError(t, err)
		require.Contains(t, string(args), "--dbname postgres://here ")
	}
	put("pg_restore", "#!/bin/sh\nexit 1\n", 0o700)
	require.Error(t, run())
}

func restoring(t *testing.T) workload {
	t.Helper()
	for _, w := range buildVariant(t, "production").workloads {
		if w.name == "kurir-restore" {
			w.template = *w.template.DeepCopy()
			return w
		}
	}
	t.Fatal("there is no Job kurir-restore")
	return workload{}
}
