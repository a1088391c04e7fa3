package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/models"
	"kurir/models/modelstest"
)

const exportPath = "/api/v1/sessions/shop/messages/export"

// history gives the session shop n messages of a size.
func (t *tenant) history(n, size int) {
	t.Helper()
	uid := modelstest.Scalar[uuid.UUID](t, t.db, `SELECT uid FROM sessions WHERE id = 'shop'`)
	t.exec(`INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, content, status, whatsapp_id)
		SELECT kurir_uuid_v7(), $1, CASE WHEN n % 3 = 0 THEN 'INBOUND' ELSE 'OUTBOUND' END, '628' || 1000000 + n % 7 || '@s.whatsapp.net', 't', 'TEXT',
			'number ' || n || ' ' || repeat('x', $3), 'SENT', 'w' || n FROM generate_series(1, $2::int) n`, uid, n, size)
	for n := 1; n > 0; {
		var err error
		n, err = models.IndexWords(context.Background(), t.db.Pool, 1000)
		require.NoError(t, err)
	}
}

// exported is what an export answered: the messages' IDs and the last line.
type exported struct {
	ids  []string
	last map[string]any
}

func readExport(t testing.TB, body io.Reader) exported {
	t.Helper()
	var e exported
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		require.Nil(t, e.last, "a line after the last one")
		var line map[string]any
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		if _, end := line["end"]; end {
			e.last = line
			continue
		}
		e.ids = append(e.ids, str(line, "id"))
	}
	return e
}

func (t *tenant) export(query string) exported {
	t.Helper()
	a := t.do("GET", exportPath+query, t.auth(), nil)
	require.Equal(t, 200, a.status, a.text)
	require.Equal(t, "application/x-ndjson", a.header.Get("Content-Type"))
	return readExport(t, strings.NewReader(a.text))
}

func TestExport(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	key := u.connected("shop")
	require.Equal(t, exported{last: map[string]any{"end": true, "messages": 0.0, "nextCursor": nil}}, u.export(""))
	u.history(1003, 10)
	all := u.pages("/api/v1/sessions/shop/messages", "messages", 200)
	require.Len(t, all, 1003)
	require.Equal(t, exported{ids: all, last: map[string]any{"end": true, "messages": 1003.0, "nextCursor": nil}}, u.export(""))
	require.Equal(t, all, readExport(t, strings.NewReader(u.do("GET", exportPath, bearer(key), nil).text)).ids)
	require.Len(t, u.export("?direction=inbound").ids, 334)
	require.Len(t, u.export("?q=number&chat=6281000003").ids, 143)
	require.Len(t, u.export("?q=502").ids, 1)
	first := u.do("GET", "/api/v1/sessions/shop/messages?limit=3", u.auth(), nil).ok(200)
	require.Equal(t, all[3:], u.export("?cursor="+str(first, "nextCursor")).ids)
	w.do("GET", exportPath+"?cursor=nonsense", u.auth(), nil).refused(422, "invalid_cursor")
	w.do("GET", exportPath+"?q=%20", u.auth(), nil).refused(422, "invalid_request")
	w.do("GET", "/api/v1/sessions/other/messages/export", u.auth(), nil).refused(404, "session_not_found")
	for range 5 { // none of them has left a place taken
		require.Len(t, u.export("").ids, 1003)
	}
}

// idle is a client that asks for an export and reads no more than its first line, until it is told to.
type idle struct {
	net.Conn
	t    testing.TB
	resp *http.Response
}

func (t *tenant) idle() *idle {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(t.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", exportPath, t.token)
	require.NoError(t, err)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	return &idle{Conn: c, t: t, resp: resp}
}

func (i *idle) rest() exported {
	i.t.Helper()
	require.NoError(i.t, i.SetReadDeadline(time.Now().Add(patience)))
	return readExport(i.t, i.resp.Body)
}

const large = 60_000 // so that some hundred do not fit into what sockets hold

func TestExportsAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, other := w.register("u"), w.register("other")
	u.connected("shop")
	other.connected("elsewhere")
	u.history(250, large)
	a, b := u.idle(), u.idle()
	require.NotEmpty(t, u.do("GET", exportPath, u.auth(), nil).refused(429, "export_limit").header.Get("Retry-After"))
	other.do("GET", "/api/v1/sessions/elsewhere/messages", other.auth(), nil).ok(200)
	require.Equal(t, 200, other.do("GET", "/api/v1/sessions/elsewhere/messages/export", other.auth(), nil).status)
	got := a.rest()
	require.Len(t, got.ids, 250)
	require.Equal(t, true, got.last["end"])
	require.NoError(t, b.Close()) // half way
	w.eventually("two free places", func() bool { return strings.Count(w.log.String(), "export ended") == 3 })
	c, d := u.idle(), u.idle()
	require.Len(t, c.rest().ids, 250)
	require.Len(t, d.rest().ids, 250)
}

// Who does not read is cut off, and his place is free again.
func TestExportThatNobodyReads(t *testing.T) {
	api.SetExportWriteTime(t, 300*time.Millisecond)
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	u.history(250, large)
	i := u.idle()
	w.eventually("the end of it", func() bool { return strings.Contains(w.log.String(), "the client does not read") })
	body, _ := io.ReadAll(i.resp.Body)
	require.NotContains(t, string(body), `"end"`, "a client sees that it was cut off")
}

// PostgreSQL goes away in the middle: the client is told, and goes on where it was.
func TestExportWithoutPostgres(t *testing.T) {
	t.Parallel()
	url, way := relayed(t, modelstest.URL(t))
	db, err := models.Open(url, 8)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	w := startOn(t, db)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	u.history(250, large)
	all := u.pages("/api/v1/sessions/shop/messages", "messages", 200)
	i := u.idle()
	way.cut()
	got := i.rest()
	require.Equal(t, []any{false, "database_unavailable"}, []any{got.last["end"], got.last["code"]})
	require.EqualValues(t, len(got.ids), got.last["messages"])
	require.NotEmpty(t, got.ids)
	w.do("GET", exportPath, u.auth(), nil).refused(503, "database_unavailable")
	way.mend()
	var rest exported
	w.eventually("PostgreSQL", func() bool { return w.do("GET", "/api/v1/auth/me", u.auth(), nil).status == 200 })
	rest = u.export("?cursor=" + str(got.last, "nextCursor"))
	require.Equal(t, true, rest.last["end"])
	require.Equal(t, all, append(got.ids, rest.ids...))
}

// A process that ends tells its exports.
func TestExportAtShutdown(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	u.history(450, large)
	all := u.pages("/api/v1/sessions/shop/messages", "messages", 200)
	i := u.idle()
	stopped := make(chan error, 1)
	go func() { stopped <- w.stop(t.Context()) }()
	w.eventually("the process to leave", func() bool { // it has stopped to listen
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	got := i.rest()
	require.Equal(t, []any{false, "shutting_down"}, []any{got.last["end"], got.last["code"]})
	require.NoError(t, <-stopped)
	require.Less(t, len(got.ids), len(all))
	next := *u
	next.world = startOn(t, w.db)
	rest := next.export("?cursor=" + str(got.last, "nextCursor"))
	require.Equal(t, all, append(got.ids, rest.ids...), "no message twice, none missing")
}
