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

// replayed is the header of answers that were kept.
var replayed = &huma.Param{Description: "true: this is the answer of the first request with this Idempotency-Key, without its secrets", Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"true"}}, Example: "true"}

// describeReplays tells of it where answers are kept.
func (a *API) describeReplays() {
	for _, item := range a.huma.OpenAPI().Paths {
		for _, o := range operationsOf(item) {
			for status, r := range o.Responses {
				if !says(metaIdempotent)(o) || !strings.HasPrefix(status, "2") {
					continue
				}
				if r.Headers == nil {
					r.Headers = map[string]*huma.Param{}
				}
				r.Headers["Idempotency-Replayed"] = replayed
			}
		}
	}
}

// describeLimits tells of limits in all successes that are counted. Refusals are told of in describeFailures.
func (a *API) describeLimits() {
	api := a.huma.OpenAPI()
	api.Components.Headers = rateParams
	for _, item := range api.Paths {
		for _, o := range operationsOf(item) {
			if len(o.Security) > 0 && o.Security[0]["workerToken"] != nil {
				continue
			}
			for status, r := range o.Responses {
				if strings.HasPrefix(status, "2") {
					addRateHeaders(r)
				}
			}
		}
	}
}

func addRateHeaders(r *huma.Response) {
	if r.Headers == nil {
		r.Headers = map[string]*huma.Param{}
	}
	for name := range rateParams {
		r.Headers[name] = &huma.Param{Ref: "#/components/headers/" + name}
	}
}
