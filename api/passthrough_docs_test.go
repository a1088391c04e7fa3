package api_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
)

// passesAsDocumented does what the table of docs/pass-through.md says, line by line, and finds in the answers what it promises.
func (t *tenant) passesAsDocumented(known map[string]string) {
	t.Helper()
	raw, err := os.ReadFile("../docs/pass-through.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| [^|`]+ \\| `([A-Z]+) ([^`]+)`(?: `([^`]+)`)? \\| `([^`]+)` \\|$").FindAllStringSubmatch(string(raw), -1)
	require.Len(t, rows, strings.Count(string(raw), "\n| ")-1, "a line that this test cannot read")
	require.Greater(t, len(rows), 15)
	filled := func(text string) string {
		for name, value := range known {
			text = strings.ReplaceAll(text, "{"+name+"}", value)
		}
		return text
	}
	for _, row := range rows {
		var body any
		if row[3] != "" {
			body = json.RawMessage(filled(row[3]))
		}
		a := t.ask(row[1], filled(row[2]), body)
		require.Less(t, a.status, 300, "%s %s: %s", row[1], row[2], a.text)
		var wanted any
		require.NoError(t, json.Unmarshal([]byte(row[4]), &wanted), row[4])
		require.True(t, holds(wanted, a.body["data"], known), "%s %s answers %s", row[1], row[2], a.text)
	}
}

var placeholder = regexp.MustCompile(`^\{(\w+)\}$`)

// holds reports whether a value has all that is wanted of it. A placeholder that is not known stands for any value, and is known
// from then on if that is a text.
func holds(wanted, got any, known map[string]string) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		for name, value := range wanted {
			field, there := object[name]
			ok = ok && there && holds(value, field, known)
		}
		return ok
	case []any:
		list, ok := got.([]any)
		for _, value := range wanted {
			ok = ok && slices.ContainsFunc(list, func(item any) bool { return holds(value, item, known) })
		}
		return ok
	case string:
		if name := placeholder.FindStringSubmatch(wanted); name != nil {
			text, is := got.(string)
			if value, ok := known[name[1]]; ok {
				return text == value
			}
			if is {
				known[name[1]] = text
			}
			return true
		}
	}
	return wanted == got
}
