package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gabriel-vasile/mimetype"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/media"
	"kurir/models"
)

// uploadBody is the body of a request that is all medium.
type uploadBody struct {
	c  *fiber.Ctx
	in *incoming // nil: there is none
}

type uploadKey struct{}

// MediaKind is what a medium is meant for.
type MediaKind struct {
	Kind string `query:"kind" enum:"image,video,audio,voice,document,sticker" doc:"What it is to be sent as: size and type are checked at once, and not only when it is sent"`
}

// UploadInput is a medium for a session's messages.
type UploadInput struct {
	SessionPath
	MediaKind
}

// MediaData is a medium in the store.
type MediaData struct {
	ID       string `json:"id" format:"uuid"`
	MediaID  string `json:"mediaId" format:"uuid" doc:"To be named when a message is sent. The same content has the same ID"`
	URL      string `json:"url" doc:"Where it can be downloaded, with a key" example:"/api/v1/media/5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f"`
	MIMEType string `json:"mimetype" doc:"As found in the content; what was said of it is not believed" example:"image/jpeg"`
	Size     int64  `json:"size" doc:"Bytes" example:"48213"`
	SHA256   string `json:"sha256" doc:"Of the content, hexadecimal"`
}

func mediaData(m *media.Item) MediaData {
	r := m.Message()
	return MediaData{ID: r.ID, MediaID: r.ID, URL: r.URL, MIMEType: r.MIMEType, Size: r.Size, SHA256: r.SHA256}
}

func (a *API) uploadMedia(ctx context.Context, in *UploadInput) (*Reply[MediaData], error) {
	if _, err := a.sessionUID(ctx, in.ID); err != nil {
		return nil, err
	}
	m, err := a.putMedia(ctx, a.uploads, callerOf(ctx).user.ID, in.Kind)
	if err != nil {
		return nil, err
	}
	return reply(mediaData(m)), nil
}

// putMedia stores a request's body, or the part file of a form, for a user.
func (a *API) putMedia(ctx context.Context, places *uploads, user uuid.UUID, kind string) (m *media.Item, err error) {
	body, _ := ctx.Value(uploadKey{}).(*uploadBody)
	if body == nil || body.in == nil {
		return nil, media.ErrEmpty
	}
	if length := body.c.Request().Header.ContentLength(); int64(length) > a.cfg.Media.Rules().Most()+bodyLimit {
		return nil, media.ErrTooLarge // before any of it is read
	}
	contentType := body.c.Get("Content-Type")
	err = a.upload(ctx, places, body.c, body.in, user, func(ctx context.Context, r io.Reader) (err error) {
		if !isMultipart(contentType) {
			m, err = a.cfg.Media.Put(ctx, user, kind, r)
			return err
		}
		part, err := filePart(r, contentType)
		if err != nil {
			return err
		}
		m, err = a.cfg.Media.Put(ctx, user, kind, part)
		var source *media.SourceError
		if errors.As(err, &source) {
			return formFault(source.Err)
		}
		return err
	})
	return m, err
}

var errNoFile = fault.Field("file", "expected a form with a file in its part file, or the file itself as body")

func filePart(r io.Reader, contentType string) (io.Reader, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return nil, errForm
	}
	form := multipart.NewReader(r, params["boundary"])
	for range maxParts {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, formFault(err)
		}
		if part.FormName() == "file" {
			return part, nil
		}
	}
	return nil, errNoFile
}

// MediaPath names a medium, perhaps a part of it.
type MediaPath struct {
	MediaID string `path:"mediaId" maxLength:"64" doc:"The medium's ID" format:"uuid"`
	Range   string `header:"Range" doc:"bytes=from-to: a part of it" example:"bytes=0-1023"`
	Match   string `header:"If-None-Match" doc:"The ETag of what is there already"`
}

func (a *API) getMedia(ctx context.Context, in *MediaPath) (*huma.StreamResponse, error) {
	id, err := idOf(in.MediaID, models.ErrNoMedia)
	if err != nil {
		return nil, err
	}
	p := callerOf(ctx)
	m, err := a.cfg.Media.Find(ctx, p.user.ID, p.session, id)
	if err != nil {
		return nil, stored(err)
	}
	return a.serveMedia(ctx, m, in)
}

// serveMedia answers with a content as a stream. The content is a stranger's: a browser may save it and not run it.
func (a *API) serveMedia(ctx context.Context, m *media.Item, in *MediaPath) (*huma.StreamResponse, error) {
	tag := `"` + m.ID.String() + `"`
	if in.Match != "" && strings.Contains(in.Match, tag) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			ctx.SetHeader("ETag", tag)
			ctx.SetStatus(http.StatusNotModified)
		}}, nil
	}
	from, length, status := part(in.Range, m.Size)
	if status == http.StatusRequestedRangeNotSatisfiable {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			ctx.SetHeader("Content-Range", fmt.Sprintf("bytes */%d", m.Size))
			f := a.failure(ctx.Context(), errRange)
			f.status = status
			_ = huma.WriteErr(a.huma, ctx, status, "", f)
		}}, nil
	}
	// The content is read after the handler has returned, for as long as the client takes it.
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	content, err := a.cfg.Media.Open(reading, m, from, length)
	if err != nil {
		stop()
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		c := humafiber.Unwrap(ctx)
		for name, value := range map[string]string{
			"Content-Type": servedAs(m.MIMEType), "Content-Disposition": `attachment; filename="` + fileName(m) + `"`,
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'", "Cross-Origin-Resource-Policy": "same-site",
			"Cache-Control": "private, max-age=3600, immutable", "ETag": tag, "Accept-Ranges": "bytes",
		} {
			ctx.SetHeader(name, value)
		}
		if status == http.StatusPartialContent {
			ctx.SetHeader("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, from+length-1, m.Size))
		}
		ctx.SetStatus(status)
		c.Context().SetBodyStream(&download{content: content, conn: c.Context().Conn(), stop: stop}, int(length))
	}}, nil
}

var errRange = fault.New(fault.Invalid, "range_not_satisfiable", "The medium has no such part.")

// part reads a Range of one part. What is none of the known form asks for the whole, as HTTP wants.
func part(header string, size int64) (from, length int64, status int) {
	whole := func() (int64, int64, int) { return 0, size, http.StatusOK }
	spec, ok := strings.CutPrefix(header, "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !ok || !dash || strings.Contains(spec, ",") {
		return whole()
	}
	to := size - 1
	if first == "" { // the last so many
		n, err := strconv.ParseUint(last, 10, 62)
		if err != nil {
			return whole()
		}
		from = max(size-int64(n), 0)
		if n == 0 {
			return 0, 0, http.StatusRequestedRangeNotSatisfiable
		}
		return from, size - from, http.StatusPartialContent
	}
	n, err := strconv.ParseUint(first, 10, 62)
	if err != nil {
		return whole()
	}
	if from = int64(n); last != "" {
		n, err := strconv.ParseUint(last, 10, 62)
		if err != nil || int64(n) < from {
			return whole()
		}
		to = min(int64(n), to)
	}
	if from >= size {
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	}
	return from, to - from + 1, http.StatusPartialContent
}

// servedAs keeps the types that programs show and cannot run; the rest are bytes.
func servedAs(mimetype string) string {
	kind, _, _ := strings.Cut(mimetype, "/")
	switch {
	case mimetype == "image/svg+xml":
	case kind == "image", kind == "audio", kind == "video", mimetype == "application/pdf":
		return mimetype
	}
	return "application/octet-stream"
}

// fileName is one that every system takes.
func fileName(m *media.Item) string {
	extension := ".bin"
	base, _, _ := strings.Cut(m.MIMEType, ";")
	if known := mimetype.Lookup(base); known != nil && known.Extension() != "" {
		extension = known.Extension()
	}
	return "media-" + m.ID.String()[:8] + extension
}

// downloadStall is how long a client may take nothing.
const downloadStall = 30 * time.Second

// download is a content on its way to a client.
type download struct {
	content io.ReadCloser
	conn    net.Conn
	stop    context.CancelFunc
}

// Read is called when what was read before is written.
func (d *download) Read(b []byte) (int, error) {
	if err := d.conn.SetWriteDeadline(time.Now().Add(downloadStall)); err != nil {
		return 0, err
	}
	return d.content.Read(b)
}

// Close is called by the server, however it ended.
func (d *download) Close() error {
	defer d.stop()
	return d.content.Close()
}
