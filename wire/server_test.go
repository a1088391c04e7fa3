package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stub is a Handler that remembers what it was asked and answers as told.
type stub struct {
	term    int64
	secret  string
	err     error
	panics  any
	called  string
	create  CreateSession
	sent    Send
	command Command
	answer  any
	id      string
	epoch   int64
	logout  bool
}

func (s *stub) note(what string) error {
	s.called = what
	if s.panics != nil {
		panic(s.panics)
	}
	return s.err
}

var anHour = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (s *stub) Credentials() (int64, string)  { return s.term, s.secret }
func (s *stub) Health(context.Context) Health { return Health{Status: "ok", Term: s.term} }
func (s *stub) Create(_ context.Context, term int64, c CreateSession) (SessionState, error) {
	s.create = c
	return SessionState{SessionID: c.SessionID, Epoch: c.Epoch, Status: StatusInitializing}, s.note("create")
}
func (s *stub) Status(_ context.Context, id string) (SessionState, error) {
	return SessionState{SessionID: id, Status: StatusConnected}, s.note("status")
}
func (s *stub) QR(context.Context, string) (QRData, error) {
	return QRData{QR: "2@abc", ExpiresAt: anHour}, s.note("qr")
}
func (s *stub) Release(_ context.Context, id string, epoch int64) error {
	s.id, s.epoch = id, epoch
	return s.note("release")
}
func (s *stub) Delete(_ context.Context, id string, epoch int64, logout bool) error {
	s.id, s.epoch, s.logout = id, epoch, logout
	return s.note("delete")
}
func (s *stub) Send(_ context.Context, id string, m Send) (SendResult, error) {
	s.id, s.sent = id, m
	return SendResult{Outcome: OutcomeSent, Timestamp: anHour}, s.note("send")
}
func (s *stub) Pass(_ context.Context, id, call string, p Passed) (any, error) {
	s.id, s.epoch = id, p.Epoch
	return s.answer, s.note(call)
}
func (s *stub) Command(_ context.Context, c Command) (any, error) {
	s.command = c
	return s.answer, s.note("command")
}

func serve(t *testing.T, s *stub) (*Client, *httptest.Server, *bytes.Buffer) {
	var log bytes.Buffer
	srv := httptest.NewServer(Server(s, ServerOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}))
	t.Cleanup(srv.Close)
	return clientOf(t, srv.URL), srv, &log
}

func TestClientAndServerAgree(t *testing.T) {
	s := &stub{term: 7, secret: "s3cret"}
	c, _, _ := serve(t, s)
	ctx := t.Context()

	h, err := c.Health(ctx)
	require.NoError(t, err)
	require.Equal(t, Health{Status: "ok", Term: 7}, h)

	in := CreateSession{SessionID: "s1", UserID: "u1", SessionName: "shop", Epoch: 4, Proxy: "socks5://p"}
	st, err := c.Create(ctx, in)
	require.NoError(t, err)
	require.Equal(t, in, s.create)
	require.Equal(t, SessionState{SessionID: "s1", Epoch: 4, Status: StatusInitializing}, st)

	st, err = c.Status(ctx, "a/b c")
	require.NoError(t, err)
	require.Equal(t, "a/b c", st.SessionID)

	q, err := c.QR(ctx, "s1")
	require.NoError(t, err)
	require.Equal(t, QRData{QR: "2@abc", ExpiresAt: anHour}, q)

	require.NoError(t, c.Release(ctx, "s1", 9))
	require.Equal(t, int64(9), s.epoch)

	require.NoError(t, c.Delete(ctx, "s2", 3, true))
	require.Equal(t, []any{"s2", int64(3), true}, []any{s.id, s.epoch, s.logout})
	require.NoError(t, c.Delete(ctx, "s2", 0, false))
	require.Equal(t, []any{int64(0), false}, []any{s.epoch, s.logout})

	r, err := c.Send(ctx, "s1", aSend)
	require.NoError(t, err)
	require.Equal(t, aSend, s.sent)
	require.Equal(t, SendResult{Outcome: OutcomeSent, Timestamp: anHour}, r)

	s.answer = Reconnected{Sessions: 3}
	cmd := Command{Command: "reconnect", Data: json.RawMessage(`{"soon":true}`)}
	answer, err := c.Command(ctx, cmd)
	require.NoError(t, err)
	require.Equal(t, cmd, s.command)
	require.JSONEq(t, `{"sessions":3}`, string(answer))
	s.answer = Checked{Numbers: []CheckedNumber{{Number: "628", Exists: true}}}
	checked, err := Pass(ctx, c, "a/b", 6, CheckContacts, Numbers{Numbers: []string{"628"}})
	require.NoError(t, err)
	require.Equal(t, s.answer, checked)
	require.Equal(t, []any{"a/b", int64(6), "contacts/check"}, []any{s.id, s.epoch, s.called})
	_, err = Pass(ctx, c, "s1", 6, RevokeInvite, GroupRef{Group: "1@g.us"})
	require.NoError(t, err)
	require.Equal(t, "groups/invite/revoke", s.called)
	s.answer = []int{}
	_, err = Pass(ctx, c, "s1", 6, ListGroups, Page{})
	require.Equal(t, CodeBadAnswer, Code(err))

	s.answer = nil
	answer, err = c.Command(ctx, Command{Command: "ping"})
	require.NoError(t, err)
	require.JSONEq(t, `{}`, string(answer))
}

func TestServerPassesRefusalsOn(t *testing.T) {
	for _, code := range []string{
		CodeStaleTerm, CodeStaleEpoch, CodeStaleGeneration, CodeNotConnected, CodeSessionNotFound, CodeLeaseLost,
		CodeFull, CodeUnsupported, CodeQRNotReady, CodeAlreadyLinked, CodeEngineFailed, CodeWorkerRemoved,
		CodeUnsupportedProtocol, CodeMediaUnavailable,
	} {
		c, _, _ := serve(t, &stub{term: 7, secret: "s3cret", err: Refuse(code, "no")})
		_, err := c.Send(t.Context(), "s1", aSend)
		var e *Error
		require.ErrorAs(t, err, &e, code)
		require.Equal(t, *Refuse(code, "no"), *e)
		require.NotEqual(t, 500, e.Status, code)
		require.Equal(t, code, Code(err))
	}
}

func TestServerHidesFaults(t *testing.T) {
	for name, s := range map[string]*stub{
		"error": {term: 7, secret: "s3cret", err: errors.New("the cause")},
		"panic": {term: 7, secret: "s3cret", panics: "the cause"},
	} {
		t.Run(name, func(t *testing.T) {
			c, srv, log := serve(t, s)
			_, err := c.Send(t.Context(), "s1", aSend)
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, Error{Status: 500, Code: CodeInternal, Message: "the worker failed"}, *e)
			require.False(t, NotSent(err))
			srv.Close() // so that nobody writes to the log any more
			require.Contains(t, log.String(), "the cause")
			require.Contains(t, log.String(), "POST /session/{id}/send")
			require.NotContains(t, log.String(), "hi\"")
		})
	}
}

func TestServerLetsIn(t *testing.T) {
	for _, c := range []struct {
		name         string
		secret, term string
		status       int
		code         string
	}{
		{"right", "Bearer s3cret", "7", 200, ""},
		{"no secret", "", "7", 401, CodeUnauthenticated},
		{"wrong secret", "Bearer other", "7", 401, CodeUnauthenticated},
		{"empty secret", "Bearer ", "7", 401, CodeUnauthenticated},
		{"not Bearer", "s3cret", "7", 401, CodeUnauthenticated},
		{"older term", "Bearer s3cret", "6", 409, CodeStaleTerm},
		{"older term and its secret", "Bearer old", "6", 409, CodeStaleTerm},
		{"later term", "Bearer s3cret", "8", 409, CodeStaleTerm},
		{"term is no number", "Bearer s3cret", "x", 409, CodeStaleTerm},
		{"no term", "Bearer s3cret", "", 409, CodeStaleTerm},
		{"nothing", "", "", 401, CodeUnauthenticated},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &stub{term: 7, secret: "s3cret"}
			status, code := ask(s, "GET", "/session/s1/status", "", c.secret, c.term)
			require.Equal(t, c.status, status)
			require.Equal(t, c.code, code)
			require.Equal(t, c.status == 200, s.called == "status")
		})
	}
	t.Run("a command needs the secret", func(t *testing.T) {
		s := &stub{term: 7, secret: "s3cret"}
		status, code := ask(s, "POST", "/command", `{"command":"ping"}`, "", "7")
		require.Equal(t, 401, status)
		require.Equal(t, CodeUnauthenticated, code)
		require.Empty(t, s.called)
	})
	t.Run("before the first registration nobody is", func(t *testing.T) {
		status, code := ask(&stub{}, "GET", "/session/s1/status", "", "Bearer ", "0")
		require.Equal(t, 401, status)
		require.Equal(t, CodeUnauthenticated, code)
	})
	t.Run("health needs no secret", func(t *testing.T) {
		status, _ := ask(&stub{}, "GET", "/health", "", "", "")
		require.Equal(t, 200, status)
	})
}

func TestServerRefusesBadRequests(t *testing.T) {
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/session/create", `{`, 400, CodeInvalidRequest},
		{"POST", "/session/create", ``, 400, CodeInvalidRequest},
		{"POST", "/session/create", `{"sessionId":"s1","epoch":1} {}`, 400, CodeInvalidRequest},
		{"POST", "/session/create", `{"sessionId":"s1"}`, 400, CodeInvalidRequest},
		{"POST", "/session/create", `{"sessionId":7,"epoch":1}`, 400, CodeInvalidRequest},
		{"POST", "/session/create", `{"sessionId":"s1","epoch":1,"later":true}`, 200, ""},
		{"POST", "/session/s1/release", `{}`, 400, CodeInvalidRequest},
		{"DELETE", "/session/s1?epoch=x", ``, 400, CodeInvalidRequest},
		{"POST", "/session/s1/send", `{"to":"a","type":"text"}`, 400, CodeInvalidRequest},
		{"POST", "/session/s1/send", `{"message":"` + strings.Repeat("a", maxBody) + `"}`, 413, CodeTooLarge},
		{"POST", "/command", `{}`, 400, CodeInvalidRequest},
		{"POST", "/session/s1/pairing-code", `{}`, 400, CodeInvalidRequest},
		{"POST", "/session/s1/contacts/check", `{"epoch":1}`, 400, CodeInvalidRequest},
		{"POST", "/session/s1/presence", `{"epoch":0,"data":{}}`, 400, CodeInvalidRequest},
		{"POST", "/session/s1/read", `{"epoch":1,"data":{},"later":true}`, 200, ""},
		{"POST", "/session/s1/read", `{"epoch":1,"data":{"a":"` + strings.Repeat("a", maxBody) + `"}}`, 413, CodeTooLarge},
		{"GET", "/nothing", ``, 404, CodeNotFound},
		{"PUT", "/session/create", ``, 404, CodeNotFound},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			status, code := ask(&stub{term: 7, secret: "s3cret"}, c.method, c.path, c.body, "Bearer s3cret", "7")
			require.Equal(t, c.status, status)
			require.Equal(t, c.code, code)
		})
	}
}

// ask makes one call without a network and returns status and code of the answer, "" for success.
func ask(s *stub, method, path, body, authorization, term string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	if term != "" {
		r.Header.Set(HeaderTerm, term)
	}
	w := httptest.NewRecorder()
	Server(s, ServerOptions{Logger: slog.New(slog.DiscardHandler)}).ServeHTTP(w, r)
	if w.Header().Get("Content-Type") != "application/json" {
		return w.Code, "not JSON"
	}
	return w.Code, Code(open(w.Code, w.Body.Bytes(), nil))
}

func TestGateway(t *testing.T) {
	type seen struct{ method, path, auth, secret string }
	var got seen
	answer := `{"success":true,"data":{}}`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = seen{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get(HeaderSecret)}
		_, _ = w.Write([]byte(answer))
	}))
	defer srv.Close()
	g := NewGateway(srv.Client(), srv.URL+"/", "tok")

	answer = `{"success":true,"data":{"workerId":"w1","status":"registered","term":3,"secret":"s","leaseMs":12000,"heartbeatMs":3000}}`
	r, err := g.Register(t.Context(), Register{WorkerID: "w1"}, "")
	require.NoError(t, err)
	require.Equal(t, Registered{WorkerID: "w1", Status: "registered", Term: 3, Secret: "s", LeaseMs: 12000, HeartbeatMs: 3000}, r)
	require.Equal(t, seen{"POST", "/api/v1/admin/workers/register", "Bearer tok", ""}, got)

	answer = `{"success":true,"data":{"workerId":"w1","term":3}}`
	_, err = g.Register(t.Context(), Register{WorkerID: "w1", PreviousTerm: 2}, "before")
	require.Equal(t, CodeBadAnswer, Code(err))
	require.Equal(t, seen{"POST", "/api/v1/admin/workers/register", "Bearer tok", "before"}, got)

	answer = `{"success":true,"data":{"leaseMs":12000,"drop":["s1"],"handOver":true}}`
	h, err := g.Heartbeat(t.Context(), "w1", "s", Heartbeat{Term: 3})
	require.NoError(t, err)
	require.Equal(t, HeartbeatAnswer{LeaseMs: 12000, Drop: []string{"s1"}, HandOver: true}, h)
	require.Equal(t, seen{"PUT", "/api/v1/admin/workers/w1/heartbeat", "Bearer tok", "s"}, got)

	answer = `{"success":true,"data":{"next":5}}`
	e, err := g.Events(t.Context(), "w1", "s", EventBatch{Term: 3})
	require.NoError(t, err)
	require.Equal(t, int64(5), e.Next)
	require.Equal(t, seen{"POST", "/api/v1/admin/workers/w1/events", "Bearer tok", "s"}, got)
}

// Another server may answer with success, too. What lacks the point of the answer is no answer.
func TestGatewayAnswersThatSayNothing(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"success":true,"data":{}}`))
	}))
	defer srv.Close()
	g := NewGateway(srv.Client(), srv.URL, "tok")
	_, err := g.Register(t.Context(), Register{WorkerID: "w1"}, "")
	require.Equal(t, CodeBadAnswer, Code(err))
	_, err = g.Heartbeat(t.Context(), "w1", "s", Heartbeat{Status: HeartbeatOnline, Term: 3})
	require.Equal(t, CodeBadAnswer, Code(err))
	_, err = g.Heartbeat(t.Context(), "w1", "s", Heartbeat{Status: HeartbeatOffline, Term: 3})
	require.NoError(t, err, "a worker that leaves needs no lease")
	_, err = g.Events(t.Context(), "w1", "s", EventBatch{Term: 3})
	require.Equal(t, CodeBadAnswer, Code(err))
}

func TestHeartbeatTellsNoneFromUnknown(t *testing.T) {
	none, err := jsonOf(Heartbeat{Sessions: []HeldSession{}})
	require.NoError(t, err)
	require.Contains(t, none, `"sessions":[]`)
	unknown, err := jsonOf(Heartbeat{})
	require.NoError(t, err)
	require.NotContains(t, unknown, "sessions\"")
}

func jsonOf(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}
