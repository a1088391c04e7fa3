package api_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/wire"
)

const echoPath = "/api/v1/sessions/shop/echo/send"

// withEcho adds a route that takes media in its body, as those that send do, and answers what became of it.
func withEcho(w *world, _ *api.Config) { w.made = api.AddEcho }

func newEcho(t testing.TB) (*world, *tenant) {
	w := start(t, withEcho)
	w.worker()
	u := w.register("u")
	u.session("shop")
	return w, u
}

func (u *tenant) echo(contentType, body string) *answer {
	u.Helper()
	return u.do("POST", echoPath, append(u.auth(), "Content-Type", contentType), body)
}

func (u *tenant) echoed(contentType, body string) map[string]any {
	u.Helper()
	return u.echo(contentType, body).ok(200)["body"].(map[string]any)
}

func (w *world) stored(id any) string {
	w.Helper()
	m, err := w.media.Find(w.Context(), modelsUser(w), nil, uuid.MustParse(id.(string)))
	require.NoError(w, err)
	r, err := w.media.Open(w.Context(), m, 0, -1)
	require.NoError(w, err)
	defer r.Close()
	content, err := io.ReadAll(r)
	require.NoError(w, err)
	return string(content)
}

func modelsUser(w *world) (id uuid.UUID) {
	require.NoError(w, w.db.Pool.QueryRow(w.Context(), `SELECT user_id FROM sessions WHERE id = 'shop'`).Scan(&id))
	return id
}

func TestBase64InSendRequests(t *testing.T) {
	t.Parallel()
	w, u := newEcho(t)
	std := base64.StdEncoding.EncodeToString([]byte(picture))
	large := "GIF89a" + strings.Repeat("y", 3<<20)
	for what, c := range map[string]struct{ body, content string }{
		"alone":             {`{"mediaBase64":"` + std + `"}`, picture},
		"first":             {`{"mediaBase64":"` + std + `","to":"1","n":[{"mediaBase64":"x"}]}`, picture},
		"last, with spaces": {" { \"to\" : \"1\" ,\n\t\"mediaBase64\" :\r\n \"" + std + "\" } \n", picture},
		"between":           {`{"a":"\"mediaBase64\":","mediaBase64":"` + std + `","b":"}"}`, picture},
		"a data URL":        {`{"mediaBase64":"data:image/png;name=x;base64,` + std + `"}`, picture},
		"an escaped one":    {`{"mediaBase64":"data:image\/png;base64,` + strings.ReplaceAll(std, "/", `\/`) + `"}`, picture},
		"without padding":   {`{"mediaBase64":"` + base64.RawStdEncoding.EncodeToString([]byte("GIF89a1")) + `"}`, "GIF89a1"},
		"for URLs":          {`{"mediaBase64":"` + base64.URLEncoding.EncodeToString([]byte("\xff\xfe\xfd>>>???")) + `"}`, "\xff\xfe\xfd>>>???"},
		"in lines":          {`{"mediaBase64":"` + std[:64] + `\r\n` + std[64:] + `\u000a"}`, picture},
		"large":             {`{"to":"1","mediaBase64":"` + base64.StdEncoding.EncodeToString([]byte(large)) + `","z":1}`, large},
	} {
		got := u.echoed("application/json", c.body)
		require.NotContains(t, got, "mediaBase64", what)
		require.Equal(t, c.content, w.stored(got["mediaId"]), what)
	}
	got := u.echoed("application/json", `{"to":"1","mediaBase64":"`+std+`","n":[{"mediaBase64":"x"}],"t":"mediaBase64"}`)
	delete(got, "mediaId")
	require.Equal(t, map[string]any{"to": "1", "n": []any{map[string]any{"mediaBase64": "x"}}, "t": "mediaBase64"}, got)
	require.Equal(t, map[string]any{"caption": "mediaBase64"}, u.echoed("application/json", `{"caption":"mediaBase64"}`), "nothing is taken out")

	before := w.rows()
	huge := strings.Repeat("x", 1<<20)
	for body, code := range map[string]string{
		`{"mediaBase64":""}`: "422 media_empty", `{"mediaBase64":"data:image/png;base64,"}`: "422 media_empty",
		`{"mediaBase64":"a"}`: "422 invalid_request", `{"mediaBase64":"===="}`: "422 media_empty", `{"mediaBase64":"YQ==YQ=="}`: "422 invalid_request",
		`{"mediaBase64":"é"}`: "422 invalid_request", `{"mediaBase64":"<html>"}`: "422 invalid_request", `{"mediaBase64":"\u1234"}`: "422 invalid_request",
		`{"mediaBase64":"data:image/png,x"}`: "422 invalid_request", `{"mediaBase64":"data:` + strings.Repeat("x", 300) + `;base64,YQ=="}`: "422 invalid_request",
		`{"mediaBase64":"YWJj`: "422 invalid_request", `{"mediaBase64":"YWJj\`: "422 invalid_request",
		`{"mediaId":"x","mediaBase64":"YWJj"}`:      "422 invalid_request",
		`{"a":"` + huge + `"}`:                      "413 too_large",
		`{"a":"` + huge + `","mediaBase64":"YWJj"}`: "413 too_large",
		`["mediaBase64","` + std + `"]`:             "422 invalid_request",
		`{"mediaBase64":5}`:                         "200 ",
		`{"x":{"mediaBase64":"` + std + `"}}`:       "200 ",
		`{"mediaBase64" "` + std + `"}`:             "400 malformed_json",
		`{"mediaBase64":["x"] "` + std + `"}`:       "400 malformed_json",
		`{"x":"\u0000","y":"mediaBase64"}`:          "422 invalid_request",
	} {
		a := u.echo("application/json", body)
		sent, _ := a.body["code"].(string)
		require.Equal(t, code, fmt.Sprint(a.status, " ", sent), "%.80s: %.300s", body, a.text)
	}
	w.unchanged(before, "a refused medium")
	u.echo("application/json", `{"mediaBase64":"YWJj","x":{},"mediaBase64":"YWJj"}`).refused(422, "invalid_request")
	require.Contains(t, u.echo("application/json", `{"mediaBase64":"YWJj","mediaId":"x"}`).refused(422, "invalid_request").text, "mediaBase64: expected either this or mediaId")
	u.echo("application/json", `{"mediaBase64":"YWJj"`).refused(400, "malformed_json")
	u.echo("text/plain", `{"mediaBase64":"YWJj"}`).refused(415, "unsupported_media_type")
	u.do("POST", "/api/v1/sessions/nothing/echo/send", u.auth(), `{"mediaBase64":"YWJj"}`).refused(404, "session_not_found")
}

func TestFormsAsSendRequests(t *testing.T) {
	t.Parallel()
	w, u := newEcho(t)
	got := u.echoed(fileForm(t, `C:\temp\report ü.pdf`, "%PDF-1.7 x", "to", "6281234567890", "type", "document", "n", `{"a":[1]}`, "flag", "true", "text", "hello"))
	require.Equal(t, "%PDF-1.7 x", w.stored(got["mediaId"]))
	delete(got, "mediaId")
	require.Equal(t, map[string]any{"to": 6281234567890.0, "type": "document", "filename": "report ü.pdf", "n": map[string]any{"a": []any{1.0}}, "flag": true, "text": "hello"}, got,
		"a field that no schema calls a text is JSON where it can be")
	got = u.echoed(fileForm(t, "blob", picture, "data", `{"to":"1","caption":"x\ny","type":"image"}`))
	require.Equal(t, picture, w.stored(got["mediaId"]))
	require.Equal(t, []any{"1", "x\ny", nil}, []any{got["to"], got["caption"], got["filename"]})
	require.Equal(t, map[string]any{"to": "1"}, u.echoed(fileForm(t, "", "", "data", `{"to":"1"}`)), "a form needs no file")
	large := "GIF89a" + strings.Repeat("z", 3<<20)
	require.Equal(t, large, w.stored(u.echoed(fileForm(t, "a.gif", large))["mediaId"]))

	before := w.rows()
	refuse := func(status int, code, contentType, body string) {
		t.Helper()
		u.echo(contentType, body).refused(status, code)
	}
	for _, fields := range [][]string{{"data", "[]"}, {"data", "{"}, {"data", "5"}} {
		contentType, body := fileForm(t, "", "", fields...)
		refuse(422, "invalid_request", contentType, body)
	}
	contentType, body := fileForm(t, "x.png", picture, "type", "video")
	refuse(422, "media_type_not_allowed", contentType, body)
	contentType, body = fileForm(t, "", "", "a", strings.Repeat("x", 1<<20))
	refuse(413, "too_large", contentType, body)
	contentType, body = fileForm(t, "", "", "a", "x\x00y")
	refuse(422, "invalid_request", contentType, body)
	many := make([]string, 300)
	contentType, body = fileForm(t, "", "", many...)
	refuse(422, "malformed_form", contentType, body)
	refuse(422, "malformed_form", "multipart/form-data", "x")
	refuse(422, "malformed_form", "multipart/form-data; boundary=x", "")
	w.unchanged(before, "a refused form")
	contentType, body = fileForm(t, "x.png", picture, "mediaUrl", "https://example.com/")
	refuse(422, "invalid_request", contentType, body)

	// The text fields of the real routes stay texts, whatever they look like.
	w.exec(`UPDATE lanes SET open = true`)
	contentType, body = fileForm(t, "", "", "to", "6281234567890", "message", "12345")
	w.do("POST", "/api/v1/sessions/shop/send", append(u.auth(), "Content-Type", contentType), body).ok(202)
}

// The ID of a medium is made of its content, so a repeated request is the same request.
func TestIdempotencyOfMedia(t *testing.T) {
	t.Parallel()
	_, u := newEcho(t)
	send := func(key, contentType, body string) *answer {
		return u.do("POST", echoPath, append(u.auth(), "Content-Type", contentType, "Idempotency-Key", key), body)
	}
	content := base64.StdEncoding.EncodeToString([]byte("GIF89a" + strings.Repeat("x", 1<<20)))
	first := send("k", "application/json", `{"to":"1","mediaBase64":"`+content+`"}`)
	first.ok(200)
	for _, prefix := range []string{"", "data:image/gif;base64,"} {
		again := send("k", "application/json", `{"to":"1","mediaBase64":"`+prefix+content+`"}`)
		require.Equal(t, first.ok(200), again.ok(200))
		require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	}
	send("k", "application/json", `{"to":"1","mediaBase64":"YWJj"}`).refused(409, "idempotency_mismatch")

	contentType, form := fileForm(t, "a.png", picture, "to", "x", "type", "image")
	first = send("f", contentType, form)
	first.ok(200)
	contentType, form = fileForm(t, "a.png", picture, "to", "x", "type", "image") // with another boundary
	require.Equal(t, first.ok(200), send("f", contentType, form).ok(200))
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// filler is so many bytes, and looks at the heap while they are read.
type filler struct {
	left, since int
	most        uint64
}

var block = bytes.Repeat([]byte("A"), 64<<10)

func (f *filler) Read(b []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	if f.since += len(b); f.since > 16<<20 {
		f.most, f.since = max(f.most, heap()), 0
	}
	n := copy(b[:min(len(b), f.left)], block)
	f.left -= n
	return n, nil
}

// Large media pass through a little memory, in each of the forms in which they come and go.
func TestLargeMediaTakeLittleMemory(t *testing.T) {
	_, u := newEcho(t)
	u.uploaded(u.auth(), "", picture)    // what the first upload makes for good
	const size, room = 24 << 20, 6 << 20 // a multiple of 3, for base64
	base := heap()
	send := func(path, contentType, before string, content *filler, after string, status int) {
		t.Helper()
		r, err := http.NewRequest("POST", u.url+path, io.MultiReader(strings.NewReader(before), content, strings.NewReader(after)))
		require.NoError(t, err)
		r.ContentLength = int64(len(before) + content.left + len(after))
		r.Header.Set("Authorization", "Bearer "+u.token)
		r.Header.Set("Content-Type", contentType)
		resp, err := client.Do(r)
		require.NoError(t, err)
		a := read(t, resp)
		require.Equal(t, status, a.status, a.text)
		require.True(t, content.most > 0 || status == 413)
		require.Less(t, content.most, base+room, "%s of %s", path, contentType)
	}
	send(uploadPath+"?kind=document", "text/plain", "", &filler{left: size}, "", 201)
	head := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n"
	send(uploadPath, "multipart/form-data; boundary=x", head, &filler{left: size}, "\r\n--x--\r\n", 201)
	send(echoPath, "multipart/form-data; boundary=x", head, &filler{left: size}, "\r\n--x--\r\n", 200)
	send(echoPath, "application/json", `{"mediaBase64":"`, &filler{left: size / 3 * 4}, `"}`, 200)
	send(uploadPath, "", "", &filler{left: 101 << 20}, "", 413)

	resp, err := http.NewRequest("GET", u.url+"/api/v1/media/"+firstLarge(u.world, size), nil)
	require.NoError(t, err)
	resp.Header.Set("Authorization", "Bearer "+u.token)
	got, err := client.Do(resp)
	require.NoError(t, err)
	defer got.Body.Close()
	watch := &filler{left: 1 << 40}
	n, err := io.Copy(writerFunc(func(b []byte) (int, error) {
		if watch.since += len(b); watch.since > 16<<20 {
			watch.most, watch.since = max(watch.most, heap()), 0
		}
		return len(b), nil
	}), got.Body)
	require.NoError(t, err)
	require.EqualValues(t, size, n)
	require.Less(t, watch.most, base+room)
}

func firstLarge(w *world, size int64) (id string) {
	require.NoError(w, w.db.Pool.QueryRow(w.Context(), `SELECT id::text FROM media WHERE size = $1 LIMIT 1`, size).Scan(&id))
	return id
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// begun is an upload that has sent its head and a little more, and goes on if the test wants it to.
type begun struct {
	t    *testing.T
	conn net.Conn
}

func (w *world) begin(t *testing.T, u *tenant, length int) *begun {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", uploadPath, u.token, length, strings.Repeat("x", 10_000))
	require.NoError(t, err)
	return &begun{t, conn}
}

func (b *begun) answer() *answer {
	resp, err := http.ReadResponse(bufio.NewReader(b.conn), nil)
	require.NoError(b.t, err)
	return read(b.t, resp)
}

func TestUploadsAtOnce(t *testing.T) {
	t.Parallel()
	var made *api.API
	w := start(t, func(w *world, c *api.Config) {
		c.Uploads = api.UploadLimits{AtOnce: 2, PerUser: 1, Timeout: time.Minute}
		w.made = func(a *api.API) { made = a }
	})
	w.worker()
	u, v, x := w.register("u"), w.register("v"), w.register("x")
	u.session("shop")
	for id, who := range map[string]*tenant{"v": v, "x": x} {
		who.session(id)
	}
	one := w.begin(t, u, 20_000)
	w.eventually("the first upload", func() bool { return api.UploadsUnderWay(made) == 1 })
	w.do("POST", uploadPath, u.auth(), picture).refused(429, "too_many_uploads")
	w.do("POST", "/api/v1/sessions/v/media", v.auth(), picture).ok(201)
	for _, content := range []string{picture, page} { // what comes in has places of its own
		_, err := wire.NewGateway(wire.NewHTTPClient(), w.url, workerToken).PutMedia(t.Context(),
			wire.MediaOwner{WorkerID: "w1", Secret: w.vault.WorkerSecret("w1", 1), Term: 1, SessionID: w.uid("shop").String()}, strings.NewReader(content))
		require.NoError(t, err)
	}
	two := w.begin(t, u, 20_000) // refused before it is sent
	two.answer().refused(429, "too_many_uploads")
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /api/v1/sessions/v/media HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100000\r\n\r\n%s", v.token, strings.Repeat("x", 10_000))
	require.NoError(t, err)
	w.eventually("all places to be taken", func() bool { return api.UploadsUnderWay(made) == 2 })
	w.do("POST", "/api/v1/sessions/x/media", x.auth(), picture).refused(503, "uploads_busy")
	require.NoError(t, conn.Close()) // half way
	w.eventually("its place", func() bool { return api.UploadsUnderWay(made) == 1 })
	w.do("POST", "/api/v1/sessions/x/media", x.auth(), picture).ok(201)
	_, err = io.WriteString(one.conn, strings.Repeat("x", 10_000))
	require.NoError(t, err)
	one.answer().ok(201)
	w.do("POST", uploadPath, u.auth(), picture).ok(201)
}

func TestUploadsThatAreTooSlow(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) {
		c.Uploads = api.UploadLimits{AtOnce: 10, PerUser: 10, Timeout: 300 * time.Millisecond}
	})
	w.worker()
	u := w.register("u")
	u.session("shop")
	a := w.begin(t, u, 1<<20).answer()
	a.refused(408, "request_timeout")
	require.True(t, a.closes)
	require.Zero(t, w.count("media"))
}

// After an upload that was read to its end the connection goes on; after another it does not, and what is left of the body
// is no request.
func TestConnectionsAfterUploads(t *testing.T) {
	t.Parallel()
	w, u := newEcho(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	answers := bufio.NewReader(conn)
	ask := func(request string) *answer {
		_, err := io.WriteString(conn, request)
		require.NoError(t, err)
		resp, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		return read(t, resp)
	}
	head := func(path string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + u.token + "\r\n"
	}
	chunks := fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n3\r\nabc\r\n0\r\n\r\n", len(picture), picture)
	contentType, form := fileForm(t, "a.png", picture)
	for range 2 {
		require.False(t, ask(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head(uploadPath), len(picture), picture)).closes)
		require.False(t, ask(head(uploadPath)+chunks).closes)
		require.False(t, ask(fmt.Sprintf("%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", head(uploadPath), contentType, len(form), form)).closes)
		body := `{"mediaBase64":"` + strings.Repeat("A", 1<<20) + `"}`
		require.False(t, ask(fmt.Sprintf("%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", head(echoPath), len(body), body)).closes)
		require.False(t, ask(fmt.Sprintf("%sContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head(echoPath), len(body), body)).closes)
		require.Equal(t, 200, ask("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").status)
	}
	smuggled := "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
	body := strings.Repeat(" ", 20_000) + smuggled
	a := ask(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", strings.Replace(head(uploadPath), u.token, "wrong", 1), len(body), body))
	a.refused(401, "invalid_token")
	require.True(t, a.closes)
	_, err = answers.ReadByte()
	require.ErrorIs(t, err, io.EOF, "nothing but the one answer")
}

// Clients that go away half way leave nothing.
func TestUploadsThatEndHalfWay(t *testing.T) {
	t.Parallel()
	w, u := newEcho(t)
	for i := range 6 {
		b := w.begin(t, u, []int{1 << 20, 10_001}[i%2])
		require.NoError(t, b.conn.Close())
	}
	for _, cut := range []string{"", "2710", "2710\r\n", "2710\r\n" + strings.Repeat("x", 9_000), "2710\r\n" + strings.Repeat("x", 10_000), "2710\r\n" + strings.Repeat("x", 10_000) + "\r\n",
		"2710\r\n" + strings.Repeat("x", 10_000) + "\r\n1", "2710\r\n" + strings.Repeat("x", 10_000) + "\r\n0", "2710\r\n" + strings.Repeat("x", 10_000) + "\r\n0\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		require.NoError(t, err)
		_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n%s", uploadPath, u.token, cut)
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
		_, err = io.ReadAll(conn) // so that it is over
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	w.eventually("places", func() bool { return w.do("POST", uploadPath, u.auth(), picture).status == 201 })
	require.EqualValues(t, 1, w.count("media"))
}

// What two readers would end at different places is no request: a proxy before us may be the other one.
func TestBodiesWithTwoLengths(t *testing.T) {
	t.Parallel()
	w := start(t)
	smuggled := "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, lengths := range []string{"Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\ncontent-length: 5", "Content-Length: 5\r\nContent-Length: 5",
		"Content-Length: 5\r\nContent-Length: 50", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: xchunked", "Content-Length: +5", "Content-Length: 5, 5", "Content-Length: -1"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		require.NoError(t, err)
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+lengths+"\r\n\r\n0\r\n\r\n"+smuggled)
		require.NoError(t, err)
		answers := bufio.NewReader(conn)
		resp, err := http.ReadResponse(answers, nil)
		require.NoError(t, err, lengths)
		a := read(t, resp)
		require.Equal(t, 400, a.status, "%s: %s", lengths, a.text)
		a.refused(400, "bad_request")
		_, err = answers.ReadByte()
		require.ErrorIs(t, err, io.EOF, "%s: nothing but the one answer", lengths)
		require.NoError(t, conn.Close())
	}
}
