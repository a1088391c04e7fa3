package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
)

// Document is the OpenAPI document of this version of the API, without a server that would serve it.
func Document(version string) []byte {
	ourHuma()
	a := &API{cfg: Config{Version: version}, app: fiber.New()}
	a.huma = humafiber.New(a.app, a.openAPI())
	a.routes()
	a.completeDocument()
	return a.document()
}

// completeDocument adds to the document what the types of the routes do not say.
func (a *API) completeDocument() {
	a.describeSends()
	a.describeWritten("get-session-qr", reflect.TypeFor[Body[QRData]]())
	a.describeWritten("list-usage", reflect.TypeFor[Body[AdminUsageData]]())
	a.describeParameters()
	for _, schema := range a.huma.OpenAPI().Components.Schemas.Map() {
		describeNull(schema)
	}
	a.describeWebhooks()
	a.describeNotices()
	a.describeStreams()
	a.describeLimits()
	a.describeReplays()
	a.describeDeprecations()
	a.describeFailures()
	a.describeExamples()
}

// describeWritten says what the JSON is that an operation writes by itself, beside another form.
func (a *API) describeWritten(id string, body reflect.Type) {
	api := a.huma.OpenAPI()
	for _, item := range api.Paths {
		if item.Get != nil && item.Get.OperationID == id {
			item.Get.Responses["200"].Content["application/json"].Schema = api.Components.Schemas.Schema(body, true, "")
		}
	}
}

// describeParameters takes from parameters what only a field of JSON can be: null.
func (a *API) describeParameters() {
	for _, item := range a.huma.OpenAPI().Paths {
		for _, o := range operationsOf(item) {
			for _, p := range o.Parameters {
				p.Schema.Nullable = false
			}
		}
	}
}

// describeNull adds null to lists of values that a field may have, where it may be null: JSON Schema wants both said.
func describeNull(s *huma.Schema) {
	if s.Nullable && len(s.Enum) > 0 && !slices.Contains(s.Enum, nil) {
		s.Enum = append(slices.Clone(s.Enum), nil)
	}
	for _, property := range s.Properties {
		describeNull(property)
	}
	if s.Items != nil {
		describeNull(s.Items)
	}
	for _, one := range s.OneOf {
		describeNull(one)
	}
}

func (a *API) document() []byte {
	asJSON, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		panic(fmt.Sprintf("the types of the API cannot be described: %v", err)) // in every run alike, so a test sees it first
	}
	return asJSON
}
