package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// Bodies are read by us and not by the server, so that those which carry media can be read as streams. All others are in
// memory before anything looks at them, and have at most bodyLimit bytes.

// incoming is a body that is still on the connection.
type incoming struct {
	stream io.Reader
	ended  bool // read to its end: the connection can be used again
}

func (in *incoming) Read(b []byte) (int, error) {
	n, err := in.stream.Read(b)
	in.ended = in.ended || errors.Is(err, io.EOF)
	return n, err
}

const incomingKey = "kurir.incoming"

// incomingOf is a request's body if it is to be read as a stream, else nil.
func incomingOf(c *fiber.Ctx) *incoming {
	in, _ := c.Context().UserValue(incomingKey).(*incoming)
	return in
}

// bufferPool holds buffers for bodies, but none that an exceptional body has made large.
var bufferPool = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const pooledBuffer = 64 << 10

// bodies reads a request's body before anything else happens. What is read in part, or not at all, costs the connection: the
// rest would be taken for the next request.
func (a *API) bodies(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(r *fasthttp.RequestCtx) {
		if !r.Request.IsBodyStream() {
			next(r)
			return
		}
		in := &incoming{stream: r.RequestBodyStream()}
		defer func() {
			if !in.ended {
				r.SetConnectionClose()
				awaitRest(r.Conn())
			}
		}()
		if mayStream(r) {
			r.SetUserValue(incomingKey, in)
			next(r)
			return
		}
		buffer := bufferPool.Get().(*bytes.Buffer)
		defer func() {
			if buffer.Cap() <= pooledBuffer {
				buffer.Reset()
				bufferPool.Put(buffer)
			}
		}()
		if err := bounded(buffer, in, r.Request.Header.ContentLength()); err != nil {
			c := a.app.AcquireCtx(r)
			defer a.app.ReleaseCtx(c)
			_ = a.fiberError(c, err) // its one error is of encoding, and a Failure can be encoded
			return
		}
		r.Request.SetBodyRaw(buffer.Bytes())
		next(r)
	}
}

// bounded reads a body of at most bodyLimit bytes. declared is its length, or below 0.
func bounded(buffer *bytes.Buffer, in *incoming, declared int) error {
	if declared > bodyLimit {
		return fiber.ErrRequestEntityTooLarge
	}
	buffer.Grow(max(declared, 0) + bytes.MinRead)
	_, err := buffer.ReadFrom(io.LimitReader(in, bodyLimit+1))
	if err != nil {
		return brokenBody(err)
	}
	if buffer.Len() > bodyLimit {
		return fiber.ErrRequestEntityTooLarge
	}
	return nil
}

// brokenBody is what a client hears whose body broke off, if it hears anything.
func brokenBody(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fiber.ErrRequestTimeout
	}
	return fiber.ErrBadRequest
}

// mayStream finds requests whose body may be longer than bodyLimit: uploads, and sends that carry their medium. The route
// decides, when it is known who calls.
func mayStream(r *fasthttp.RequestCtx) bool {
	if !r.IsPost() {
		return false
	}
	path := strings.TrimRight(string(r.Path()), "/")
	if strings.HasSuffix(path, "/media") {
		return true
	}
	if !strings.HasSuffix(path, "/send") && !strings.HasSuffix(path, "/messages") {
		return false
	}
	length := r.Request.Header.ContentLength()
	return length < 0 || length > bodyLimit || isMultipart(string(r.Request.Header.ContentType()))
}

// inMemory is a huma.Context whose body is what the request holds. The adapter's own would look for a stream.
type inMemory struct{ humaContext }

type humaContext = huma.Context // so that it can be embedded: one of its methods is called Context

// Unwrap lets the adapter find its own.
func (c inMemory) Unwrap() huma.Context { return c.humaContext }

// BodyReader reads what is in memory. huma copies what it reads.
func (c inMemory) BodyReader() io.Reader {
	return bytes.NewReader(humafiber.Unwrap(c.humaContext).Request().Body())
}

// bodiesInMemory is the first of huma's middlewares.
func (a *API) bodiesInMemory(ctx huma.Context, next func(huma.Context)) { next(inMemory{ctx}) }

// toMemory reads the body of a request that might have streamed and is not to.
func toMemory(c *fiber.Ctx, in *incoming) error {
	buffer := new(bytes.Buffer)
	if err := bounded(buffer, in, c.Request().Header.ContentLength()); err != nil {
		return err
	}
	replaceBody(c, buffer.Bytes())
	return nil
}

// replaceBody gives the request a body that is in memory.
func replaceBody(c *fiber.Ctx, body []byte) {
	c.Context().RemoveUserValue(incomingKey)
	c.Request().SetBodyRaw(body)
}
