package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func binary(doc string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "binary", Description: doc}
}

// documented changes what is told of an operation, when it is registered: what huma finds before, it also does.
func documented(f func(o *huma.Operation)) option {
	return func(o *huma.Operation) { o.Metadata[metaDocument] = f }
}

// document applies what documented asked for.
func document(api *huma.OpenAPI, o huma.Operation) {
	f, ok := o.Metadata[metaDocument].(func(*huma.Operation))
	if !ok {
		return
	}
	item := api.Paths[o.Path]
	for _, registered := range []*huma.Operation{item.Get, item.Post} {
		if registered != nil && registered.OperationID == o.OperationID {
			f(registered)
		}
	}
}

// uploadBodies describes the bodies of uploads, which huma does not read.
func uploadBodies(o *huma.Operation) {
	o.RequestBody = &huma.RequestBody{Required: true, Description: "The file, or a form with the file in its part `file`. Content-Type and file name are not believed: the type is found in the content.",
		Content: map[string]*huma.MediaType{
			"application/octet-stream": {Schema: binary("The file itself, under any Content-Type")},
			"multipart/form-data": {Schema: &huma.Schema{Type: huma.TypeObject, Required: []string{"file"},
				Properties: map[string]*huma.Schema{"file": binary("The file")}}},
		}}
}

// formBody tells of the other form of a body that is JSON.
func formBody(o *huma.Operation) {
	o.RequestBody.Content["multipart/form-data"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeObject,
		Description: "The fields of the JSON body as fields of a form, or all of them as JSON in the field `data`, and the medium, if there is one, as a file.",
		Properties: map[string]*huma.Schema{
			"file": binary("The medium. Its type is found in the content"),
			"data": {Type: huma.TypeString, Description: "The JSON body, in the place of single fields", Examples: []any{`{"to":"6281234567890","type":"image","caption":"Look"}`}},
			"to":   {Type: huma.TypeString, Examples: []any{"6281234567890"}},
			"type": {Type: huma.TypeString, Examples: []any{"image"}},
		}, AdditionalProperties: true}}
}

// mediaResponses describes answers that are contents.
func mediaResponses(o *huma.Operation) {
	content := map[string]*huma.MediaType{"application/octet-stream": {Schema: binary("The content, under its own type if that is a picture, a sound, a video or a PDF")}}
	o.Responses = map[string]*huma.Response{
		"200": {Description: "The content", Content: content},
		"206": {Description: "A part of the content", Content: content},
		"304": {Description: "You have it: see If-None-Match"},
	}
	o.Errors = append(o.Errors, http.StatusRequestedRangeNotSatisfiable)
}
