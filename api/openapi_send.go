package api

import (
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"kurir/message"
)

// What can be sent is checked in Go, which can say which field is wrong and why: message.Validate. It is documented as
// a choice of one schema per type, made from the same rules.

// draftExamples are bodies of each type that are taken as they are, where their messageId and mediaId exist.
var draftExamples = map[string]map[string]any{
	message.Text:  {"to": "6281234567890", "type": "text", "message": "Hello from Kurir!"},
	message.Image: {"to": "6281234567890", "type": "image", "mediaUrl": "https://example.com/cat.jpg", "caption": "Our cat"},
	message.Video: {"to": "6281234567890", "type": "video", "mediaUrl": "https://example.com/cat.mp4", "caption": "Our cat, at work"},
	message.Audio: {"to": "6281234567890", "type": "audio", "mediaUrl": "https://example.com/song.mp3"},
	message.Voice: {"to": "6281234567890", "type": "voice", "mediaUrl": "https://example.com/note.ogg"},
	message.Document: {"to": "6281234567890", "type": "document", "mediaUrl": "https://example.com/prices.pdf", "filename": "price list.pdf",
		"caption": "Valid until June"},
	message.Sticker:  {"to": "6281234567890", "type": "sticker", "mediaUrl": "https://example.com/cat.webp"},
	message.Location: {"to": "6281234567890", "type": "location", "location": map[string]any{"latitude": -6.9025, "longitude": 107.6187, "name": "Gedung Sate", "address": "Jl. Diponegoro No. 22, Bandung"}},
	message.Contact:  {"to": "6281234567890", "type": "contact", "contacts": []any{map[string]any{"name": "Sari", "phone": "+6281298765432"}}},
	message.Poll:     {"to": "6281234567890", "type": "poll", "poll": map[string]any{"question": "Tea or coffee?", "options": []any{"Tea", "Coffee"}, "choices": 1}},
	message.Reaction: {"type": "reaction", "messageId": exampleID, "message": "👍"},
	message.Edit:     {"type": "edit", "messageId": exampleID, "message": "Hello again"},
	message.Delete:   {"type": "delete", "messageId": exampleID},
}

const exampleID = "0199c0de-0000-7000-8000-000000000001"

// Names of components.
const (
	sendComponent  = "Send"
	draftComponent = "Draft" // what huma makes of message.Draft, and checks bodies with
)

// describeSends replaces the schema of bodies that hold drafts in the document, after the routes have taken theirs.
func (a *API) describeSends() {
	api := a.huma.OpenAPI()
	all := api.Components.Schemas
	flat := all.SchemaFromRef(all.Schema(reflect.TypeFor[message.Draft](), true, draftComponent).Ref)
	choice := &huma.Schema{Description: "One message, of one of these types. A field that its type does not take is refused; empty texts and lists are as good as none.",
		Discriminator: &huma.Discriminator{PropertyName: "type", Mapping: map[string]string{}}, Examples: []any{draftExamples[message.Text]}}
	for _, kind := range message.Types() {
		name := sendComponent + strings.ToUpper(kind[:1]) + kind[1:]
		all.Map()[name] = draftSchema(flat, kind)
		ref := "#/components/schemas/" + name
		choice.OneOf = append(choice.OneOf, &huma.Schema{Ref: ref})
		choice.Discriminator.Mapping[kind] = ref
	}
	all.Map()[sendComponent] = choice
	ref := &huma.Schema{Ref: "#/components/schemas/" + sendComponent}
	for _, path := range []string{"/sessions/{id}/send", "/sessions/{id}/messages", "/messages"} {
		body := api.Paths[basePath+path].Post.RequestBody.Content["application/json"]
		body.Schema = ref
		body.Examples = map[string]*huma.Example{}
		for kind, example := range draftExamples {
			body.Examples[kind] = &huma.Example{Value: example}
		}
	}
	batch := api.Paths[basePath+"/sessions/{id}/messages/batch"].Post.RequestBody.Content["application/json"]
	batch.Schema = batchSchema(all, batch.Schema, ref)
}

// batchSchema is a batch's, with the documented form of its messages.
func batchSchema(all huma.Registry, checked, message *huma.Schema) *huma.Schema {
	if checked.Ref != "" {
		checked = all.SchemaFromRef(checked.Ref)
	}
	s, list := *checked, *checked.Properties["messages"]
	list.Items = message
	s.Properties = map[string]*huma.Schema{"messages": &list}
	s.Examples = []any{map[string]any{"messages": []any{draftExamples["text"], draftExamples["poll"]}}}
	return &s
}

// draftSchema is the schema of one type: those properties of the flat one that it takes.
func draftSchema(flat *huma.Schema, kind string) *huma.Schema {
	rule, _ := message.RuleOf(kind)
	s := &huma.Schema{Type: huma.TypeObject, Title: kind, AdditionalProperties: false, Properties: map[string]*huma.Schema{}, Examples: []any{draftExamples[kind]}}
	for _, name := range append(message.CommonFields(), rule.Takes...) {
		property := *flat.Properties[name]
		s.Properties[name] = &property
	}
	s.Properties["type"] = &huma.Schema{Type: huma.TypeString, Enum: []any{kind}}
	s.Properties["metadata"].Type = huma.TypeObject
	if kind != message.Text { // the default
		s.Required = append(s.Required, "type")
	}
	one := 1
	filled := func(name string, property *huma.Schema) {
		switch {
		case property.Type == huma.TypeString && !(kind == message.Reaction && name == "message"):
			property.MinLength = &one
		case property.Type == huma.TypeArray:
			property.MinItems = &one
		}
	}
	for _, group := range rule.Needs {
		if len(group) == 1 {
			s.Required = append(s.Required, group[0])
			filled(group[0], s.Properties[group[0]])
			continue
		}
		for _, name := range group { // exactly one of them that is not empty
			property := &huma.Schema{Type: s.Properties[name].Type}
			filled(name, property)
			s.OneOf = append(s.OneOf, &huma.Schema{Required: []string{name}, Properties: map[string]*huma.Schema{name: property}})
		}
	}
	if kind == message.Text || kind == message.Edit {
		s.Properties["message"].Pattern = `\S`
	}
	if kind == message.Reaction {
		longest := 64
		s.Properties["message"].MaxLength = &longest
	}
	return s
}
