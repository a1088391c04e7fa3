package api_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
)

func TestVersions(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"v1"}, api.Versions())
	w := start(t)
	u := w.register("u")

	// /api is the same as the version that it stands for.
	for _, method := range []string{"GET", "DELETE"} {
		v1, alias := w.do(method, "/api/v1/webhook", u.auth(), nil), w.do(method, "/api/webhook", u.auth(), nil)
		v1.refused(404, "webhook_not_found")
		alias.refused(404, "webhook_not_found")
	}
	require.Equal(t, w.do("GET", "/api/v1/webhook/deliveries?limit=300", u.auth(), nil).refused(422, "invalid_request").body["details"],
		w.do("GET", "/api/webhook/deliveries?limit=300", u.auth(), nil).refused(422, "invalid_request").body["details"], "with what is behind the question mark")
	require.Equal(t, w.do("GET", "/api/v1/users/me", u.auth(), nil).text, w.do("GET", "/api/users/me", u.auth(), nil).text)

	for _, path := range []string{"/api/v2/users/me", "/api/v2", "/api/v2/", "/api/v0/sessions?limit=1", "/api/v01/users/me", "/api/v999999/x/../y"} {
		a := w.do("GET", path, append(u.auth(), "Origin", "https://app.example.com"), nil).refused(404, "unknown_version")
		require.Regexp(t, `^There is no version v\d+ of the API\. There is: v1\.$`, a.body["error"], path)
		require.Equal(t, "*", a.header.Get("Access-Control-Allow-Origin"), "a browser has to see it too")
	}
	w.do("POST", "/api/v2/auth/login", nil, "{").refused(404, "unknown_version")
	for _, path := range []string{"/api", "/api/", "/api/v1", "/api/v1/nothing", "/api/nothing", "/api/v1234567/users/me", "/api/V2/users/me", "/api/v/users/me", "/api/vx", "/apix/v2", "/v2/users/me", "/api/v1/v2/users/me"} {
		w.do("GET", path, u.auth(), nil).refused(404, "route_not_found")
	}
	require.Contains(t, w.log.String(), `"status":404`)
	require.NotContains(t, w.do("GET", "/metrics", nil, nil).text, `route="/api/v2`, "whoever asks for what is not there makes no series")
}

func TestDeprecations(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	for _, base := range []string{"/api/v1", "/api"} {
		for what, a := range map[string]*answer{"an answer": w.do("GET", base+"/auth/me", u.auth(), nil), "a refusal": w.do("GET", base+"/auth/me", nil, nil)} {
			require.Equal(t, "@1795305600", a.header.Get("Deprecation"), what) // 22 November 2026
			require.Equal(t, []string{`</docs>; rel="deprecation"; type="text/html", </api/v1/users/me>; rel="successor-version"`}, a.header.Values("Link"), what)
			require.Empty(t, a.header.Values("Sunset"), "it has no end yet")
		}
	}
	instead := w.do("GET", "/api/v1/users/me", u.auth(), nil)
	require.Equal(t, w.do("GET", "/api/v1/auth/me", u.auth(), nil).ok(200), instead.ok(200), "what is to be used instead does the same")
	for _, header := range []string{"Deprecation", "Sunset", "Link"} {
		require.Empty(t, instead.header.Values(header))
		require.Contains(t, w.do("GET", "/api/v1/auth/me", append(u.auth(), "Origin", "https://app.example.com"), nil).header.Get("Access-Control-Expose-Headers"), header)
	}

	deprecated := []string{}
	for path, item := range w.document().all["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			o := raw.(map[string]any)
			ok := o["responses"].(map[string]any)["200"]
			if o["deprecated"] == true {
				deprecated = append(deprecated, strings.ToUpper(method)+" "+path)
				require.Contains(t, o["description"], "Deprecated since 2026-11-22")
				require.Contains(t, ok.(map[string]any)["headers"], "Deprecation")
			} else if ok != nil {
				require.NotContains(t, mustJSON(t, ok), `"Deprecation"`)
			}
		}
	}
	text, err := os.ReadFile("../docs/versions.md")
	require.NoError(t, err)
	documented := []string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /api/[^`]*)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, row[1])
	}
	require.NotEmpty(t, documented)
	require.ElementsMatch(t, deprecated, documented)
}
