package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/wire"
)

const (
	uploadPath = "/api/v1/sessions/shop/media"
	page       = "<!DOCTYPE html><html><script>alert(1)</script></html>"
)

var picture = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + strings.Repeat("x", 5000)

// fileForm is a form with fields, name and value in turn, and a file.
func fileForm(t testing.TB, name, content string, fields ...string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		require.NoError(t, form.WriteField(fields[i], fields[i+1]))
	}
	if content != "" {
		part, err := form.CreateFormFile("file", name)
		require.NoError(t, err)
		_, err = io.WriteString(part, content)
		require.NoError(t, err)
	}
	require.NoError(t, form.Close())
	return form.FormDataContentType(), b.String()
}

func (w *world) uploaded(with headers, contentType, body string) map[string]any {
	w.Helper()
	return w.do("POST", uploadPath, append(headers{"Content-Type", contentType}, with...), body).ok(201)
}

func TestUploadAndDownload(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	m := w.uploaded(u.auth(), "text/html", picture) // what is said of it is not believed
	sum := sha256.Sum256([]byte(picture))
	id := models.MediaID(uuid.MustParse(u.id), sum).String()
	require.Equal(t, map[string]any{"id": id, "mediaId": id, "url": "/api/v1/media/" + id, "mimetype": "image/png", "size": float64(len(picture)), "sha256": hex.EncodeToString(sum[:])}, m)
	contentType, form := fileForm(t, "../../etc/passwd", picture, "other", "field")
	require.Equal(t, m, w.uploaded(u.auth(), contentType, form), "the same content is the same medium")
	require.EqualValues(t, 1, w.count("media"))

	a := w.do("GET", str(m, "url"), u.auth(), nil)
	require.Equal(t, 200, a.status)
	require.Equal(t, picture, a.text)
	for name, value := range map[string]string{"Content-Type": "image/png", "Content-Disposition": `attachment; filename="media-` + id[:8] + `.png"`,
		"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'", "ETag": `"` + id + `"`, "Accept-Ranges": "bytes"} {
		require.Equal(t, value, a.header.Get(name), name)
	}
	require.Contains(t, a.header.Get("Cache-Control"), "private")
	require.Equal(t, picture, w.do("GET", str(m, "url")+"?apiKey="+u.key, nil, nil).text)
	require.Equal(t, 304, w.do("GET", str(m, "url"), append(u.auth(), "If-None-Match", `W/"x", "`+id+`"`), nil).status)
	w.do("GET", str(m, "url"), nil, nil).refused(401, "unauthenticated")

	size := len(picture)
	for _, c := range []struct {
		asked   string
		status  int
		content string
	}{
		{"bytes=0-3", 206, picture[:4]}, {"bytes=4-", 206, picture[4:]}, {"bytes=-3", 206, picture[size-3:]}, {"bytes=5000-999999", 206, picture[5000:]},
		{"bytes=-999999", 206, picture}, {"bytes=0-0", 206, picture[:1]},
		{"bytes=3-1", 200, picture}, {"bytes=0-1,5-6", 200, picture}, {"items=0-3", 200, picture}, {"bytes=x", 200, picture}, {"bytes=-", 200, picture}, {"bytes=1", 200, picture},
		{"bytes=999999-", 416, ""}, {"bytes=-0", 416, ""}, {"bytes=9223372036854775807-", 200, picture},
	} {
		a := w.do("GET", str(m, "url"), append(u.auth(), "Range", c.asked), nil)
		require.Equal(t, c.status, a.status, c.asked)
		if c.status == 416 {
			a.refused(416, "range_not_satisfiable")
		} else {
			require.Equal(t, c.content, a.text, c.asked)
		}
	}
}

// A tenant's page never runs on our origin.
func TestContentsThatCouldRun(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	for _, content := range []string{page, `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"></svg>`, `<?xml version="1.0"?><x:script xmlns:x="http://www.w3.org/1999/xhtml">alert(1)</x:script>`, "alert(1)"} {
		m := w.uploaded(u.auth(), "text/html", content)
		a := w.do("GET", str(m, "url"), append(u.auth(), "Accept", "text/html"), nil)
		require.Equal(t, content, a.text)
		require.Equal(t, "application/octet-stream", a.header.Get("Content-Type"), m["mimetype"])
		require.Contains(t, a.header.Get("Content-Disposition"), "attachment")
		require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
		require.Contains(t, a.header.Get("Content-Security-Policy"), "sandbox")
	}
}

func TestMediaOfOthers(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, other := w.register("u"), w.register("other")
	key, secondKey := u.session("shop"), u.session("second")
	m := w.uploaded(bearer(key), "", picture)
	path := str(m, "url")
	nothing := w.do("GET", "/api/v1/media/"+uuid.NewString(), u.auth(), nil).refused(404, "media_not_found").body["error"]
	require.Equal(t, nothing, w.do("GET", path, other.auth(), nil).refused(404, "media_not_found").body["error"])
	w.do("GET", path, bearer(key), nil).refused(404, "media_not_found") // no message of its session has it
	w.do("POST", uploadPath, other.auth(), picture).refused(404, "session_not_found")
	w.do("POST", uploadPath, bearer(secondKey), picture).refused(404, "session_not_found")
	require.EqualValues(t, 1, w.count("media"))

	w.exec(`UPDATE lanes SET open = true`)
	w.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "x")).ok(202)
	w.exec(`UPDATE messages SET media_id = $1`, str(m, "id"))
	require.Equal(t, picture, w.do("GET", path, bearer(key), nil).text)
	w.do("GET", path, bearer(secondKey), nil).refused(404, "media_not_found")
}

func TestUploadsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	before := w.rows()
	up := func(query, contentType, body string) *answer {
		return w.do("POST", uploadPath+query, append(u.auth(), "Content-Type", contentType), body)
	}
	up("", "image/png", "").refused(422, "media_empty")
	w.do("POST", uploadPath, u.auth(), nil).refused(422, "media_empty")
	up("?kind=image", "image/png", page).refused(422, "media_type_not_allowed")
	up("?kind=video", "video/mp4", picture).refused(422, "media_type_not_allowed")
	up("?kind=text", "", picture).refused(422, "invalid_request")
	up("?kind=sticker", "", "RIFF\x00\x00\x00\x00WEBPVP8 "+strings.Repeat("x", 600<<10)).refused(413, "media_too_large")
	up("", "multipart/form-data", picture).refused(422, "malformed_form")
	up("", "multipart/form-data; boundary=x", picture).refused(422, "malformed_form")
	up("", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nhalf").refused(422, "malformed_form")
	contentType, form := fileForm(t, "", "", "a", "b")
	up("", contentType, form).refused(422, "invalid_request")
	w.do("POST", "/api/v1/sessions/nothing/media", u.auth(), picture).refused(404, "session_not_found")
	w.do("POST", uploadPath, append(u.auth(), "Content-Encoding", "gzip"), picture).refused(415, "unsupported_media_type")
	// A large body that nobody wants to read is refused all the same, and its sender hears it.
	large := strings.Repeat("x", 8<<20)
	w.do("POST", uploadPath, nil, large).refused(401, "unauthenticated")
	w.do("POST", "/api/v1/sessions/nothing/media", u.auth(), large).refused(404, "session_not_found")
	w.do("POST", "/api/v1/nothing/media", u.auth(), large).refused(404, "route_not_found")
	w.do("POST", "/api/v1/sessions/shop/send", nil, large).refused(401, "unauthenticated")
	w.unchanged(before, "a refused upload")
}

func TestWorkersFetchAndHandOverMedia(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, other := w.register("u"), w.register("other")
	u.session("shop")
	theirs := w.do("POST", "/api/v1/sessions", other.auth(), map[string]any{"name": "x", "sessionId": "theirs"}).ok(202)
	require.NotEmpty(t, theirs)
	uid := func(id string) (uid string) {
		require.NoError(t, w.db.Pool.QueryRow(t.Context(), `SELECT uid::text FROM sessions WHERE id = $1`, id).Scan(&uid))
		return uid
	}
	m := w.uploaded(u.auth(), "", picture)
	g := wire.NewGateway(wire.NewHTTPClient(), w.url, workerToken)
	owner := wire.MediaOwner{WorkerID: "w1", Secret: w.vault.WorkerSecret("w1", 1), Term: 1, SessionID: uid("shop")}

	content, err := g.Media(t.Context(), owner, str(m, "id"))
	require.NoError(t, err)
	raw, err := io.ReadAll(content)
	require.NoError(t, err)
	require.NoError(t, content.Close())
	require.Equal(t, picture, string(raw))
	require.EqualValues(t, len(picture), content.Size)
	put, err := g.PutMedia(t.Context(), owner, strings.NewReader(picture))
	require.NoError(t, err)
	require.Equal(t, str(m, "id"), put.ID)
	require.Equal(t, "image/png", put.MIMEType)
	for _, content := range []string{picture, "GIF89a"} { // of unknown length, as it comes from the network
		put, err := g.PutMedia(t.Context(), owner, io.MultiReader(strings.NewReader(content)))
		require.NoError(t, err)
		require.Equal(t, content, w.do("GET", put.URL, u.auth(), nil).text)
	}
	put, err = g.PutMedia(t.Context(), owner, strings.NewReader(page)) // whatever comes in
	require.NoError(t, err)
	require.Equal(t, page, w.do("GET", put.URL, u.auth(), nil).text)

	_, err = g.PutMedia(t.Context(), owner, strings.NewReader(""))
	require.Equal(t, "media_empty", wire.Code(err))
	_, err = g.Media(t.Context(), owner, uuid.NewString())
	require.Equal(t, wire.CodeMediaNotFound, wire.Code(err))
	with := func(change func(o *wire.MediaOwner)) wire.MediaOwner {
		o := owner
		change(&o)
		return o
	}
	for code, o := range map[string]wire.MediaOwner{
		"media_not_found":   with(func(o *wire.MediaOwner) { o.SessionID = uid("theirs") }), // held by the worker, of another tenant
		"unauthenticated":   with(func(o *wire.MediaOwner) { o.Secret = "wrong" }),
		"session_not_found": with(func(o *wire.MediaOwner) { o.SessionID = uuid.NewString() }),
	} {
		_, err := g.Media(t.Context(), o, str(m, "id"))
		require.Equal(t, code, wire.Code(err), "%v", err)
	}
	w.exec(`UPDATE sessions SET worker_id = NULL, moved_from = 'w1' WHERE id = 'shop'`)
	content, err = g.Media(t.Context(), owner, str(m, "id")) // it has just held it
	require.NoError(t, err)
	require.NoError(t, content.Close())
	w.exec(`UPDATE sessions SET moved_from = NULL WHERE id = 'shop'`)
	_, err = g.Media(t.Context(), owner, str(m, "id"))
	require.Equal(t, "session_not_found", wire.Code(err))
	_, err = g.PutMedia(t.Context(), owner, strings.NewReader(picture))
	require.Equal(t, "session_not_found", wire.Code(err))
	w.exec(`UPDATE sessions SET worker_id = 'w1' WHERE id = 'shop'`)
	w.exec(`UPDATE workers SET term = 2`)
	_, err = g.Media(t.Context(), owner, str(m, "id"))
	require.Error(t, err, "of an old term")
	require.Equal(t, http.StatusOK, w.do("GET", str(m, "url"), u.auth(), nil).status)
}
