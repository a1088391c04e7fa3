package api_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// postmanItem is a request of the collection, or a folder of them.
type postmanItem struct {
	Name  string
	Item  []postmanItem
	Event []struct {
		Listen string
		Script struct{ Exec []string }
	}
	Request *struct {
		Method string
		URL    struct{ Raw string }
		Body   *struct{ Raw string }
	}
}

func (i postmanItem) requests() (all []postmanItem) {
	for _, inner := range i.Item {
		if inner.Request != nil {
			all = append(all, inner)
		}
		all = append(all, inner.requests()...)
	}
	return all
}

// The collection asks for what there is, looks at each answer, has something of every resource, and holds no secret. That its
// requests succeed is seen in cmd/kurir.
func TestCollection(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../collections/kurir.postman_collection.json")
	require.NoError(t, err)
	var collection struct {
		postmanItem
		Variable []struct{ Key, Value string }
	}
	require.NoError(t, json.Unmarshal(raw, &collection))
	for _, secret := range []string{`kur_[A-Za-z0-9]{8}`, `kus_[A-Za-z0-9]{8}`, `whsec_[A-Za-z0-9]{8}`, `eyJ[A-Za-z0-9]{8}`, `[0-9a-f]{8}-[0-9a-f]{4}-`} {
		require.NotRegexp(t, secret, string(raw))
	}
	variables := map[string]string{}
	for _, v := range collection.Variable {
		variables[v.Key] = v.Value
		if regexp.MustCompile(`(?i)password|token|key$|email`).MatchString(v.Key) {
			require.Empty(t, v.Value, v.Key)
		}
	}

	w := start(t)
	tags, asked := map[string]bool{}, map[string]int{}
	operations := map[string][]string{} // method -> paths
	tagOf := map[string]string{}
	for path, item := range w.document().all["paths"].(map[string]any) {
		for method, o := range item.(map[string]any) {
			method = strings.ToUpper(method)
			operations[method] = append(operations[method], path)
			tagOf[method+" "+path] = o.(map[string]any)["tags"].([]any)[0].(string)
			tags[o.(map[string]any)["tags"].([]any)[0].(string)] = true
		}
	}
	filled := regexp.MustCompile(`\{\{(\w+)\}\}`)
	requests := collection.requests()
	require.Greater(t, len(requests), 60)
	for _, r := range requests {
		tests := ""
		for _, e := range r.Event {
			if e.Listen == "test" {
				tests += strings.Join(e.Script.Exec, "\n")
			}
		}
		require.Contains(t, tests, "pm.test(", "%s looks at nothing", r.Name)
		text := r.Request.URL.Raw
		if r.Request.Body != nil {
			text += r.Request.Body.Raw
		}
		for _, match := range filled.FindAllStringSubmatch(text, -1) {
			require.Contains(t, variables, match[1], r.Name)
		}
		if strings.HasPrefix(r.Request.URL.Raw, "{{origin}}/") { // outside of the API
			require.Equal(t, "{{origin}}/health", r.Request.URL.Raw)
			continue
		}
		path, ok := strings.CutPrefix(r.Request.URL.Raw, "{{baseUrl}}")
		require.True(t, ok, r.Request.URL.Raw)
		path, _, _ = strings.Cut("/api/v1"+path, "?")
		operation := ""
		for _, template := range operations[r.Request.Method] {
			as := regexp.MustCompile(`^` + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `\{\{\w+\}\}`) + `$`)
			if as.MatchString(path) {
				operation = r.Request.Method + " " + template
			}
		}
		require.NotEmpty(t, operation, "%s: there is no %s %s", r.Name, r.Request.Method, path)
		asked[tagOf[operation]]++
	}
	for tag := range tags {
		if tag != "Worker protocol" { // no person speaks it
			require.NotZero(t, asked[tag], "nothing of %s is in the collection", tag)
		}
	}
}
