package api

import (
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// rateParams are the headers that tell of limits.
var rateParams = map[string]*huma.Param{
	"RateLimit":           {Description: "What is left of each limit that the request was counted against (r), and after how many seconds some of what is used comes back (t)", Schema: &huma.Schema{Type: huma.TypeString}, Example: `"messages";r=999;t=3660`},
	"RateLimit-Policy":    {Description: "Those limits (q) and their windows in seconds (w)", Schema: &huma.Schema{Type: huma.TypeString}, Example: `"messages";q=1000;w=3600`},
	"RateLimit-Limit":     {Description: "The limit that is nearest", Schema: &huma.Schema{Type: huma.TypeInteger}, Example: 1000},
	"RateLimit-Remaining": {Description: "What is left of it", Schema: &huma.Schema{Type: huma.TypeInteger}, Example: 999},
	"RateLimit-Reset":     {Description: "After how many seconds some of it comes back", Schema: &huma.Schema{Type: huma.TypeInteger}, Example: 3660},
}

// describeLimits tells of limits in all answers that are counted.
func (a *API) describeLimits() {
	for _, path := range a.huma.OpenAPI().Paths {
		for _, o := range []*huma.Operation{path.Get, path.Put, path.Post, path.Patch, path.Delete} {
			if o == nil {
				continue
			}
			counted := len(o.Security) == 0 || o.Security[0]["workerToken"] == nil
			for status, r := range o.Responses {
				if status == "429" {
					r.Description = "A limit was reached, see docs/limits.md"
					setParam(r, "Retry-After", &huma.Param{Description: "After how many seconds it would pass", Schema: &huma.Schema{Type: huma.TypeInteger}, Example: 60})
				}
				if counted && (status == "429" || strings.HasPrefix(status, "2")) {
					for name, p := range rateParams {
						setParam(r, name, p)
					}
				}
			}
		}
	}
}

func setParam(r *huma.Response, name string, p *huma.Param) {
	if r.Headers == nil {
		r.Headers = map[string]*huma.Param{}
	}
	r.Headers[name] = p
}
