package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

// TestMessagesAsDocumented does what the tables of docs/messages.md say: each row goes the whole way, out to a phone or in
// from one, and phone and subscriber see what the row promises.
func TestMessagesAsDocumented(t *testing.T) {
	t.Parallel()
	out, in := documented(t, "## Types"), documented(t, "## What comes in")
	b := newBench(t)
	for i, r := range out {
		b.run("out/"+r[0], func() { b.sends(r, byte(i)) })
	}
	for i, r := range in {
		b.run("in/"+r[0], func() { b.brings(r, byte(100+i)) })
	}
	if t.Failed() {
		return
	}
	require.Subset(t, b.out, message.Types(), "each type has a row")
	require.Subset(t, b.in, append(message.Types()[:10], message.Vote, message.Unknown), "and each that comes in")
	b.run("a call that is refused", b.refusesCalls)
	r := b.report()
	require.Zero(t, r.Duplicates+r.Reordered+r.DoubleConnections)
	require.Empty(t, b.hooks.bad)
}

// documented reads the rows of the table under a heading.
func documented(t *testing.T, heading string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/messages.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), heading+"\n")
	require.True(t, found, heading)
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		if cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | "); strings.HasPrefix(line, "| ") && strings.Contains(line, "`") {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	require.Greater(t, len(rows), 10, heading)
	return rows
}

// codes are the pieces of a cell in backticks, and what stands before the first.
func codes(cell string) (before string, all []string) {
	for i, piece := range strings.Split(cell, "`") {
		if i == 0 {
			before = strings.TrimSpace(piece)
		} else if i%2 == 1 {
			all = append(all, piece)
		}
	}
	return before, all
}

// bench is a cluster with one session, whose subscriber keeps all it hears.
type bench struct {
	*cluster
	session, uid string
	user         uuid.UUID
	files        *httptest.Server
	served       atomic.Pointer[sample] // at every address of files
	out, in      []string               // types that went
}

func newBench(t *testing.T) *bench {
	b := &bench{cluster: newCluster(t, "MEDIA_ALLOW_CIDRS=127.0.0.0/8")}
	b.hooks.keepAll()
	b.files = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b.served.Load().content) }))
	t.Cleanup(b.files.Close)
	b.session = b.linkedSessions(1)[0]
	b.uid = modelstest.Scalar[string](t, b.db, `SELECT uid::text FROM sessions`)
	b.user = modelstest.Scalar[uuid.UUID](t, b.db, `SELECT user_id FROM sessions`)
	return b
}

// run runs one row; others follow where it fails.
func (b *bench) run(name string, do func()) {
	whole := b.t
	defer func() { b.t = whole }()
	whole.Run(name, func(t *testing.T) {
		b.t = t
		do()
		b.noneDied()
	})
}

// known replaces the names in braces that a row uses.
type known map[string]string

func (k known) in(text string) string {
	for name, value := range k {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

func (k known) addFile(b *bench, s sample) {
	k["mediaId"] = models.MediaID(b.user, s.sum()).String()
	k["size"], k["sha256"], k["base64"] = fmt.Sprint(len(s.content)), s.sha256(), s.base64()
}

const correspondent = "6281234567890"

// sends runs a row of what goes out.
func (b *bench) sends(row []string, mark byte) {
	require.Len(b.t, row, 4)
	form, takes := codes(row[1])
	_, gets := codes(row[2])
	_, sees := codes(row[3])
	require.Len(b.t, gets, 1)
	wanted := decoded[map[string]any](b.t, known{"size": "0"}.in(gets[0]))
	kind := wanted["type"].(string)
	k := known{}
	if strings.Contains(row[1], "{messageId}") {
		k["messageId"], k["whatsappId"] = b.hello()
	}
	if strings.Contains(row[1], "{theirMessageId}") {
		k["theirMessageId"], k["theirWhatsappId"] = b.theirs(mark)
	}
	if message.HasMedia(kind) {
		file := sampleOf(b.t, kind, mark)
		b.served.Store(&file)
		k.addFile(b, file)
		k["file"] = file.name
	}
	if strings.Contains(row[1], "{mediaId}") {
		b.upload(*b.served.Load(), kind, k["mediaId"])
	}
	address, body := "/sessions/"+b.session+"/send", takes[len(takes)-1]
	if len(takes) == 2 {
		_, address, _ = strings.Cut(k.in(takes[0]), " ")
	}
	local := func(text string) string {
		return strings.ReplaceAll(text, `"mediaUrl":"https://example.com/`, `"mediaUrl":"`+b.files.URL+`/`)
	}
	sent := b.send(address, local(k.in(body)), form == "form")

	to, isText := wanted["to"].(string)
	if !isText {
		to = correspondent
	}
	for i := 0; i < len(sees); i++ {
		if strings.HasPrefix(sees[i], "{") {
			for _, event := range []string{"message.sent", "message.delivered", "message.read"} {
				b.told(event, sent, local(k.in(sees[i])))
			}
			continue
		}
		b.told(sees[i], "", k.in(sees[i+1]))
		i++
	}
	b.shown(strings.TrimSuffix(to, "@s.whatsapp.net"), sent, k.in(gets[0]))
	b.out = append(b.out, kind)
}

// hello sends a text and waits for it.
func (b *bench) hello() (id, whatsappID string) {
	id = b.send("/sessions/"+b.session+"/send", `{"to":"`+correspondent+`","message":"Hello"}`, false)
	data := b.told("message.read", id, `{"message":"Hello"}`)
	return id, data["whatsappId"].(string)
}

// send makes a request of JSON, or of a form with the same fields, and returns the message's ID.
func (b *bench) send(path, body string, form bool) string {
	b.t.Helper()
	contentType, content := "application/json", []byte(body)
	if form {
		contentType, content = b.form(decoded[map[string]string](b.t, body))
	}
	return b.post(path, contentType, content, http.StatusAccepted)
}

func (b *bench) form(fields map[string]string) (contentType string, content []byte) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for name, value := range fields {
		if name != "file" {
			require.NoError(b.t, w.WriteField(name, value))
		}
	}
	part, err := w.CreateFormFile("file", fields["file"])
	require.NoError(b.t, err)
	_, err = part.Write(b.served.Load().content)
	require.NoError(b.t, err)
	require.NoError(b.t, w.Close())
	return w.FormDataContentType(), buf.Bytes()
}

func (b *bench) upload(s sample, kind, id string) {
	b.t.Helper()
	require.Equal(b.t, id, b.post("/sessions/"+b.session+"/media?kind="+kind, "application/octet-stream", s.content, http.StatusCreated))
}

// post returns the ID in the answer.
func (b *bench) post(path, contentType string, content []byte, want int) string {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.entries[0]+"/api/v1"+path, bytes.NewReader(content))
	require.NoError(b.t, err)
	req.Header.Set("Content-Type", contentType)
	status, body := b.answerTo(req)
	require.Equal(b.t, want, status, "%s: %s", path, body)
	return decoded[struct{ Data struct{ ID string } }](b.t, string(body)).Data.ID
}

// answerTo makes a request with the tenant's key.
func (b *bench) answerTo(req *http.Request) (int, []byte) {
	b.t.Helper()
	req.Header.Set("X-Api-Key", b.apiKey)
	res, err := b.http.Do(req)
	require.NoError(b.t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	return res.StatusCode, body
}

// told waits until the subscriber has an event of a type that says what is wanted, of the message id if one is given.
func (b *bench) told(event, id, want string) (data map[string]any) {
	b.t.Helper()
	wanted := decoded[map[string]any](b.t, want)
	if id != "" {
		wanted["id"] = id
	}
	b.eventually(60*time.Second, event+" says "+want, func() (bool, string) {
		saw, all := "nothing", b.hooks.of(event, b.session)
		for _, raw := range slices.Backward(all) {
			data = decoded[map[string]any](b.t, string(raw))
			missing := lacks("", wanted, data)
			if missing == "" {
				return true, ""
			}
			if saw == "nothing" || id != "" && data["id"] == id {
				saw = missing + " in " + string(raw)
			}
		}
		return false, fmt.Sprintf("%s (of %d)", saw, len(all))
	})
	return data
}

// shown compares what the worker handed to the network with what it should have got.
func (b *bench) shown(number, id, want string) {
	b.t.Helper()
	var all []simnet.Shown
	for _, m := range b.phone(number).Messages {
		if m.MessageID == id {
			all = append(all, m)
		}
	}
	require.Len(b.t, all, 1, "once on the phone of %s", number)
	require.Empty(b.t, all[0].NoEffect)
	encoded, err := json.Marshal(all[0])
	require.NoError(b.t, err)
	got := decoded[map[string]any](b.t, string(encoded))
	got["to"] = number
	if !strings.Contains(number, "@") {
		got["to"] = number + "@s.whatsapp.net"
	}
	got["message"] = got["text"]
	require.Empty(b.t, lacks("", decoded[map[string]any](b.t, want), got), "%s", encoded)
}

func decoded[T any](t *testing.T, text string) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &v), "%s", text)
	return v
}

// lacks says what of want is not in got, "" if nothing: objects may have more fields, "{time}" is any text.
func lacks(path string, want, got any) string {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		for name, value := range w {
			if missing := lacks(path+"."+name, value, g[name]); missing != "" {
				return missing
			}
		}
		return ""
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			break
		}
		for i := range w {
			if missing := lacks(fmt.Sprintf("%s[%d]", path, i), w[i], g[i]); missing != "" {
				return missing
			}
		}
		return ""
	case string:
		if g, ok := got.(string); ok && (g == w || w == "{time}" && g != "") {
			return ""
		}
	default:
		if want == got {
			return ""
		}
	}
	return fmt.Sprintf("%s is %#v, not %#v", path, got, want)
}
