package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/require"
)

// What nothing of today's API has: an end that is decided, an address with parts of the request's, and a whole version that ends.
// It changes what all share, so it runs by itself.
func TestDeprecationsToCome(t *testing.T) {
	a := &API{app: fiber.New()}
	a.huma = humafiber.New(a.app, a.openAPI())
	a.huma.UseMiddleware(warn)
	type in struct {
		ID string `path:"id"`
	}
	handler := func(context.Context, *in) (*Reply[struct{}], error) { return reply(struct{}{}), nil }
	since, sunset := time.Date(2027, time.January, 2, 3, 4, 5, 0, time.UTC), time.Date(2027, time.July, 2, 5, 4, 5, 0, time.FixedZone("", 7200))
	add(a, http.MethodGet, "/things/{id}/old", "old", accessPublic, "Old", handler,
		deprecated(deprecation{since: since, sunset: sunset, instead: "/v2/things/{id}", reason: "it was a mistake."}))
	add(a, http.MethodGet, "/things/{id}", "new", accessPublic, "New", handler)
	a.describeDeprecations()

	headersOf := func(path string) http.Header {
		resp, err := a.app.Test(httptest.NewRequest(http.MethodGet, path, nil))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
		return resp.Header
	}
	h := headersOf(basePath + "/things/a%22%3E%3Bb/old")
	require.Equal(t, []string{"@1798859045"}, h["Deprecation"])
	require.Equal(t, []string{"Fri, 02 Jul 2027 03:04:05 GMT"}, h["Sunset"])
	require.Equal(t, []string{`</docs>; rel="deprecation"; type="text/html", </api/v2/things/a%22%3E%3Bb>; rel="successor-version"`}, h["Link"])
	require.Empty(t, headersOf(basePath + "/things/7")["Deprecation"])
	old := a.huma.OpenAPI().Paths[basePath+"/things/{id}/old"].Get
	require.True(t, old.Deprecated)
	require.Contains(t, old.Description, "Deprecated since 2027-01-02: it was a mistake. Use `/api/v2/things/{id}`. It may be gone from 2027-07-02 on.")
	require.Contains(t, old.Responses["200"].Headers, "Sunset")
	require.False(t, a.huma.OpenAPI().Paths[basePath+"/things/{id}"].Get.Deprecated)

	former := apiVersions
	defer func() { apiVersions = former }()
	apiVersions = []apiVersion{{name: "v1", ends: &deprecation{since: since, instead: "/v2"}}, {name: "v2"}}
	h = headersOf(basePath + "/things/7")
	require.Equal(t, []string{"@1798859045"}, h["Deprecation"])
	require.Equal(t, []string{`</docs>; rel="deprecation"; type="text/html", </api/v2>; rel="successor-version"`}, h["Link"])
	require.NotEmpty(t, headersOf(basePath + "/things/7/old")["Sunset"], "an operation's own end comes first")
	require.Equal(t, []string{"v1", "v2"}, Versions())
}
