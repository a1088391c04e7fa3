package models_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

// What runbooks and the guide to backups have an operator ask at night can be asked of this schema.
func TestRunbooksAskWhatIsThere(t *testing.T) {
	db := modelstest.DB(t)
	files, err := filepath.Glob("../docs/runbooks/*.md")
	require.NoError(t, err)
	asked := 0
	for _, name := range append(files, "../docs/backup.md") {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, statement := range statementsIn(string(text)) {
			asked++
			_, err := db.Pool.Exec(t.Context(), "EXPLAIN "+statement)
			require.NoError(t, err, "%s: %s", name, statement)
		}
	}
	require.Greater(t, asked, 8)
}

var (
	sqlBlock = regexp.MustCompile("(?s)```sql\n(.*?)```")
	psqlLine = regexp.MustCompile(`(?s)psql [^\n]*?-c (?:"([^"]*)"|'([^']*)')`)
	variable = regexp.MustCompile(`\$[A-Z_]+`)
)

// statementsIn finds what a text has psql do that can be explained: questions, and changes of rows.
func statementsIn(text string) (list []string) {
	var found []string
	for _, m := range sqlBlock.FindAllStringSubmatch(text, -1) {
		found = append(found, strings.Split(m[1], ";")...)
	}
	for _, m := range psqlLine.FindAllStringSubmatch(text, -1) {
		found = append(found, m[1]+m[2])
	}
	for _, s := range found {
		s = variable.ReplaceAllString(strings.TrimSpace(s), "00000000-0000-0000-0000-000000000000")
		if verb, _, _ := strings.Cut(s, " "); verb == "SELECT" || verb == "UPDATE" || verb == "DELETE" || verb == "WITH" {
			list = append(list, s)
		}
	}
	return list
}
