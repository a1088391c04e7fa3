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
}

var routesDescribed = sync.OnceValue(func() (list []route) {
	d := described(&testing.T{})
	d.each(func(what string, o map[string]any) {
		method, path, _ := strings.Cut(what, " ")
		r := route{method: method, path: path, codes: map[string]string{},
			address: regexp.MustCompile("^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")}
		for status, response := range o["responses"].(map[string]any) {
			r.codes[status], _ = response.(map[string]any)["description"].(string)
		}
		list = append(list, r)
	})
	slices.SortFunc(list, func(a, b route) int { return strings.Count(a.path, "{") - strings.Count(b.path, "{") }) // the plainest fits best
	return list
})

// isDescribed holds that a refusal is one of those that its operation's description names. All tests of the API pass here.
func (a *answer) isDescribed(method, path string) {
	a.t.Helper()
	code, _ := a.body["code"].(string)
	if a.status < 400 || code == "" || slices.Contains([]string{"route_not_found", "method_not_allowed", "headers_too_large"}, code) { // no operation's
		return
	}
	path, _, _ = strings.Cut(path, "?")
	path = strings.TrimPrefix(strings.TrimPrefix(path, "/api/v1"), "/api")
	for _, r := range routesDescribed() {
		if r.method == method && r.address.MatchString("/api/v1"+path) {
			if !strings.Contains(r.codes[strconv.Itoa(a.status)], "`"+code+"`") {
				a.t.Errorf("%s %s answers %d %s, which its description does not name: see documentedFailures", method, r.path, a.status, code)
			}
			return
		}
	}
}
