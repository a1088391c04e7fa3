package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/media"
)

// How a route takes media in.
const (
	takesBody    = "body"    // the body is the medium, or a form that holds it; the handler reads it
	takesMessage = "message" // the body is JSON, perhaps with a medium in it, or a form with one beside it
)

// takes lets a route have bodies that are longer than bodyLimit, as streams.
func takes(what string) option {
	return func(o *huma.Operation) {
		o.Metadata[metaIntake] = what
		o.Errors = append(o.Errors, http.StatusRequestTimeout)
	}
}

func isMultipart(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "multipart/form-data"
}

func isJSON(contentType string) bool {
	kind, _, _ := mime.ParseMediaType(contentType)
	return kind == "" || kind == "application/json"
}

// base64Field carries a medium inside of JSON.
const base64Field = "mediaBase64"

// intake takes media out of requests that send, before the body is parsed, or compared under an Idempotency-Key: what goes on
// is small JSON that names the medium by its ID. The ID is made of the content, so the same request becomes the same body.
func (a *API) intake(ctx huma.Context, next func(huma.Context)) {
	c := humafiber.Unwrap(ctx)
	in := incomingOf(c)
	what, _ := ctx.Operation().Metadata[metaIntake].(string)
	var err error
	done := func() {}
	switch contentType := c.Get("Content-Type"); {
	case what == takesMessage && (isMultipart(contentType) || isJSON(contentType) && (in != nil || bytes.Contains(c.Request().Body(), []byte(base64Field)))):
		ctx, done, err = a.takeOut(ctx, c, in, isMultipart(contentType))
	case what == takesBody:
		ctx = huma.WithValue(ctx, uploadKey{}, &uploadBody{c, in})
	case in != nil:
		err = toMemory(c, in, int(ctx.Operation().MaxBodyBytes))
	}
	defer done()
	if err != nil {
		a.writeError(ctx, err)
		return
	}
	next(ctx)
}

// takeOut moves the medium of a request into the store and replaces the request's body. The time that it took is not taken
// from the request's own, which done ends.
func (a *API) takeOut(ctx huma.Context, c *fiber.Ctx, in *incoming, form bool) (after huma.Context, done func(), err error) {
	done = func() {}
	p := callerOf(ctx.Context())
	if err := a.sendsFrom(ctx, p); err != nil {
		return ctx, done, err
	}
	var body []byte
	take := func(upload context.Context, r io.Reader) (err error) {
		t := &taker{ctx: upload, store: a.cfg.Media, user: p.user.ID}
		if form {
			body, err = t.form(r, c.Get("Content-Type"), textFields(a.huma.OpenAPI(), ctx.Operation()))
		} else {
			body, err = t.json(r)
		}
		return err
	}
	if in == nil {
		err = uploadFault(take(ctx.Context(), bytes.NewReader(c.Request().Body())))
	} else {
		err = a.upload(ctx.Context(), a.uploads, c, in, p.user.ID, take)
	}
	switch {
	case err != nil:
		return ctx, done, err
	case hasNUL(body):
		return ctx, done, errNUL
	}
	replaceBody(c, body)
	c.Request().Header.SetContentType("application/json")
	if in != nil {
		afresh, cancel := context.WithTimeout(context.WithoutCancel(ctx.Context()), a.cfg.Timeouts.Request)
		ctx, done = huma.WithContext(ctx, afresh), cancel
	}
	return ctx, done, nil
}

// sendsFrom makes sure that there is a session to send from before anything is stored.
func (a *API) sendsFrom(ctx huma.Context, p *principal) error {
	if id := ctx.Param("id"); id != "" {
		_, err := a.sessionUID(ctx.Context(), id)
		return err
	}
	if p.session == nil {
		return errWhichSession
	}
	return nil
}

// upload has take read a body as a stream, within the limits of uploads.
func (a *API) upload(ctx context.Context, places *uploads, c *fiber.Ctx, in *incoming, owner uuid.UUID, take func(context.Context, io.Reader) error) error {
	end, err := places.begin(owner)
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), places.limits.Timeout)
	defer cancel()
	stop := context.AfterFunc(a.background, cancel)
	defer stop()
	body := patient{Reader: in, conn: c.Context().Conn(), ctx: ctx}
	if err := take(ctx, body); err != nil {
		return uploadFault(err)
	}
	if !in.ended { // what stands behind JSON or a form, if only white space
		_, err = io.CopyN(io.Discard, body, tail)
		if err == nil {
			return fiber.ErrRequestEntityTooLarge
		}
		if !errors.Is(err, io.EOF) {
			return brokenBody(err)
		}
	}
	return nil
}

// tail is what may follow the last part of a form, or JSON.
const tail = 64 << 10

// uploadFault says what was wrong with an upload.
func uploadFault(err error) error {
	var source *media.SourceError
	var f *fault.Error
	var fe *fiber.Error
	switch {
	case err == nil, errors.As(err, &f), errors.As(err, &fe):
		return err
	case errors.As(err, &source) && errors.As(source.Err, &f):
		return f
	case errors.As(err, &source):
		return brokenBody(source.Err)
	}
	return stored(err)
}
