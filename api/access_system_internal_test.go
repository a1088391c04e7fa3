package api

import (
	"slices"
	"strings"
)

// SystemRoutes are the addresses that a process serves beside the API's own, each once.
func SystemRoutes(a *API) (paths []string) {
	for _, route := range a.app.GetRoutes() {
		if !strings.HasPrefix(route.Path, "/api") && !slices.Contains(paths, route.Path) {
			paths = append(paths, route.Path)
		}
	}
	return paths
}
