package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// operation is one of the API's, as its own document describes it.
type operation struct {
	id, method, path string // the path with its {parameters}
	need             string // the name of the security scheme, "" for none
	admin            bool
	body             map[string]any // schema, nil for none
	bodyNeeded       bool
	form             bool // it takes the body as a form too
	query            []map[string]any
}

type document struct {
	all map[string]any
}

func (w *world) document() *document {
	w.Helper()
	a := w.do("GET", "/openapi.json", nil, nil)
	require.Equal(w, 200, a.status)
	d := &document{}
	require.NoError(w, json.Unmarshal([]byte(a.text), &d.all))
	return d
}

// resolve follows a $ref.
func (d *document) resolve(schema map[string]any) map[string]any {
	ref, ok := schema["$ref"].(string)
	if !ok {
		return schema
	}
	at := any(d.all)
	for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		object, _ := at.(map[string]any)
		at = object[part]
	}
	found, _ := at.(map[string]any)
	return found
}

func (d *document) operations() []operation {
	var list []operation
	for path, item := range d.all["paths"].(map[string]any) {
		for method, raw := range item.(map[string]any) {
			o := raw.(map[string]any)
			op := operation{id: o["operationId"].(string), method: strings.ToUpper(method), path: path, admin: strings.Contains(path, "/admin/")}
			if security, _ := o["security"].([]any); len(security) > 0 {
				for name := range security[0].(map[string]any) {
					op.need = name
				}
			}
			if body, ok := o["requestBody"].(map[string]any); ok {
				op.bodyNeeded, _ = body["required"].(bool)
				_, op.form = body["content"].(map[string]any)["multipart/form-data"]
				if content, ok := body["content"].(map[string]any)["application/json"].(map[string]any); ok {
					op.body = d.resolve(content["schema"].(map[string]any))
				}
			}
			parameters, _ := o["parameters"].([]any)
			for _, p := range parameters {
				if parameter := p.(map[string]any); parameter["in"] == "query" {
					op.query = append(op.query, parameter)
				}
			}
			list = append(list, op)
		}
	}
	slices.SortFunc(list, func(a, b operation) int { return strings.Compare(a.id, b.id) })
	return list
}

// stage is a world with one of everything, so that each operation has something to work on.
type stage struct {
	*world
	owner, admin *tenant
	sessionKey   string
	secret       string  // of the worker's term
	holds        headers // how a worker says for which session it asks for media
	ids          map[string]string
}

func newStage(t testing.TB) *stage {
	s := &stage{world: start(t, allowLoopback)}
	s.worker()
	s.secret = s.vault.WorkerSecret("w1", 1)
	s.owner, s.admin = s.register("owner"), s.administrator()
	s.sessionKey = s.owner.connected("shop")
	message := s.owner.do("POST", "/api/v1/sessions/shop/send", s.owner.auth(), text("6281234567890", "hello")).ok(202)
	s.owner.do("PUT", "/api/v1/sessions/shop/webhook", s.owner.auth(), map[string]any{"url": "http://127.0.0.1:9/"}).ok(200)
	hook := modelstest.Scalar[uuid.UUID](s, s.db, `SELECT id FROM webhooks`)
	s.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence) VALUES ($1, $2, 'message.read', 1)`, hook, models.NewID())
	content, err := s.media.Put(context.Background(), uuid.MustParse(s.owner.id), "", strings.NewReader("a medium"))
	require.NoError(s, err)
	s.exec(`UPDATE messages SET media_id = $1`, content.ID)
	s.holds = headers{"X-Kurir-Term", "1", "X-Kurir-Session", modelstest.Scalar[uuid.UUID](s, s.db, `SELECT uid FROM sessions`).String()}
	s.scripted()
	spare := s.owner.newKey(nil, "send", "read", "manage")
	s.ids = map[string]string{"userId": s.register("somebody").id, "address": "6281234567890", "groupId": "120363012345678901@g.us", "labelId": "1", "chat": "6281234567890", "id": "shop", "mediaId": content.ID.String(), "messageId": str(message, "messageId"), "workerId": "w1", "keyId": spare.id,
		"jobId":      modelstest.Scalar[uuid.UUID](s, s.db, `SELECT id FROM jobs`).String(),
		"deliveryId": modelstest.Scalar[uuid.UUID](s, s.db, `SELECT id FROM webhook_deliveries`).String()}
	return s
}

func (s *stage) in(t testing.TB) *stage {
	c := *s
	c.world = s.world.in(t)
	return &c
}

// caller is who may call an operation.
func (s *stage) caller(op operation) headers {
	switch {
	case op.need == "workerToken":
		return append(headers{"X-Worker-Token", workerToken, "X-Worker-Secret", s.secret}, s.holds...)
	case op.admin:
		return s.admin.auth()
	case op.id == "send-by-key":
		return headers{"X-Api-Key", s.sessionKey}
	case op.need == "":
		return nil
	}
	return s.owner.auth()
}

func (s *stage) pathOf(op operation, change map[string]string) string {
	path := op.path
	for name, value := range s.ids {
		if other, ok := change[name]; ok {
			value = other
		}
		path = strings.ReplaceAll(path, "{"+name+"}", value)
	}
	return path
}

// example makes a body that fits the schema, from the examples in it.
func (d *document) example(schema map[string]any) any {
	schema = d.resolve(schema)
	if examples, ok := schema["examples"].([]any); ok {
		return copyOf(examples[0])
	}
	if enum, ok := schema["enum"].([]any); ok {
		return enum[0]
	}
	switch typeOf(schema) {
	case "object":
		object := map[string]any{}
		properties, _ := schema["properties"].(map[string]any)
		for name, property := range properties {
			object[name] = d.example(property.(map[string]any))
		}
		return object
	case "array":
		return []any{d.example(schema["items"].(map[string]any))}
	case "integer", "number":
		return 1
	case "boolean":
		return false
	case "string":
		if schema["format"] == "date-time" {
			return "2026-01-02T03:04:05Z"
		}
		return strings.Repeat("a", 24)
	}
	return map[string]any{}
}

// copyOf keeps the document as it is, whatever is done to the copy.
func copyOf(v any) any {
	raw, err := json.Marshal(v)
	if err != nil || json.Unmarshal(raw, &v) != nil {
		panic("no JSON")
	}
	return v
}

// typeOf is the one type of a schema beside null, "" for any.
func typeOf(schema map[string]any) string {
	switch t := schema["type"].(type) {
	case string:
		return t
	case []any:
		for _, one := range t {
			if one != "null" {
				return one.(string)
			}
		}
	}
	return ""
}

func nullable(schema map[string]any) bool {
	list, _ := schema["type"].([]any)
	return slices.Contains(list, any("null"))
}

// wrong is a body with one fault.
type wrong struct {
	what, field string
	body        any
}

// wrongs makes every body with one fault that a schema forbids. put builds the whole body around one value. Null is as
// good as nothing where nothing is allowed.
func (d *document) wrongs(schema map[string]any, field string, needed, nul bool, put func(value any) any) []wrong {
	schema = d.resolve(schema)
	var list []wrong
	if branches, ok := schema["oneOf"].([]any); ok && typeOf(schema) == "" { // a fault in any of them is one
		for _, branch := range branches {
			list = append(list, d.wrongs(branch.(map[string]any), field, needed, nul, put)...)
		}
		return list
	}
	kind := typeOf(schema)
	if kind == "" {
		return nil
	}
	add := func(what, at string, value any) {
		list = append(list, wrong{what, at, put(value)})
	}
	for name, value := range map[string]any{"string": "text", "number": 1.5, "boolean": true, "array": []any{}, "object": map[string]any{}} {
		if name != kind && !(name == "number" && kind == "integer") {
			add("a "+name, field, value)
		}
	}
	if needed && !nullable(schema) {
		add("null", field, nil)
	}
	switch kind {
	case "integer":
		add("a fraction", field, 1.5)
		add("a huge number", field, 1e300)
	case "string":
		if schema["minLength"] != nil || schema["enum"] != nil {
			add("an empty string", field, "")
		}
		if schema["maxLength"] != nil || schema["enum"] != nil {
			longest, _ := schema["maxLength"].(float64)
			add("too many characters", field, strings.Repeat("x", max(int(longest)+1, longFailure+1))) // no failure repeats them
		}
		if nul {
			add("NUL", "", "a\x00b")
		}
	case "array":
		items := schema["items"].(map[string]any)
		if of := d.resolve(items); typeOf(of) != "" || of["oneOf"] != nil {
			list = append(list, d.wrongs(items, field+"[0]", true, nul, func(v any) any { return put([]any{v}) })...)
		}
	case "object":
		properties, _ := schema["properties"].(map[string]any)
		valid := func() map[string]any { return d.example(schema).(map[string]any) }
		if schema["additionalProperties"] == false {
			with := valid()
			with["surprise"] = 1
			add("an unknown field", under(field, "surprise"), with)
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			without := valid()
			delete(without, name.(string))
			add("no "+name.(string), field, without)
		}
		for name, property := range properties {
			list = append(list, d.wrongs(property.(map[string]any), under(field, name), slices.Contains(required, any(name)), nul, func(v any) any {
				with := valid()
				with[name] = v
				return put(with)
			})...)
		}
	}
	return list
}

func under(field, name string) string {
	if field == "" {
		return name
	}
	return field + "." + name
}

// Every operation refuses every body that does not fit, in the one form, and does nothing.
func TestBodiesThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := s.document()
	for _, op := range d.operations() {
		if op.body == nil {
			continue
		}
		t.Run(op.id, func(t *testing.T) {
			s := s.in(t)
			before := s.rows()
			path, who := s.pathOf(op, nil), s.caller(op)
			try := func(with headers, body any) *answer {
				return s.do(op.method, path, append(slices.Clone(who), with...), body)
			}
			for _, body := range []string{"{", `{"a":}`, "nul", "{} {}", "{}x", "\xff\xfe", "\ufeff{}", `{"a": 'b'}`, "{,}", strings.Repeat("[", 20_000)} {
				try(nil, body).refused(400, "malformed_json")
			}
			for _, body := range []string{"null", "[]", "[{}]", `"text"`, "5", "true", "{}"} {
				if body == "{}" && !op.bodyNeeded {
					continue
				}
				a := try(nil, body).refused(422, "invalid_request")
				require.NotEmpty(t, a.body["details"], a.text)
			}
			if op.bodyNeeded {
				try(nil, "").refused(422, "invalid_request")
			}
			for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "json", "a+b;+"} {
				if strings.HasPrefix(kind, "multipart/") && op.form {
					continue
				}
				try(headers{"Content-Type", kind}, d.example(op.body)).refused(415, "unsupported_media_type")
			}
			for _, encoding := range []string{"gzip", "br", "deflate", "gzip, gzip"} {
				try(headers{"Content-Encoding", encoding}, d.example(op.body)).refused(415, "unsupported_media_type")
			}
			size := 1 << 20
			if op.id == "send-batch" {
				size = 9 << 20
			}
			try(nil, map[string]any{"message": strings.Repeat("x", size)}).refused(413, "too_large")
			s.unchanged(before, "a bad body")
			wrongs := d.wrongs(op.body, "", true, op.id != "worker-events", func(v any) any { return v })
			require.Greater(t, len(wrongs), 5)
			for _, x := range wrongs {
				raw, err := json.Marshal(x.body)
				require.NoError(t, err)
				a := try(nil, string(raw))
				if a.status != 422 {
					t.Fatalf("%s with %s as %q: %d %s", op.id, x.what, x.field, a.status, a.text)
				}
				a.refused(422, "invalid_request")
				if x.what != "NUL" && x.what != "a huge number" {
					require.Contains(t, a.text, `{"field":"`+x.field, "%s as %q", x.what, x.field)
				}
			}
			s.unchanged(before, "a wrong field")
		})
	}
}

// The example that the document gives for each body is one that the operation takes.
func TestExamplesAreTaken(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := s.document()
	for _, op := range d.operations() {
		if op.body == nil || op.id == "register-worker" { // which has a live lease
			continue
		}
		t.Run(op.id, func(t *testing.T) {
			s := s.in(t)
			body := d.example(op.body).(map[string]any)
			switch op.id {
			case "login":
				body["email"], body["password"] = s.owner.email, password
			case "worker-events":
				body["events"].([]any)[0].(map[string]any)["data"] = map[string]any{}
			case "create-session":
				body["sessionId"] = "another"
				delete(body["webhook"].(map[string]any), "headers")
			case "put-webhook", "put-account-webhook":
				delete(body, "headers")
				body["isActive"] = true // for what comes after
			case "create-link":
				s.exec(`UPDATE sessions SET linked_at = NULL WHERE id = 'shop'`)
				defer s.exec(`UPDATE sessions SET linked_at = now() WHERE id = 'shop'`)
			case "react":
				s.exec(`UPDATE messages SET status = 'SENT', sent_at = now(), deleted_at = NULL WHERE id = $1`, s.ids["messageId"])
			case "retry-message":
				s.exec(`UPDATE messages SET status = 'FAILED' WHERE id = $1`, s.ids["messageId"])
			case "mark-read":
				delete(body, "messageIds") // or the chat
			case "get-pairing-code":
				s.exec(`UPDATE sessions SET status = 'QR_REQUIRED' WHERE id = 'shop'`)
				defer s.exec(`UPDATE sessions SET status = 'CONNECTED' WHERE id = 'shop'`)
			case "migrate-session":
				modelstest.Worker(s, s.db, body["workerId"].(string), 10)
			case "update-profile", "change-password", "close-account":
				leaver := s.register(op.id)
				body["currentPassword"], s.owner = password, leaver // the others go on with the stage's own
			case "reset-password":
				body["token"] = s.register(op.id).mailed(models.TokenReset, op.id+"@example.com")
			case "verify-email":
				body["token"] = s.register(op.id).mailed(models.TokenVerify, op.id+"@example.com")
			}
			a := s.do(op.method, s.pathOf(op, nil), s.caller(op), body)
			require.Less(t, a.status, 300, a.text)
			s.leaves(op, a)
		})
	}
}

// Every parameter in a path may be anything.
func TestPathsThatNameNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := s.document()
	for _, op := range d.operations() {
		before := s.rows()
		for name := range s.ids {
			if !strings.Contains(op.path, "{"+name+"}") {
				continue
			}
			for _, id := range []string{"nothing", uuid.NewString(), strings.Repeat("x", 5000), "%00", "%ff", "\xff", "%F0%9F%98%80", "..%2f..", "'", "1;drop", "%", "%zz", "a%20b", "{id}"} {
				raw := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", op.method, s.pathOf(op, map[string]string{name: id}))
				who := s.caller(op)
				for i := 0; i < len(who); i += 2 {
					raw += who[i] + ": " + who[i+1] + "\r\n"
				}
				body := ""
				if op.body != nil {
					example, err := json.Marshal(d.example(op.body))
					require.NoError(t, err)
					body = string(example)
					raw += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
				}
				a := s.raw(raw + "\r\n" + body)
				require.Contains(t, []int{400, 401, 404, 422}, a.status, "%s with %.50q: %s", op.id, id, a.text)
				a.isFailure()
			}
		}
		s.unchanged(before, "%s of nothing", op.id)
	}
}

func TestQueriesThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	tried := 0
	for _, op := range s.document().operations() {
		for _, parameter := range op.query {
			name, schema := parameter["name"].(string), parameter["schema"].(map[string]any)
			var values []string
			switch {
			case name == "limit":
				values = []string{"0", "201", "-1", "abc", "1.5", "1e1", "99999999999999999999"}
			case name == "cursor":
				values = []string{"abc", "!!!", "\x00", strings.Repeat("A", 300), "AAAAAAAAAAAAAAAAAAAAAAA", "-1"}
			case schema["type"] == "boolean":
				values = []string{"nonsense", "2", "\x00", "yes"}
			case schema["enum"] != nil, typeOf(schema) == "array":
				values = []string{"nonsense", "\x00", "PENDING "}
			case schema["format"] == "date-time":
				values = []string{"yesterday", "2026-13-01T00:00:00Z", "2026-01-01", "1"}
			case name == "types", name == "event":
				values = []string{"nonsense", "\x00", "message.read,nonsense"}
			case name == "page":
				values = []string{"0", "-1", "abc", "1.5", "99999999999999999999"}
			case name == "search":
				values = []string{"\x00", "\xff", strings.Repeat("x", 201)}
			case schema["format"] == "uuid", name == "ip", schema["pattern"] != nil:
				values = []string{"\x00", "1;drop", "'", strings.Repeat("x", 201)}
			case name == "lastEventId": // what it does not know it says so of
				values = []string{strings.Repeat("1", 101)}
			case name == "chat":
				values = []string{"nobody", "\x00", "1@example.com", strings.Repeat("1", 129)}
			case name == "month":
				values = []string{"nonsense", "2026-13", "2026-1", "1999-12", "9999-12", "\x00", "2026-01-01"}
			case name == "q":
				values = []string{"\x00", " ", "?!", "\xff", strings.Repeat("x", 201)}
			default:
				t.Fatalf("%s has a query parameter %q that this test does not know", op.id, name)
			}
			for _, value := range values {
				a := s.do(op.method, s.pathOf(op, nil)+"?"+url.Values{name: {value}}.Encode(), s.caller(op), nil)
				require.Equal(t, 422, a.status, "%s with %s=%.40q: %s", op.id, name, value, a.text)
				if a.body["code"] != "invalid_cursor" || name != "cursor" {
					a.refused(422, "invalid_request")
				}
				require.Contains(t, a.text, `"field":"`+name)
				tried++
			}
		}
	}
	require.Greater(t, tried, 30)
}

// Text that is no Unicode is stored as far as it can be, with U+FFFD for the rest, as JSON's readers do.
func TestTextThatIsNoUnicode(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for what, body := range map[string]string{"a lone surrogate": `{"to":"628123456789","message":"a\ud800b"}`, "bytes": "{\"to\":\"628123456789\",\"message\":\"a\xffb\"}"} {
		data := s.do("POST", "/api/v1/sessions/shop/send", s.owner.auth(), body).ok(202)
		message := s.do("GET", "/api/v1/messages/"+str(data, "messageId"), s.owner.auth(), nil).ok(200)
		require.Equal(t, "a\ufffdb", message["message"], what)
	}
	data := s.do("POST", "/api/v1/sessions", s.owner.auth(), `{"name":"\ud800","metadata":{"a":"\udc00","'\\\"?":[1e300,12345678901234567890,"<&>"],"b":{"c":null}}}`).ok(202)
	require.Equal(t, "\ufffd", data["name"])
	session := s.do("GET", "/api/v1/sessions/"+str(data, "sessionId"), s.owner.auth(), nil)
	require.Equal(t, map[string]any{"a": "\ufffd", `'\"?`: []any{1e300, 12345678901234567890.0, "<&>"}, "b": map[string]any{"c": nil}}, session.ok(200)["metadata"])
	require.Contains(t, session.text, "12345678901234567890", "numbers should keep all their digits")
	for _, metadata := range []string{"null", "[]", "5", `"x"`, `{"a":1e400000}`, `{"a":"` + strings.Repeat("x", 1020) + `"}`} {
		s.do("POST", "/api/v1/sessions", s.owner.auth(), `{"name":"x","metadata":`+metadata+`}`).refused(422, "invalid_request")
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, path := range []string{"/api/v1/auth/me", "/api/auth/me", "/nowhere", "/health/live", "/docs"} {
		require.Equal(t, "my-id_1.2:3", w.do("GET", path, headers{"X-Request-Id", "my-id_1.2:3"}, nil).header.Get("X-Request-Id"), path)
		require.Len(t, w.do("GET", path, nil, nil).header.Get("X-Request-Id"), 36, path)
	}
	for _, bad := range []string{"a b", strings.Repeat("x", 129), "<script>", "é"} {
		require.Len(t, w.do("GET", "/api/v1/auth/me", headers{"X-Request-Id", bad}, nil).refused(401, "unauthenticated").header.Get("X-Request-Id"), 36, bad)
	}
}

func TestRoutesThatAreNot(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, path := range []string{"/nowhere", "/api", "/api/", "/api/v1", "/apifoo", "/api/v1foo", "/api/v1/nothing", "/API/V1/auth/me", "/api/v1/Auth/me", "/.env", "/openapi.jso"} {
		w.do("GET", path, nil, nil).refused(404, "route_not_found")
	}
	w.do("GET", "/api/v2/sessions", nil, nil).refused(404, "unknown_version")
	for _, op := range w.document().operations() {
		path := strings.NewReplacer("{", "", "}", "").Replace(op.path)
		for _, method := range []string{"TRACE", "OPTIONS", "PROPFIND", "get", "CONNECT"} {
			if method == "CONNECT" { // whose target is no path
				continue
			}
			a := w.do(method, path, nil, nil)
			a.refused(405, "method_not_allowed")
		}
	}
	a := w.do("PUT", "/api/v1/auth/login", nil, nil).refused(405, "method_not_allowed")
	require.Equal(t, "POST", a.header.Get("Allow"))
	w.do("POST", "/api/auth/me", nil, nil).refused(405, "method_not_allowed")
}

func TestTheAliasIsTheSameRequest(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	require.Equal(t, u.id, str(w.do("GET", "/api/auth/me", u.auth(), nil).ok(200)["user"].(map[string]any), "id"))
	require.Equal(t, 200, w.do("GET", "/api/v1/auth/me/", u.auth(), nil).status)
	w.do("GET", "/api/auth/me", append(u.auth(), "X-Request-Id", "only-once"), nil).ok(200)
	w.eventually("the line of the request", func() bool { return strings.Contains(w.log.String(), "only-once") })
	require.Equal(t, 1, strings.Count(w.log.String(), "only-once"), w.log.String())
	require.Contains(t, w.log.String(), `"route":"/api/v1/auth/me"`)
}

// raw sends bytes as they are and reads the answer.
func (w *world) raw(request string) *answer {
	w.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(w, err)
	defer c.Close()
	require.NoError(w, c.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(c, request)
	require.NoError(w, err, "the whole request should be taken")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(w, err)
	return read(w, resp)
}

// A client that writes its whole request before it reads, as most do, hears of the refusal.
func TestTooLargeIsHeard(t *testing.T) {
	t.Parallel()
	w := start(t)
	const size = 8 << 20
	head := "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nX-Request-Id: large\r\nContent-Type: application/json\r\n"
	body := strings.Repeat("x", size)
	chunks := strings.Repeat(fmt.Sprintf("%x\r\n%s\r\n", 1<<16, body[:1<<16]), size>>16) + "0\r\n\r\n"
	for range 3 { // a reset may come late
		a := w.raw(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, size, body)).refused(413, "too_large")
		require.Equal(t, "large", a.body["requestId"])
		w.raw(head+"Transfer-Encoding: chunked\r\n\r\n"+chunks).refused(413, "too_large")
	}
	require.Contains(t, w.log.String(), `"status":413`)
	a := w.raw(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, 900<<10, body[:900<<10])).refused(413, "too_large")
	require.Equal(t, "large", a.body["requestId"], "exactly the limit")
}

// curl waits for 100 Continue before it sends a large body; a refusal may come in its stead.
func TestTooLargeIsHeardByThoseWhoExpect(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, size := range []int{20, 8 << 20} {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		_, err = fmt.Fprintf(c, "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", size)
		require.NoError(t, err)
		reader := bufio.NewReader(c)
		resp, err := http.ReadResponse(reader, nil)
		require.NoError(t, err)
		if resp.StatusCode == 100 {
			_, err = io.WriteString(c, strings.Repeat("x", size))
			require.NoError(t, err)
			resp, err = http.ReadResponse(reader, nil)
			require.NoError(t, err)
		}
		if a := read(t, resp); size > 1<<20 {
			a.refused(413, "too_large")
		} else {
			a.refused(400, "malformed_json")
		}
	}
}

func TestRequestsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.raw("GET /docs HTTP/1.1\r\nHost: x\r\nX-Api-Key: "+strings.Repeat("k", 20<<10)+"\r\n\r\n").refused(431, "headers_too_large")
	w.raw("GET /"+strings.Repeat("k", 20<<10)+" HTTP/1.1\r\nHost: x\r\n\r\n").refused(431, "headers_too_large")
	w.raw("nonsense\r\n\r\n").refused(400, "bad_request")
	w.raw("POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n").isFailure()
	w.raw("PROPFIND /docs HTTP/1.1\r\nHost: x\r\n\r\n").refused(405, "method_not_allowed")
}

func TestAcceptIsNoReasonToRefuse(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, accept := range []string{"json", "text/html", "image/png", "application/cbor", "*/*;q=0", "nonsense"} {
		w.do("GET", "/api/v1/auth/me", headers{"Accept", accept}, nil).refused(401, "unauthenticated")
	}
}
