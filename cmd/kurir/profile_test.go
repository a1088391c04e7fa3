package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Who held a lock that others wanted, and who waited for it, is in the profiles of a process that ends.
func TestProfilesOfLocks(t *testing.T) {
	folder := t.TempDir()
	stop := profile(folder, "api")
	for range 200 { // of which one in ten is looked at
		holdWhileAnotherWaits()
	}
	stop()
	require.Contains(t, profiled(t, folder, "mutex.pprof"), "kurir/cmd/kurir.holdWhileAnotherWaits")
	require.Contains(t, profiled(t, folder, "block.pprof"), "kurir/cmd/kurir.wait")
	for _, kind := range []string{"pprof", "allocs.pprof"} {
		require.NotEmpty(t, profiled(t, folder, kind), kind)
	}
	profile("", "api")() // without a folder there are none
	written, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, written, 4)
}

func holdWhileAnotherWaits() {
	var mu sync.Mutex
	var group sync.WaitGroup
	mu.Lock()
	group.Go(func() { wait(&mu) })
	time.Sleep(time.Millisecond) // is what is measured
	mu.Unlock()
	group.Wait()
}

//go:noinline
func wait(mu *sync.Mutex) {
	mu.Lock()
	defer mu.Unlock()
}

// profiled is a profile as it is behind its compression, which has the names of functions in it.
func profiled(t *testing.T, folder, kind string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(folder, "api-[0-9]*[0-9]."+kind))
	require.NoError(t, err)
	require.Len(t, found, 1)
	file, err := os.Open(found[0])
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	plain, err := gzip.NewReader(file)
	require.NoError(t, err)
	text, err := io.ReadAll(plain)
	require.NoError(t, err)
	return string(text)
}
