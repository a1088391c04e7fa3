package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

func (t *tenant) broadcast(fields map[string]any) *answer {
	t.Helper()
	return t.do("POST", workersPath+"/broadcast", t.auth(), fields)
}

// byWorker is a broadcast's results by worker.
func byWorker(t *testing.T, data map[string]any) map[string]map[string]any {
	t.Helper()
	results := map[string]map[string]any{}
	var ids []string
	ok, failed := 0, 0
	for _, raw := range data["results"].([]any) {
		r := raw.(map[string]any)
		results[str(r, "workerId")] = r
		ids = append(ids, str(r, "workerId"))
		if r["ok"] == true {
			ok++
			require.NotNil(t, r["answer"])
			require.Nil(t, r["code"])
			require.Nil(t, r["error"])
		} else {
			failed++
			require.Nil(t, r["answer"])
			require.NotEmpty(t, r["error"], r)
		}
	}
	require.True(t, slices.IsSorted(ids), ids)
	require.Equal(t, []any{float64(ok), float64(failed)}, []any{data["succeeded"], data["failed"]})
	return results
}

// A worker that refuses, hangs, breaks off or talks nonsense is a result; the others are asked all the same.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	heard := make(chan string, 100)
	well := func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		heard <- fmt.Sprintf("%s %s %s term %s %s", r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("X-Kurir-Term"), body)
		says(rw, map[string]any{"level": "debug"})
	}
	elsewhere := pretender(t, well)
	enroll := func(id, endpoint string) { w.ask(id, "", map[string]any{"endpoint": endpoint}).ok(200) }
	enroll("a-well", pretender(t, well))
	enroll("b-refuses", pretender(t, func(rw http.ResponseWriter, _ *http.Request) { refuses(rw, 501, "unsupported") }))
	for i := range 3 {
		enroll(fmt.Sprintf("c-hangs-%d", i), pretender(t, hang))
	}
	enroll("d-page", pretender(t, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("<html>")) }))
	enroll("e-breaks", pretender(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	enroll("f-gone", nobody(t))
	enroll("g-talks", pretender(t, func(rw http.ResponseWriter, _ *http.Request) { says(rw, strings.Repeat("x", 17<<10)) }))
	enroll("h-floods", pretender(t, func(rw http.ResponseWriter, _ *http.Request) { says(rw, strings.Repeat("x", 3<<20)) }))
	enroll("i-redirects", pretender(t, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, elsewhere, http.StatusTemporaryRedirect)
	}))
	enroll("j-nothing", pretender(t, func(rw http.ResponseWriter, _ *http.Request) { says(rw, nil) }))
	enroll("k-rants", pretender(t, func(rw http.ResponseWriter, _ *http.Request) { refuses(rw, 500, strings.Repeat("x", 100_000)) }))
	enroll("y-lapsed", elsewhere)
	w.exec(`UPDATE workers SET lease_expires_at = now() WHERE id = 'y-lapsed'`)
	enroll("z-removed", elsewhere+"/z")
	w.remove("z-removed")

	began := time.Now()
	a := admin.broadcast(map[string]any{"command": "log_level", "data": map[string]any{"level": "debug"}})
	took := time.Since(began)
	results := byWorker(t, a.ok(200))
	require.Less(t, took, 9*time.Second, "side by side, each bounded to 5 s")
	require.Len(t, results, 13, "those that are alive")
	require.Equal(t, map[string]any{"level": "debug"}, results["a-well"]["answer"])
	secret := w.vault.WorkerSecret("a-well", 1)
	require.Equal(t, `POST /command Bearer `+secret+` term 1 {"command":"log_level","data":{"level":"debug"}}`, <-heard)
	require.Empty(t, heard, "nobody else should have heard of it, and of no secret")
	for id, code := range map[string]string{"b-refuses": "unsupported", "c-hangs-0": "worker_timeout", "c-hangs-1": "worker_timeout", "c-hangs-2": "worker_timeout",
		"d-page": "bad_answer", "e-breaks": "worker_unreachable", "f-gone": "worker_unreachable", "g-talks": "bad_answer", "h-floods": "bad_answer",
		"i-redirects": "bad_answer", "j-nothing": "bad_answer"} {
		require.Equal(t, code, results[id]["code"], id)
	}
	require.GreaterOrEqual(t, results["c-hangs-0"]["tookMs"], 4900.0)
	require.Less(t, len(a.text), 10<<10)
	for _, word := range leaks {
		require.NotContains(t, a.text, word)
	}

	// Those that are named, and no others.
	results = byWorker(t, admin.broadcast(map[string]any{"command": "ping", "workerIds": []string{"z-removed", "nobody", "y-lapsed", "a-well", "a-well"}}).ok(200))
	require.Len(t, results, 4)
	require.Equal(t, []any{true, "worker_not_found", "worker_not_found", "worker_offline"},
		[]any{results["a-well"]["ok"], results["z-removed"]["code"], results["nobody"]["code"], results["y-lapsed"]["code"]})
	require.Contains(t, <-heard, `{"command":"ping"}`)
	require.EqualValues(t, 2, w.count(`system_logs WHERE message = 'workers.broadcast' AND user_id = $1`, admin.id))
	require.JSONEq(t, `{"command":"log_level","workers":13}`, modelstest.Scalar[string](t, w.db, `SELECT details::text FROM system_logs WHERE message = 'workers.broadcast' ORDER BY id LIMIT 1`))
}

func TestBroadcastsThatDoNotFit(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin, u := w.administrator(), w.register("u")
	require.Empty(t, byWorker(t, admin.broadcast(map[string]any{"command": "ping"}).ok(200)), "there is nobody")
	before := w.rows()
	many := make([]string, 1001)
	for i := range many {
		many[i] = "w" + strconv.Itoa(i)
	}
	for _, bad := range []map[string]any{{}, {"command": ""}, {"command": "Ping"}, {"command": "rm -rf"}, {"command": "a1"}, {"command": strings.Repeat("a", 41)}, {"command": 5},
		{"command": "ping", "data": []int{}}, {"command": "ping", "data": "x"}, {"command": "ping", "data": nil}, {"command": "ping", "data": map[string]any{"x": strings.Repeat("x", 4<<10)}},
		{"command": "ping", "workerIds": []string{}}, {"command": "ping", "workerIds": "w1"}, {"command": "ping", "workerIds": []int{1}}, {"command": "ping", "workerIds": many},
		{"command": "ping", "workerIds": []string{"a", "../x"}}, {"command": "ping", "workerIds": []string{strings.Repeat("x", 65)}}, {"command": "ping", "workerIds": []string{"metrics"}}, {"command": "ping", "to": "x"}} {
		admin.broadcast(bad).refused(422, "invalid_request")
	}
	u.broadcast(map[string]any{"command": "ping"}).refused(403, "forbidden")
	w.unchanged(before, "broadcasts that do not fit")
	require.EqualValues(t, 1, w.audited("workers.broadcast"))
	require.Len(t, byWorker(t, admin.broadcast(map[string]any{"command": "ping", "workerIds": many[:1000]}).ok(200)), 1000)
}

// No more than sixteen workers are asked at a time.
func TestBroadcastIsBounded(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	var now, most atomic.Int64
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	time.AfterFunc(patience, open) // lest a failure hang
	endpoint := pretender(t, func(rw http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 16 {
			open() // all that may are here: they go on together
		}
		<-gate
		says(rw, map[string]any{})
	})
	for i := range 40 {
		w.ask(fmt.Sprintf("w%02d", i), "", map[string]any{"endpoint": fmt.Sprintf("%s/%d", endpoint, i)}).ok(200)
	}
	data := admin.broadcast(map[string]any{"command": "reconnect"}).ok(200)
	require.EqualValues(t, 40, data["succeeded"])
	require.EqualValues(t, 16, most.Load())
}

// A real worker node answers what the protocol says.
func TestBroadcastToANode(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.phones(simnet.Config{})
	admin := w.administrator()
	ping := byWorker(t, admin.broadcast(map[string]any{"command": "ping"}).ok(200))["node"]
	require.Equal(t, true, ping["ok"], ping)
	raw, err := json.Marshal(ping["answer"])
	require.NoError(t, err)
	require.Contains(t, string(raw), `"engine":"simulator"`)
	require.Equal(t, map[string]any{"sessions": 0.0}, byWorker(t, admin.broadcast(map[string]any{"command": "reconnect"}).ok(200))["node"]["answer"])
	require.Equal(t, "unsupported", byWorker(t, admin.broadcast(map[string]any{"command": "dance"}).ok(200))["node"]["code"])
}
