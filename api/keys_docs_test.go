package api_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of docs/keys.md says of each operation what its OpenAPI description and the matrix say.
func TestScopesAreDocumented(t *testing.T) {
	t.Parallel()
	w := start(t)
	type row struct {
		scope   string
		session bool
	}
	described := map[string]row{}
	for path, item := range w.document().all["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			o := raw.(map[string]any)
			id := o["operationId"].(string)
			for _, alternative := range o["security"].([]any) {
				scopes, ok := alternative.(map[string]any)["apiKey"].([]any)
				if !ok {
					continue
				}
				r := row{scope: "any", session: matrix[id][3] == '+'}
				if len(scopes) > 0 {
					r.scope = scopes[0].(string)
					require.Contains(t, o["description"], "`"+r.scope+"`", id)
				}
				described[strings.ToUpper(method)+" "+strings.TrimPrefix(path, "/api/v1")] = r
			}
		}
	}
	text, err := os.ReadFile("../docs/keys.md")
	require.NoError(t, err)
	documented := map[string]row{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /[^`]*)` \\| `?(send|read|manage|any)`? \\| (yes)? ?\\|$").FindAllStringSubmatch(string(text), -1) {
		documented[m[1]] = row{m[2], m[3] == "yes"}
	}
	require.Equal(t, described, documented)
}
