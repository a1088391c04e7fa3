package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/media"
	"kurir/message"
)

// taker takes one request's medium out of its body.
type taker struct {
	ctx   context.Context
	store *media.Store
	user  uuid.UUID
}

var (
	errForm   = fault.New(fault.Invalid, "malformed_form", "The request's form cannot be read.")
	errBase64 = fault.Field(base64Field, "expected base64, with or without data:…;base64, before it")
)

// maxParts of a form.
const maxParts = 100

// form makes JSON of a form: its fields, the object in the field data, and the ID of the medium in the part file. Fields
// that can be texts are texts; others are JSON.
func (t *taker) form(r io.Reader, contentType string, texts map[string]bool) ([]byte, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return nil, errForm
	}
	f := &form{taker: t, reader: multipart.NewReader(r, params["boundary"]), texts: texts, fields: map[string]json.RawMessage{}, room: bodyLimit}
	for n := range maxParts {
		part, err := f.reader.NextPart()
		if errors.Is(err, io.EOF) && n > 0 {
			return f.body()
		}
		if err != nil {
			return nil, formFault(err)
		}
		if err := f.take(part); err != nil {
			return nil, err
		}
	}
	return nil, errForm
}

// formFault tells a form that is none from a body that broke off, whose trouble is the connection's.
func formFault(err error) error {
	if errors.Is(brokenBody(err), fiber.ErrRequestTimeout) {
		return &media.SourceError{Err: err}
	}
	return errForm.WithCause(err)
}

type form struct {
	*taker
	reader *multipart.Reader
	texts  map[string]bool
	fields map[string]json.RawMessage
	item   *media.Item
	file   string // its name
	room   int64  // for fields
}

func (f *form) take(part *multipart.Part) error {
	name := part.FormName()
	if name == "file" {
		return f.takeFile(part)
	}
	value, err := io.ReadAll(io.LimitReader(part, f.room+1))
	if err != nil {
		return formFault(err)
	}
	if f.room -= int64(len(value) + len(name)); f.room < 0 {
		return fiber.ErrRequestEntityTooLarge
	}
	switch {
	case name == "":
		return errForm
	case name == "data":
		var object map[string]json.RawMessage
		if json.Unmarshal(value, &object) != nil {
			return fault.Field(name, "expected a JSON object")
		}
		for field, inner := range object {
			f.fields[field] = inner
		}
	case !f.texts[name] && json.Valid(value):
		f.fields[name] = value
	default:
		f.fields[name], _ = json.Marshal(string(value)) // what is no UTF-8 becomes U+FFFD, as in JSON
	}
	return nil
}

func (f *form) takeFile(part *multipart.Part) (err error) {
	if f.item != nil {
		return fault.Field("file", "expected once")
	}
	kind := f.text("type")
	if !message.HasMedia(kind) {
		kind = "" // it may come yet, and is checked with the message
	}
	f.file = plainName(part.FileName())
	f.item, err = f.store.Put(f.ctx, f.user, kind, part)
	var source *media.SourceError
	if errors.As(err, &source) {
		return formFault(source.Err)
	}
	return err
}

func (f *form) text(name string) (value string) {
	_ = json.Unmarshal(f.fields[name], &value)
	return value
}

// body is the JSON. A document is called as its file is, unless it is given another name.
func (f *form) body() ([]byte, error) {
	if f.item != nil {
		for _, other := range []string{"mediaId", "mediaUrl", base64Field} {
			if f.fields[other] != nil {
				return nil, fault.Field(other, "expected either this or a file")
			}
		}
		f.fields["mediaId"] = quoted(f.item.ID.String())
		if f.fields["filename"] == nil && f.file != "" && f.text("type") == message.Document {
			f.fields["filename"] = quoted(f.file)
		}
	}
	body, err := json.Marshal(f.fields) // sorted, so that the same form is the same body
	if err != nil {
		return nil, errForm.WithCause(err)
	}
	return body, nil
}

func quoted(text string) json.RawMessage {
	raw, _ := json.Marshal(text)
	return raw
}

// plainName is the last part of a file's name, without control characters.
func plainName(name string) string {
	name = name[strings.LastIndexAny(name, `/\`)+1:]
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, name), "")
}

// textFields are the fields of an operation's body that can be texts.
func textFields(api *huma.OpenAPI, o *huma.Operation) map[string]bool {
	texts := map[string]bool{}
	if o.RequestBody != nil && o.RequestBody.Content["application/json"] != nil {
		addTexts(api.Components.Schemas, o.RequestBody.Content["application/json"].Schema, texts, 0)
	}
	return texts
}

func addTexts(all huma.Registry, s *huma.Schema, texts map[string]bool, depth int) {
	for ; s != nil && s.Ref != ""; s = all.SchemaFromRef(s.Ref) {
		if depth++; depth > 16 {
			return
		}
	}
	if s == nil || depth > 16 {
		return
	}
	for name, property := range s.Properties {
		for ; property != nil && property.Ref != ""; property = all.SchemaFromRef(property.Ref) {
		}
		if property != nil && property.Type == huma.TypeString {
			texts[name] = true
		}
	}
	for _, list := range [][]*huma.Schema{s.OneOf, s.AnyOf, s.AllOf} {
		for _, inner := range list {
			addTexts(all, inner, texts, depth+1)
		}
	}
}

// json copies a JSON object, but takes the text of its field mediaBase64 into the store on the way and puts mediaId in its
// place. It does not judge the JSON: whoever parses the copy will.
func (t *taker) json(r io.Reader) ([]byte, error) {
	s := newSplitter(r)
	for {
		found, err := s.next()
		switch {
		case errors.Is(err, io.EOF) && s.second:
			return nil, errTwoMedia
		case errors.Is(err, io.EOF):
			return s.copy.Bytes(), nil
		case err != nil:
			return nil, err
		case !found:
			continue
		}
		text := &base64Text{in: s.in}
		m, err := t.store.Put(t.ctx, t.user, "", text.decoder())
		var source *media.SourceError
		if errors.As(err, &source) && s.broken.err == nil {
			return nil, errBase64
		}
		if err != nil {
			return nil, err
		}
		if err := text.end(); err != nil {
			return nil, err
		}
		s.replace(fmt.Sprintf(`"mediaId":%q`, m.ID))
	}
}

var errTwoMedia = fault.Field(base64Field, "expected either this or mediaId")
