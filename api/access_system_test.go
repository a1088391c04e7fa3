package api_test

import (
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
)

// systemMatrix is the matrix of the addresses beside the API's own, with the same signs.
var systemMatrix = map[string]string{
	//                     nobody, token, key, session, other session, other tenant, admin, admin's key, worker
	"/":                          "+++++++++",
	"/health":                    "+++++++++",
	"/health/live":               "+++++++++",
	"/health/ready":              "+++++++++",
	"/metrics":                   "+++++++++",
	"/docs":                      "+++++++++",
	"/openapi.json":              "+++++++++",
	"/link/files/link.css":       "+++++++++",
	"/link/files/link.js":        "+++++++++",
	"/link/:token":               "+++++++++", // who has the address
	"/link/:token/events":        "+++++++++",
	"/account/reset":             "+++++++++", // the code from a mail is asked for there
	"/account/verify":            "+++++++++",
	"/account/files/account.js":  "+++++++++",
	"/account/files/account.css": "+++++++++",
	"/admin/login":               "+++++++++",
	"/admin/queues":              "131113+11", // API keys are nothing there
}

// versioned is the part of a file's address that changes with the file.
var versioned = regexp.MustCompile(`/files/[^/]+/`)

func TestWhoMaySeeTheSystem(t *testing.T) {
	t.Parallel()
	var process *api.API
	w := start(t, withRedis(embeddedtest.Redis(t)), func(w *world, _ *api.Config) { w.made = func(a *api.API) { process = a } })
	w.worker()
	s := &stage{world: w, owner: w.register("owner"), admin: w.administrator()}
	sessionKey, otherKey := s.owner.session("shop"), s.owner.session("second")
	credentials := map[string]headers{"nobody": nil, "token": s.owner.auth(), "account key": {"X-Api-Key", s.owner.key}, "session key": bearer(sessionKey),
		"other session's key": {"X-Api-Key", otherKey}, "other tenant": w.register("other").auth(), "admin": s.admin.auth(), "admin's key": bearer(s.admin.key),
		"worker": bearer(workerToken)}
	ended := s.ended()
	maps.Copy(credentials, ended)
	routes := api.SystemRoutes(process)
	seen := map[string]bool{}
	for _, route := range routes {
		named := versioned.ReplaceAllString(route, "/files/")
		row, ok := systemMatrix[named]
		require.True(t, ok, "%s stands in no row of the matrix", route)
		require.Len(t, row, len(callers), route)
		seen[named] = true
		path := route
		if strings.Contains(route, ":token") {
			path = strings.Replace(route, "/link/:token", s.owner.link(nil), 1)
		}
		for name, with := range credentials {
			want := row[0] // what has ended is nothing
			for i, caller := range callers {
				if caller == name {
					want = row[i]
				}
			}
			a := w.do("GET", path, with, nil)
			switch what := route + " by " + name + ": " + a.text; want {
			case '1':
				require.Equal(t, 401, a.status, what)
			case '3':
				require.Equal(t, 403, a.status, what)
			default:
				require.Less(t, a.status, 400, what)
			}
		}
	}
	for route := range systemMatrix {
		require.True(t, seen[route], "%s is no route", route)
	}
}
