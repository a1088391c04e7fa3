package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What kurir says while it runs for weeks is not kept in memory but for its end.
func TestTheEndOfALogIsKept(t *testing.T) {
	t.Parallel()
	var kept tail
	for i := range 100_000 {
		n, err := fmt.Fprintf(&kept, "line %d\n", i)
		require.NoError(t, err)
		require.Positive(t, n)
	}
	require.LessOrEqual(t, cap(kept.text), 4*tailKept)
	require.Len(t, kept.String(), tailKept)
	require.True(t, strings.HasSuffix(kept.String(), "line 99998\nline 99999\n"))
	var short tail
	_, err := short.Write([]byte("why"))
	require.NoError(t, err)
	require.Equal(t, "why", short.String())
}

// What is printed to be pasted does what it says in a shell.
func TestTheWelcomeCanBePasted(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("bash")
	require.NoError(t, err, "make needs it too")
	kept := filepath.Join(t.TempDir(), "phone.env")
	var lines []string
	_, hello := network() // of the build for trials as well
	for _, line := range strings.Split(fmt.Sprintf(hello, "http://127.0.0.1:8000", kept), "\n") {
		if !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "  -d ") {
			lines = append(lines, line)
		}
	}
	asked := filepath.Join(t.TempDir(), "asked")
	script := `curl() { printf '%s\n' "$*" >> '` + asked + `'; echo '{"data":{"apiKey":"k-1","qr":"2@x"}}'; }` + "\n" + strings.Join(lines, "\n")
	out, err := exec.Command(shell, "-e", "-u", "-c", script).CombinedOutput()
	require.NoError(t, err, string(out))
	text, err := os.ReadFile(kept)
	require.NoError(t, err)
	require.Regexp(t, `^API=http://127\.0\.0\.1:8000/api/v1 (FAKE=\S+ )?SESSION=phone-\d+ KEY=k-1\n$`, string(text))
	info, err := os.Stat(kept)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	calls, err := os.ReadFile(asked)
	require.NoError(t, err)
	require.Regexp(t, `(?s)/auth/register .*/sessions -H X-Api-Key: k-1 .*"sessionId":"(phone-\d+)"}\n.*/sessions/phone-\d+/send -H X-Api-Key: k-1 .*/messages -H`, string(calls))
}
