package monitoring

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a runbook has an operator look at exists.
func TestRunbooksNameMetricsThatExist(t *testing.T) {
	var source strings.Builder
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			source.Write(text)
		}
	}
	runbooks, err := filepath.Glob("../docs/runbooks/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, runbooks)
	for _, name := range runbooks {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, metric := range regexp.MustCompile(`kurir_[a-z_]+[a-z]`).FindAllString(string(text), -1) {
			require.Contains(t, source.String(), `"`+metric+`"`, name)
		}
	}
}
