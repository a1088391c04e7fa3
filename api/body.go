package api

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
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
	stream   io.Reader
	conn     net.Conn
	declared int // its length, or below 0
	read     int
	ended    bool // read to its end: the connection can be used again
}

// Read reports a body whose sender went away half way; the server's stream calls that its end. The end can be read again and
// again: behind a chunked body the stream would wait for another chunk.
func (in *incoming) Read(b []byte) (int, error) {
	if in.ended {
		return 0, io.EOF
	}
	n, err := in.stream.Read(b)
	in.read += n
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if in.read < in.declared || in.declared < 0 && hasEnded(in.conn) {
		return n, io.ErrUnexpectedEOF
	}
	in.ended = true
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
		if r.Request.Header.ContentLength() < 0 && twoLengths(r.Request.Header.RawHeaders()) {
			r.SetConnectionClose()
			awaitRest(r.Conn())
			a.refuse(r, fiber.ErrBadRequest)
			return
		}
		in := &incoming{stream: r.RequestBodyStream(), conn: r.Conn(), declared: r.Request.Header.ContentLength()}
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
		if err := bounded(buffer, in, bodyLimit); err != nil {
			a.refuse(r, err)
			return
		}
		r.Request.SetBodyRaw(buffer.Bytes())
		next(r)
	}
}

// refuse answers a request that has not come to Fiber.
func (a *API) refuse(r *fasthttp.RequestCtx, err error) {
	c := a.app.AcquireCtx(r)
	defer a.app.ReleaseCtx(c)
	_ = a.fiberError(c, err) // its one error is of encoding, and a Failure can be encoded
}

// twoLengths finds a Content-Length beside chunks. The server goes by the chunks; a proxy before it may not, and would take
// the rest for another request than we do.
func twoLengths(headers []byte) bool {
	return bytes.Contains(bytes.ToLower(append([]byte("\n"), headers...)), []byte("\ncontent-length:"))
}

// bounded reads a body of at most limit bytes.
func bounded(buffer *bytes.Buffer, in *incoming, limit int) error {
	if in.declared > limit {
		return fiber.ErrRequestEntityTooLarge
	}
	// What is declared is promised by whoever asks, before it is known who that is: memory is given for what has come.
	buffer.Grow(min(max(in.declared, 0)+bytes.MinRead, pooledBuffer))
	_, err := buffer.ReadFrom(io.LimitReader(in, int64(limit)+1))
	if err != nil {
		return brokenBody(err)
	}
	if buffer.Len() > limit {
		return fiber.ErrRequestEntityTooLarge
	}
	return nil
}

// brokenBody is what a client hears whose body broke off, if it hears anything.
func brokenBody(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() || strings.HasSuffix(err.Error(), os.ErrDeadlineExceeded.Error()) {
		return fiber.ErrRequestTimeout // fasthttp tells in words alone that time was up between two chunks
	}
	return fiber.ErrBadRequest
}

// mayStream finds requests whose body may be longer than bodyLimit: uploads, sends that carry their medium, and batches. The route
// decides, when it is known who calls.
func mayStream(r *fasthttp.RequestCtx) bool {
	if !r.IsPost() {
		return false
	}
	path := strings.TrimRight(string(r.Path()), "/")
	if strings.HasSuffix(path, "/media") {
		return true
	}
	length := r.Request.Header.ContentLength()
	long := length < 0 || length > bodyLimit
	if strings.HasSuffix(path, batchPath) {
		return long
	}
	if !strings.HasSuffix(path, "/send") && !strings.HasSuffix(path, "/messages") {
		return false
	}
	return long || isMultipart(string(r.Request.Header.ContentType()))
}

// inMemory is a huma.Context whose body is what the request holds. The adapter's own would look for a stream.
type inMemory struct{ humaContext }

type humaContext = huma.Context // so that it can be embedded: one of its methods is called Context

// Unwrap lets the adapter find its own.
func (c inMemory) Unwrap() huma.Context { return c.humaContext }

// Param is a part of the path as the client meant it: many write @ and + as %40 and %2B. What is no text names nothing.
func (c inMemory) Param(name string) string {
	raw := c.humaContext.Param(name)
	text, err := url.PathUnescape(raw)
	if err != nil || strings.ContainsRune(text, 0) {
		text = raw
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// BodyReader reads what is in memory. huma copies what it reads.
func (c inMemory) BodyReader() io.Reader {
	return bytes.NewReader(humafiber.Unwrap(c.humaContext).Request().Body())
}

// bodiesInMemory is the first of huma's middlewares.
func (a *API) bodiesInMemory(ctx huma.Context, next func(huma.Context)) { next(inMemory{ctx}) }

// toMemory reads the body of a request that might have streamed and is not to.
func toMemory(c *fiber.Ctx, in *incoming, limit int) error {
	buffer := new(bytes.Buffer)
	if err := bounded(buffer, in, limit); err != nil {
		return err
	}
	if hasNUL(buffer.Bytes()) {
		return errNUL
	}
	replaceBody(c, buffer.Bytes())
	return nil
}

// replaceBody gives the request a body that is in memory.
func replaceBody(c *fiber.Ctx, body []byte) {
	c.Context().RemoveUserValue(incomingKey)
	c.Request().SetBodyRaw(body)
}
