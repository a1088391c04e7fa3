package api_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// route is an operation with the codes that it is said to answer, by status.
type route struct {
	method, path string
	address      *regexp.Regexp
	codes        map[string]string
	schemas      map[string]any // of JSON answers
}

// dig goes down into nested objects; what is not there is nil.
func dig(at any, names ...string) any {
	for _, name := range names {
		object, _ := at.(map[string]any)
		at = object[name]
	}
	return at
}

var schemasDescribed = sync.OnceValue(func() map[string]any {
	return dig(described(&testing.T{}).all, "components", "schemas").(map[string]any)
})

// nullList finds a list that is null where its schema says that it is one, and says where.
func nullList(schema, value any, at string) string {
	if ref, ok := dig(schema, "$ref").(string); ok {
		schema = schemasDescribed()[strings.TrimPrefix(ref, "#/components/schemas/")]
	}
	switch v := value.(type) {
	case nil:
		if dig(schema, "type") == "array" {
			return at
		}
	case map[string]any:
		for name, field := range v {
			if found := nullList(dig(schema, "properties", name), field, at+"."+name); found != "" {
				return found
			}
		}
	case []any:
		for _, item := range v {
			if found := nullList(dig(schema, "items"), item, at+"[]"); found != "" {
				return found
			}
		}
	}
	return ""
}

var routesDescribed = sync.OnceValue(func() (list []route) {
	d := described(&testing.T{})
	d.each(func(what string, o map[string]any) {
		method, path, _ := strings.Cut(what, " ")
		r := route{method: method, path: path, codes: map[string]string{}, schemas: map[string]any{},
			address: regexp.MustCompile("^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")}
		for status, response := range o["responses"].(map[string]any) {
			r.codes[status], _ = response.(map[string]any)["description"].(string)
			r.schemas[status] = dig(response, "content", "application/json", "schema")
		}
		list = append(list, r)
	})
	slices.SortFunc(list, func(a, b route) int { return strings.Count(a.path, "{") - strings.Count(b.path, "{") }) // the plainest fits best
	return list
})

// isDescribed holds that a refusal is one of those that its operation's description names, and that lists in answers are
// lists. All tests of the API pass here.
func (a *answer) isDescribed(method, path string) {
	a.t.Helper()
	code, _ := a.body["code"].(string)
	if a.body == nil || a.status >= 400 && code == "" || slices.Contains([]string{"route_not_found", "method_not_allowed", "headers_too_large"}, code) { // no operation's
		return
	}
	path, _, _ = strings.Cut(path, "?")
	path = strings.TrimPrefix(strings.TrimPrefix(path, "/api/v1"), "/api")
	for _, r := range routesDescribed() {
		if r.method == method && r.address.MatchString("/api/v1"+path) {
			if at := nullList(r.schemas[strconv.Itoa(a.status)], a.body, ""); at != "" {
				a.t.Errorf("%s %s answers null for the list %s", method, r.path, at)
			}
			if a.status >= 400 && !strings.Contains(r.codes[strconv.Itoa(a.status)], "`"+code+"`") {
				a.t.Errorf("%s %s answers %d %s, which its description does not name: see documentedFailures", method, r.path, a.status, code)
			}
			return
		}
	}
}
