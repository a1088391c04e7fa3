package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/worker/simulator/simnet"
)

// example is one of the brief's: a request and its answer, as testdata/brief.http has them.
type example struct {
	method, path string
	headers      headers
	body         string
	answer       any
}

// readBrief reads testdata/brief.http, which holds the examples of the brief's "API Endpoints" word for word.
func readBrief(t *testing.T) map[string]*example {
	t.Helper()
	raw, err := os.ReadFile("testdata/brief.http")
	require.NoError(t, err)
	all := map[string]*example{}
	for _, part := range strings.Split("\n"+string(raw), "\n#### ")[1:] {
		title, rest, _ := strings.Cut(part, "\n\n")
		request, answer, ok := strings.Cut(rest, "\nResponse: ")
		require.True(t, ok, title)
		head, body, _ := strings.Cut(request, "\n\n")
		lines := strings.Split(strings.TrimSpace(head), "\n")
		e := &example{body: strings.TrimSpace(body)}
		e.method, e.path, _ = strings.Cut(lines[0], " ")
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ": ")
			e.headers = append(e.headers, name, value)
		}
		require.NoError(t, json.Unmarshal([]byte(strings.ReplaceAll(answer, "...", "")), &e.answer), title)
		all[title] = e
	}
	return all
}

// briefRow is an example with what the brief does not say: the status, and the values that are the same as in the example.
// Of all others the type counts.
type briefRow struct {
	title  string
	status int
	same   []string
	// Where we differ, which docs/decisions.md explains: what the request needs beside, and what is answered instead.
	headers headers
	fields  map[string]any
	instead map[string]any
}

var briefRows = []briefRow{
	{title: "User Registration", status: 201, same: []string{"data.user.email", "data.user.tier"}, instead: map[string]any{"data.user.role": "user"}},
	{title: "User Login", status: 200},
	{title: "Create Session", status: 202, same: []string{"data.sessionId", "data.name", "data.status"}},
	{title: "Get User Sessions", status: 200, same: []string{"data.sessions.0.id", "data.sessions.0.name", "data.sessions.0.status"}},
	{title: "Proxy Session Operations", status: 202, instead: map[string]any{"data.status": "pending"}},
	{title: "Proxy Session Operations", status: 200, headers: headers{"Prefer", "wait=20"}, same: []string{"data.status"}},
	{title: "Register Worker (Internal)", status: 200, same: []string{"data.workerId", "data.status"}},
	{title: "Add Worker (Admin)", status: 201, same: []string{"data.endpoint"}, instead: map[string]any{"data.status": "offline"}},
	{title: "Worker Health Update (Internal)", status: 200, same: []string{"message"}, headers: headers{"X-Worker-Secret", "worker-secret"}, fields: map[string]any{"term": 1}},
	{title: "Get Workers", status: 200, same: []string{"data.workers.0.id", "data.workers.0.endpoint", "data.workers.0.status",
		"data.workers.0.maxSessions", "data.workers.0.cpuUsage", "data.workers.0.memoryUsage"}},
	{title: "Get System Analytics", status: 200},
	{title: "Get Users", status: 200, same: []string{"data.pagination.page", "data.pagination.limit"}},
}

// Each example of the brief gets its answer, by the brief's own addresses.
func TestBriefsExamples(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.fleet(simnet.Config{ScanDelay: time.Millisecond}, "z-node") // listed after theirs
	w.runner()
	admin := w.administrator()
	w.register("john.doe")
	examples := readBrief(t)

	// What stands for itself in the examples. Nothing is reached at the addresses of their workers.
	known := map[string]string{"worker-token": workerToken, "admin-jwt-token": admin.token, "worker-secret": w.vault.WorkerSecret("worker-001", 1),
		"{sessionId}": "user123-personal", "{workerId}": "worker-001", "http://192.168.1.100:8001": nobody(t), "http://203.0.113.45:8001": nobody(t)}
	fill := func(text string) string {
		names := slices.SortedFunc(maps.Keys(known), func(a, b string) int { return len(b) - len(a) })
		for _, name := range names { // the longest first: one is the end of another
			text = strings.ReplaceAll(text, name, known[name])
		}
		return text
	}
	learn := func(row string, data map[string]any) {
		switch row {
		case "User Login":
			known["jwt-token"] = str(data, "token")
		case "Create Session":
			known["session-api-key"] = str(data, "apiKey")
			w.eventually("the session is connected", func() bool { return w.count("sessions WHERE status = 'CONNECTED' AND last_seen_at IS NOT NULL") == 1 })
		}
	}

	done := map[string]bool{}
	for _, row := range briefRows {
		e := examples[row.title]
		require.NotNil(t, e, row.title)
		what := fmt.Sprintf("%s: %s %s", row.title, e.method, e.path)
		with := slices.Clone(append(e.headers, row.headers...))
		for i := range with {
			with[i] = fill(with[i])
		}
		var body any
		if e.body != "" {
			var fields map[string]any
			require.NoError(t, json.Unmarshal([]byte(fill(e.body)), &fields), what)
			maps.Copy(fields, row.fields)
			body = fields
		}
		a := w.do(e.method, fill(e.path), with, body)
		require.Equal(t, row.status, a.status, "%s: %s", what, a.text)
		got := map[string]any{}
		require.NoError(t, json.Unmarshal([]byte(a.text), &got), what)
		require.Empty(t, unlike("answer", e.answer, got), "%s: %s", what, a.text)
		for _, path := range row.same {
			want := at(t, e.answer, path)
			if text, ok := want.(string); ok {
				want = fill(text)
			}
			require.Equal(t, want, at(t, got, path), "%s: %s of %s", what, path, a.text)
		}
		for path, want := range row.instead {
			require.NotEqual(t, want, at(t, e.answer, path), "%s: the brief has it too", what)
			require.Equal(t, want, at(t, got, path), "%s: %s of %s", what, path, a.text)
		}
		data, _ := got["data"].(map[string]any)
		learn(row.title, data)
		done[row.title] = true
	}
	require.Equal(t, slices.Sorted(maps.Keys(examples)), slices.Sorted(maps.Keys(done)), "every example has its row")
}

// at finds a value by a path such as data.workers.0.id.
func at(t *testing.T, v any, path string) any {
	t.Helper()
	for _, step := range strings.Split(path, ".") {
		switch holder := v.(type) {
		case map[string]any:
			require.Contains(t, holder, step, path)
			v = holder[step]
		case []any:
			i, err := strconv.Atoi(step)
			require.NoError(t, err, path)
			require.Less(t, i, len(holder), path)
			v = holder[i]
		default:
			require.Fail(t, "there is nothing below", "%s of %s", step, path)
		}
	}
	return v
}

var anyTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT[\d:.]+Z$`)

// unlike says where an answer lacks a field of the example's, or has another type there. More fields are welcome.
func unlike(path string, want, got any) (problems []string) {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: %T, not an object", path, got)}
		}
		for name, inner := range want {
			value, ok := object[name]
			if !ok {
				problems = append(problems, path+"."+name+" is missing")
				continue
			}
			problems = append(problems, unlike(path+"."+name, inner, value)...)
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) == 0 {
			return []string{fmt.Sprintf("%s: %v, not a list with something in it", path, got)}
		}
		for i := range list {
			for _, inner := range want {
				problems = append(problems, unlike(fmt.Sprintf("%s.%d", path, i), inner, list[i])...)
			}
		}
	default:
		text, _ := got.(string)
		example, _ := want.(string)
		if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) || anyTime.MatchString(example) && !anyTime.MatchString(text) {
			problems = append(problems, fmt.Sprintf("%s: %v is not like %v", path, got, want))
		}
	}
	return problems
}

// A check that finds nothing is none.
func TestUnlike(t *testing.T) {
	t.Parallel()
	brief := map[string]any{"list": []any{map[string]any{"n": 1.5, "at": "2024-01-15T10:30:00Z"}}, "more": []any{}, "user": map[string]any{}}
	item := map[string]any{"n": 2.0, "at": "2026-01-02T03:04:05.678Z", "extra": nil}
	fits := map[string]any{"list": []any{item}, "more": []any{1.0}, "user": item, "extra": 1.0}
	require.Empty(t, unlike("answer", brief, fits))
	for field, values := range map[string][]any{
		"list": {nil, []any{}, "x", []any{nil}, []any{item, map[string]any{"n": 1.0}}, []any{map[string]any{"n": "1", "at": "2026-01-02T03:04:05Z"}}, []any{map[string]any{"n": 1.0, "at": "soon"}},
			[]any{map[string]any{"n": nil, "at": "2026-01-02T03:04:05Z"}}},
		"more": {[]any{}, nil}, "user": {nil, []any{}, "x"},
	} {
		for _, value := range values {
			bad := maps.Clone(fits)
			bad[field] = value
			require.NotEmpty(t, unlike("answer", brief, bad), "%s=%v", field, value)
		}
		bad := maps.Clone(fits)
		delete(bad, field)
		require.Len(t, unlike("answer", brief, bad), 1, field)
	}
}
