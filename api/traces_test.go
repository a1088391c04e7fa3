package api_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
	"kurir/tracing"
	"kurir/worker/simulator/simnet"
)

// spans are what the parts of Kurir have exported, each by a provider of its own, as its process would.
type spans map[string]*tracetest.InMemoryExporter

func (s spans) kept(t testing.TB, part string) *tracing.Tracer {
	s[part] = tracetest.NewInMemoryExporter()
	tracer, err := tracing.New(tracing.Config{Service: "kurir-" + part, Exporter: s[part]}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return tracer
}

// traced has all parts make traces.
func (s spans) traced(w *world, c *api.Config) {
	c.Traces = s.kept(w, "api")
	w.traces = map[string]*tracing.Tracer{"runner": s.kept(w, "runner"), "worker": s.kept(w, "worker")}
}

// of is a trace, or all of them for "": lines of part, name and parent, sorted.
func (s spans) of(trace string) []string {
	var lines []string
	names := map[string]string{}
	for part, kept := range s {
		for _, span := range kept.GetSpans() {
			names[span.SpanContext.SpanID().String()] = part + " " + describe(span)
		}
	}
	for part, kept := range s {
		for _, span := range kept.GetSpans() {
			if trace != "" && span.SpanContext.TraceID().String() != trace {
				continue
			}
			parent := span.Parent.SpanID().String()
			if name, ok := names[parent]; ok {
				parent = name
			}
			lines = append(lines, part+" "+describe(span)+" < "+parent)
		}
	}
	slices.Sort(lines)
	return lines
}

// describe names a span, with the event that it is about.
func describe(s tracetest.SpanStub) string {
	for _, a := range s.Attributes {
		if a.Key == "kurir.event" {
			return s.Name + " " + a.Value.AsString()
		}
	}
	return s.Name
}

// text is all that leaves with the spans.
func (s spans) text() string {
	var b strings.Builder
	for _, kept := range s {
		for _, span := range kept.GetSpans() {
			fmt.Fprintln(&b, span.Name, span.Attributes, span.Events, span.Status.Description, span.Resource.Attributes())
			for _, link := range span.Links {
				fmt.Fprintln(&b, link.Attributes)
			}
		}
	}
	return b.String()
}

// parents are the traceparents that a subscriber got, by event.
type parents struct {
	mu  sync.Mutex
	got map[string]http.Header
	url string
}

func newParents(t *testing.T) *parents {
	p := &parents{got: map[string]http.Header{}}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var event struct{ Type string }
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			t.Errorf("delivery: %v", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got[event.Type] = r.Header
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// header is that of the last delivery of an event, nil if there was none.
func (p *parents) header(event string) http.Header {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got[event]
}

func (p *parents) of(event string) string { return p.header(event).Get("traceparent") }

const (
	shopTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	madeTrace  = "11111111111111111111111111111111"
	otherTrace = "22222222222222222222222222222222"
	callerSpan = "00f067aa0ba902b7"
)

func parent(trace string) headers {
	return headers{"traceparent", "00-" + trace + "-" + callerSpan + "-01", "tracestate", "vendor=zqstate", "baggage", "who=zqbaggage"}
}

// A message's trace goes from its caller over API, lane, worker and network to the subscriber; so does that of what comes in, from
// the worker on. Lanes do the work of many traces: they have their own, with links.
func TestOneTraceFromTheCallerToTheSubscriber(t *testing.T) {
	t.Parallel()
	s, hooks := spans{}, newParents(t)
	w := start(t, withRedis(embeddedtest.Redis(t)), allowLoopback, s.traced)
	w.runner()
	phones := w.phones(simnet.Config{ReceiptDelay: time.Hour})
	u := w.register("u")
	made := u.do("POST", "/api/v1/sessions", append(append(u.auth(), "Prefer", "wait=20"), parent(madeTrace)...),
		map[string]any{"name": "zqshop", "sessionId": "zqshop", "webhook": map[string]any{"url": hooks.url + "/zqpath", "secret": "zqsecret-of-twenty-four-bytes",
			"headers": map[string]string{"Traceparent": "00-zq", "Tracestate": "zq=1"}}}).ok(200)
	key := str(made, "apiKey")
	w.eventually("the connection", func() bool {
		return u.do("GET", "/api/v1/sessions/zqshop", u.auth(), nil).ok(200)["status"] == "connected"
	})
	u.do("POST", "/api/v1/messages", append(bearer(key), parent(shopTrace)...), text("6281234567890", "zqtext")).ok(202)

	w.eventually("message.sent", func() bool { return hooks.header("message.sent") != nil })
	for _, status := range []string{"delivered", "read"} {
		w.network(phones+"/inject/receipt", map[string]any{"sessionId": w.uidOf("zqshop"), "chat": "6281234567890@s.whatsapp.net", "status": status,
			"whatsappId": modelstest.Scalar[string](t, w.db, `SELECT whatsapp_id FROM messages`)})
	}

	whole := []string{
		"api POST /api/v1/messages < " + callerSpan,
		"runner message:send < api POST /api/v1/messages",
		"runner webhook:deliver message.delivered < api POST /api/v1/messages",
		"runner webhook:deliver message.read < api POST /api/v1/messages",
		"runner webhook:deliver message.sent < runner message:send",
		"worker POST /session/{id}/send < runner message:send",
		"worker network send < worker POST /session/{id}/send",
	}
	w.eventually("the message's trace", func() bool { return slices.Equal(whole, s.of(shopTrace)) })
	for _, event := range []string{"message.sent", "message.delivered", "message.read"} {
		require.Regexp(t, "^00-"+shopTrace+"-[0-9a-f]{16}-01$", hooks.of(event))
		delivery := s.find(t, "runner", "webhook:deliver "+event)
		require.Equal(t, delivery.SpanContext.SpanID().String(), hooks.of(event)[36:52], event)
	}
	require.Empty(t, hooks.header("message.sent").Get("tracestate"), "it belongs to another traceparent")

	// The session's creation: request, job, worker.
	job := []string{
		"api POST /api/v1/sessions < " + callerSpan,
		"runner session:create < api POST /api/v1/sessions",
		"worker POST /session/create < runner session:create",
	}
	w.eventually("the session's trace", func() bool {
		got := s.of(madeTrace)
		return !slices.ContainsFunc(job, func(line string) bool { return !slices.Contains(got, line) })
	})

	// What comes in: worker, API, subscriber.
	w.network(phones+"/inject/message", map[string]any{"sessionId": w.uidOf("zqshop"), "from": "6281234567890", "text": "zqanswer", "name": "zqname"})
	w.eventually("its delivery", func() bool { return hooks.header("message.received") != nil })
	inbound := hooks.of("message.received")[3:35]
	require.NotEqual(t, shopTrace, inbound)
	came := []string{
		"api event message.received < worker message.received",
		"runner webhook:deliver message.received < api event message.received",
		"worker message.received < 0000000000000000",
	}
	w.eventually("its trace", func() bool { return slices.Equal(came, s.of(inbound)) })

	// Rounds and batches stand outside, and are linked both ways.
	for _, batch := range []struct{ part, name, of, one string }{{"runner", "message:send round", "api", "POST /api/v1/messages"}, {"worker", "events", "worker", "message.received"}} {
		var linked []string
		for _, b := range s[batch.part].GetSpans() {
			if b.Name != batch.name {
				continue
			}
			require.NotContains(t, []string{shopTrace, madeTrace, inbound}, b.SpanContext.TraceID().String())
			for _, link := range b.Links {
				linked = append(linked, link.SpanContext.SpanID().String())
			}
		}
		require.Contains(t, linked, s.find(t, batch.of, batch.one).SpanContext.SpanID().String(), batch.name)
	}
	sent := s.find(t, "runner", "message:send")
	require.Equal(t, s.find(t, "runner", "message:send round").SpanContext.SpanID(), sent.Links[0].SpanContext.SpanID())

	require.Zero(t, w.count("messages WHERE length(trace) <> 55"))
	require.Contains(t, w.log.String(), `"traceId":"`+shopTrace+`"`)
	for _, word := range []string{"zq", "81234567890", key, u.key, u.token, workerToken, w.url, "127.0.0.1", password, "example.com"} {
		require.NotContains(t, s.text(), word)
	}
}

// What somebody orders of workers and sessions, and the letters that he causes, are in the trace of his request, down to the
// worker's calls.
func TestTracesOfWhatIsOrdered(t *testing.T) {
	t.Parallel()
	s, hooks := spans{}, newParents(t)
	w := start(t, withRedis(embeddedtest.Redis(t)), allowLoopback, s.traced)
	w.box = t.TempDir()
	w.runner()
	w.clockwork()
	phones := w.fleet(simnet.Config{}, "a", "b")
	admin, u := w.administrator(), w.register("u")
	u.do("POST", "/api/v1/sessions", append(u.auth(), "Prefer", "wait=20"), map[string]any{"name": "shop", "sessionId": "shop", "webhook": map[string]any{"url": hooks.url}}).ok(200)
	connected := func() {
		t.Helper()
		w.eventually("the connection", func() bool {
			return w.count("sessions WHERE status = 'CONNECTED' AND held_term > 0") == 1 && w.count("jobs WHERE status IN ('QUEUED', 'RUNNING')") == 0
		})
	}
	where := func() string { return modelstest.Scalar[string](t, w.db, `SELECT worker_id FROM sessions`) }
	orders := 0
	// order makes a request in a trace of its own, which will have these spans, below one another.
	order := func(by *tenant, method, path string, body any, status int, want ...string) {
		t.Helper()
		orders++
		trace := fmt.Sprintf("%032x", orders)
		w.do(method, path, append(by.auth(), parent(trace)...), body).ok(status)
		var got []string
		w.eventually(path+" to be in a trace", func() bool {
			got = s.of(trace)
			for i, span := range want[1:] {
				if !slices.Contains(got, span+" < "+want[i]) {
					return false
				}
			}
			return slices.Contains(got, want[0]+" < "+callerSpan)
		})
		connected()
	}
	connected()
	order(admin, "POST", "/api/v1/admin/sessions/shop/migrate", nil, 202,
		"api POST /api/v1/admin/sessions/:id/migrate", "runner session:migrate", "worker POST /session/{id}/release")
	order(admin, "POST", workersPath+"/"+where()+"/drain", nil, 202,
		"api POST /api/v1/admin/workers/:workerId/drain", "runner worker:drain", "runner session:migrate", "worker POST /session/create")
	w.eventually("the moves to be told", func() bool { return hooks.header("session.migrated") != nil })
	require.Empty(t, hooks.of("session.migrated"), "who moves others' sessions too is nothing to a subscriber")
	require.Zero(t, w.count("events WHERE type = 'session.migrated' AND trace IS NOT NULL"))
	order(admin, "POST", workersPath+"/broadcast", map[string]any{"command": "ping"}, 200, "api POST /api/v1/admin/workers/broadcast", "worker POST /command")
	order(admin, "POST", "/api/v1/admin/rebalance", nil, 202, "api POST /api/v1/admin/rebalance", "runner sessions:rebalance")
	order(u, "POST", "/api/v1/auth/password/forgot", map[string]any{"email": u.email}, 200, "api POST /api/v1/auth/password/forgot", "runner mail:letter")

	// The phone unlinks: the letter is in the trace of what the worker told, not in that of the batch that brought it.
	w.network(phones+"/sessions/"+w.uidOf("shop")+"/unlink", nil)
	w.eventually("the letter's span", func() bool { return slices.Contains(s.of(""), "runner mail:letter < api event session.status") })

	orders++
	closing := fmt.Sprintf("%032x", orders)
	u.do("DELETE", "/api/v1/users/me", append(u.auth(), parent(closing)...), map[string]any{"currentPassword": password}).ok(202)
	w.eventually("the end of his sessions", func() bool {
		return slices.Contains(s.of(closing), "runner session:delete < runner account:close")
	})
	require.NotContains(t, s.text(), "example.com")
}

func (s spans) find(t *testing.T, part, name string) tracetest.SpanStub {
	t.Helper()
	for _, span := range s[part].GetSpans() {
		if describe(span) == name {
			return span
		}
	}
	t.Fatalf("%s has no span %q: %v", part, name, s.of(""))
	return tracetest.SpanStub{}
}

// What a caller says of its trace costs no more than a traceparent, and reaches nobody else's rows.
func TestCallersTraces(t *testing.T) {
	t.Parallel()
	s := spans{}
	w := start(t, s.traced)
	w.worker()
	u, other := w.register("u"), w.register("other")
	u.connected("shop")
	other.connected("others-shop")
	traces := func(session string) []string {
		return modelstest.Scalar[[]string](t, w.db, `SELECT coalesce(array_agg(coalesce(m.trace, '') ORDER BY m.seq), '{}') FROM messages m JOIN sessions s ON s.uid = m.session_uid WHERE s.id = $1`, session)
	}
	// Both tenants at once, so that their messages share statements.
	parallel(16, func(i int) int {
		if i%2 == 0 {
			return u.do("POST", "/api/v1/sessions/shop/send", append(u.auth(), parent(shopTrace)...), text("6281234567890", "x")).status
		}
		return other.do("POST", "/api/v1/sessions/others-shop/send", append(other.auth(), parent(otherTrace)...), text("6281234567890", "x")).status
	})
	for session, trace := range map[string]string{"shop": shopTrace, "others-shop": otherTrace} {
		require.Len(t, traces(session), 8)
		for _, carried := range traces(session) {
			require.Regexp(t, "^00-"+trace+"-[0-9a-f]{16}-01$", carried)
			require.NotContains(t, carried, callerSpan, "the parent is the request")
		}
	}
	user := func(span tracetest.SpanStub) string {
		for _, a := range span.Attributes {
			if a.Key == "kurir.user" {
				return a.Value.AsString()
			}
		}
		return ""
	}
	for _, span := range s["api"].GetSpans() {
		if span.SpanContext.TraceID().String() == otherTrace {
			require.Equal(t, other.id, user(span))
		}
	}
	w.exec(`DELETE FROM messages`)
	for _, bad := range []string{"x", strings.Repeat("a", 10_000), "00-" + strings.ToUpper(shopTrace) + "-" + callerSpan + "-01", "00-" + shopTrace + "-" + callerSpan + "-01-more"} {
		u.do("POST", "/api/v1/sessions/shop/send", append(u.auth(), "traceparent", bad), text("6281234567890", "x")).ok(202)
	}
	u.do("POST", "/api/v1/sessions/shop/send", append(u.auth(), "traceparent", "00-"+shopTrace+"-"+callerSpan+"-00"), text("6281234567890", "x")).ok(202)
	got := traces("shop")
	for _, carried := range got[:4] {
		require.Len(t, carried, 55)
		require.NotContains(t, carried, shopTrace)
	}
	require.Equal(t, []string{""}, got[4:], "a caller that does not sample leaves no trace")
	// A batch's messages belong to its request, and one that is sent again to that one.
	w.exec(`DELETE FROM messages`)
	u.do("POST", "/api/v1/sessions/shop/messages/batch", append(u.auth(), parent(shopTrace)...), map[string]any{"messages": []any{text("6281234567890", "x"), text("6281234567891", "x")}}).ok(202)
	require.Len(t, slices.Compact(traces("shop")), 1)
	require.Contains(t, traces("shop")[0], shopTrace)
	w.exec(`UPDATE messages SET status = 'FAILED'`)
	for _, id := range modelstest.Scalar[[]string](t, w.db, `SELECT array_agg(id::text) FROM messages`) {
		u.do("POST", "/api/v1/messages/"+id+"/retry", append(u.auth(), parent(otherTrace)...), nil).ok(202)
	}
	require.Contains(t, traces("shop")[1], otherTrace)

	// What machines ask all the time starts no trace.
	for _, part := range s {
		part.Reset()
	}
	for _, path := range []string{"/health", "/health/live", "/metrics"} {
		require.Equal(t, 200, w.do("GET", path, nil, nil).status)
	}
	w.do("PUT", "/api/v1/admin/workers/w1/heartbeat", bearer(workerToken), map[string]any{"status": "online", "term": 1, "metrics": map[string]any{"sessionCount": 0, "cpuUsage": 0, "memoryUsage": 0}})
	require.Empty(t, s["api"].GetSpans())
}

// Without an endpoint nothing is written, whatever callers and workers say.
func TestWithoutTraces(t *testing.T) {
	t.Parallel()
	hooks := newParents(t)
	w := start(t, withRedis(embeddedtest.Redis(t)), allowLoopback)
	s := spans{}
	w.traces = map[string]*tracing.Tracer{"worker": s.kept(t, "worker")}
	w.runner()
	w.phones(simnet.Config{Reply: simnet.ReplyEcho})
	u := w.register("u")
	key := str(u.do("POST", "/api/v1/sessions", append(append(u.auth(), "Prefer", "wait=20"), parent(madeTrace)...),
		map[string]any{"name": "shop", "sessionId": "shop", "webhook": map[string]any{"url": hooks.url}}).ok(200), "apiKey")
	w.eventually("the connection", func() bool {
		return u.do("GET", "/api/v1/sessions/shop", u.auth(), nil).ok(200)["status"] == "connected"
	})
	u.do("POST", "/api/v1/messages", append(bearer(key), parent(shopTrace)...), text("6281234567890", "hello")).ok(202)
	w.eventually("the answer's delivery", func() bool {
		return hooks.header("message.received") != nil && hooks.header("message.read") != nil
	})
	require.Zero(t, w.count("messages WHERE trace IS NOT NULL")+w.count("events WHERE trace IS NOT NULL")+w.count("jobs WHERE trace IS NOT NULL"))
	for _, event := range []string{"session.status", "message.received", "message.sent", "message.read"} {
		require.Empty(t, hooks.of(event), event)
	}
}
