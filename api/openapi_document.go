package api

import (
	"encoding/json"
	"fmt"

	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
)

// Document is the OpenAPI document of this version of the API, without a server that would serve it.
func Document(version string) []byte {
	ourFailures()
	a := &API{cfg: Config{Version: version}, app: fiber.New()}
	a.huma = humafiber.New(a.app, a.openAPI())
	a.routes()
	a.completeDocument()
	return a.document()
}

// completeDocument adds to the document what the types of the routes do not say.
func (a *API) completeDocument() {
	a.describeSends()
	a.describeWebhooks()
	a.describeStreams()
	a.describeLimits()
	a.describeFailures()
}

func (a *API) document() []byte {
	asJSON, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		panic(fmt.Sprintf("the types of the API cannot be described: %v", err)) // in every run alike, so a test sees it first
	}
	return asJSON
}
