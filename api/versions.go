package api

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"kurir/fault"
)

// apiVersion is a version of the API, by what stands behind /api in its addresses. docs/versions.md has the rules.
type apiVersion struct {
	name string
	ends *deprecation // if it is to be left, all of it
}

// apiVersions are those that are served, the latest last.
var apiVersions = []apiVersion{
	{name: "v1"},
}

// Versions names the versions of the API that are served, the latest last.
func Versions() []string {
	names := make([]string, len(apiVersions))
	for i, v := range apiVersions {
		names[i] = v.name
	}
	return names
}

// deprecation is of an operation, or a version, that works and had better not be used any more.
type deprecation struct {
	since   time.Time
	sunset  time.Time // it may be gone from then on; zero: that is not decided
	instead string    // address of what does the same, below /api; names in braces are those of the operation's own path
	reason  string    // a sentence
}

const metaDeprecation = "deprecation"

// deprecated marks an operation, in the documentation and in its answers.
func deprecated(d deprecation) option {
	return func(o *huma.Operation) {
		o.Deprecated = true
		o.Metadata[metaDeprecation] = d
		o.Description += fmt.Sprintf("\n\nDeprecated since %s: %s Use `/api%s`.", d.since.Format(time.DateOnly), d.reason, d.instead)
		if !d.sunset.IsZero() {
			o.Description += fmt.Sprintf(" It may be gone from %s on.", d.sunset.Format(time.DateOnly))
		}
	}
}

// warn tells of deprecations in all answers of what they are about, refusals too.
func warn(ctx huma.Context, next func(huma.Context)) {
	o := ctx.Operation()
	d, ok := o.Metadata[metaDeprecation].(deprecation)
	if i := slices.IndexFunc(apiVersions, func(v apiVersion) bool { return strings.HasPrefix(o.Path, "/api/"+v.name+"/") }); !ok && i >= 0 && apiVersions[i].ends != nil {
		d, ok = *apiVersions[i].ends, true
	}
	if ok {
		for _, h := range d.headers(ctx.Param) {
			ctx.SetHeader(h[0], h[1])
		}
	}
	next(ctx)
}

// deprecationHeaders are the names of those that warn writes.
const deprecationHeaders = "Deprecation, Sunset, Link"

var inBraces = regexp.MustCompile(`\{\w+\}`)

// headers are Deprecation (RFC 9745), Sunset (RFC 8594) and links to what there is to read and to use instead.
func (d deprecation) headers(param func(name string) string) [][2]string {
	list := [][2]string{{"Deprecation", fmt.Sprintf("@%d", d.since.Unix())}}
	if !d.sunset.IsZero() {
		list = append(list, [2]string{"Sunset", d.sunset.UTC().Format(httpDate)})
	}
	address := inBraces.ReplaceAllStringFunc(d.instead, func(name string) string {
		value := param(strings.Trim(name, "{}"))
		if plain, err := url.PathUnescape(value); err == nil { // it comes as it stood in the path
			value = plain
		}
		return url.PathEscape(value)
	})
	return append(list, [2]string{"Link", `</docs>; rel="deprecation"; type="text/html", </api` + address + `>; rel="successor-version"`})
}

const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// describeDeprecations adds those headers to the documentation of operations that have them.
func (a *API) describeDeprecations() {
	text := &huma.Schema{Type: huma.TypeString}
	for _, path := range a.huma.OpenAPI().Paths {
		for _, o := range operationsOf(path) {
			if !o.Deprecated {
				continue
			}
			d, _ := o.Metadata[metaDeprecation].(deprecation)
			for _, r := range o.Responses {
				setParam(r, "Deprecation", &huma.Param{Description: "Since when it is deprecated, as RFC 9745 writes it", Schema: text, Example: fmt.Sprintf("@%d", d.since.Unix())})
				setParam(r, "Link", &huma.Param{Description: "What to read of it (deprecation), and what to use instead (successor-version)", Schema: text, Example: "</api" + d.instead + `>; rel="successor-version"`})
				if !d.sunset.IsZero() {
					setParam(r, "Sunset", &huma.Param{Description: "From when on it may be gone, as RFC 8594 writes it", Schema: text, Example: d.sunset.UTC().Format(httpDate)})
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

var versionInPath = regexp.MustCompile(`^/api/(v[0-9]{1,6})(?:/|$)`)

// alias serves /api/... as the version that API_VERSION names.
func (a *API) alias(c *fiber.Ctx) error {
	path := c.Path()
	if versionInPath.MatchString(path) || path != "/api" && !strings.HasPrefix(path, "/api/") {
		return c.Next()
	}
	c.Path("/api/" + a.cfg.APIVersion + strings.TrimPrefix(path, "/api"))
	return c.RestartRouting()
}

var errNoVersion = fault.New(fault.NotFound, "unknown_version", "There is no such version of the API.")

// knownVersions refuses versions that are not, or no longer, served.
func knownVersions(c *fiber.Ctx) error {
	match := versionInPath.FindStringSubmatch(c.Path())
	if match == nil || slices.Contains(Versions(), match[1]) {
		return c.Next()
	}
	f := *errNoVersion
	f.Sentence = fmt.Sprintf("There is no version %s of the API. There is: %s.", match[1], strings.Join(Versions(), ", "))
	return &f
}
