package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func depsOf(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", program).Output()
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

// The fake WhatsApp is for tests.
func TestTheWorkerLinksNoFake(t *testing.T) {
	t.Parallel()
	deps := depsOf(t, "kurir/cmd/kurir-whatsapp")
	require.Contains(t, deps, "go.mau.fi/libsignal/session")
	for _, dep := range deps {
		require.NotContains(t, dep, "wafake")
		require.NotContains(t, dep, "kurir/models", "a worker knows the gateway by its protocol only")
	}
}
