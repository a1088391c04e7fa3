package wire

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"kurir/tracing"
)

const maxBody = 2 << 20 // bytes; media travel as URLs, so a send is text

// Handler is what a worker does with the gateway's calls. It returns an *Error to refuse; any other error is
// logged and answered as CodeInternal, which leaves the outcome open.
type Handler interface {
	// Credentials are those of the current term; an empty secret lets nobody in.
	Credentials() (term int64, secret string)
	Health(ctx context.Context) Health
	// Create gets the term under which the caller was let in, since a new one may begin meanwhile.
	Create(ctx context.Context, term int64, s CreateSession) (SessionState, error)
	Status(ctx context.Context, sessionID string) (SessionState, error)
	QR(ctx context.Context, sessionID string) (QRData, error)
	Release(ctx context.Context, sessionID string, epoch int64) error
	Delete(ctx context.Context, sessionID string, epoch int64, logout bool) error
	Send(ctx context.Context, sessionID string, m Send) (SendResult, error)
	// Pass makes the Call of this name. The answer's type is that call's.
	Pass(ctx context.Context, sessionID, call string, p Passed) (any, error)
	// Command answers what becomes the answer's data; nil is an empty object.
	Command(ctx context.Context, c Command) (any, error)
}

// ServerOptions are the choices of Server.
type ServerOptions struct {
	Logger *slog.Logger // for faults and panics; nil means slog.Default
	Traces *tracing.Tracer
}

// Server is the HTTP adapter of a worker. It checks secret and term, decodes, bounds and encodes; Handler decides.
func Server(h Handler, o ServerOptions) http.Handler {
	s := &server{h: h, log: o.Logger, traces: o.Traces}
	if s.log == nil {
		s.log = slog.Default()
	}
	mux := http.NewServeMux()
	mux.Handle("GET /health", s.open(s.health))
	mux.Handle("POST /session/create", s.guarded(s.create))
	mux.Handle("GET /session/{id}/status", s.guarded(s.status))
	mux.Handle("GET /session/{id}/qr", s.guarded(s.qr))
	mux.Handle("POST /session/{id}/release", s.guarded(s.release))
	mux.Handle("DELETE /session/{id}", s.guarded(s.delete))
	mux.Handle("POST /session/{id}/send", s.guarded(s.send))
	mux.Handle("POST /command", s.guarded(s.command))
	mux.Handle("POST /session/{id}/{call...}", s.guarded(s.pass))
	mux.Handle("/", s.open(noRoute))
	return mux
}

type server struct {
	h      Handler
	log    *slog.Logger
	traces *tracing.Tracer
}

// action handles one request whose caller was let in under term and returns the answer's data.
type action func(w http.ResponseWriter, r *http.Request, term int64) (any, error)

func (s *server) health(_ http.ResponseWriter, r *http.Request, _ int64) (any, error) {
	return s.h.Health(r.Context()), nil
}

func (s *server) create(w http.ResponseWriter, r *http.Request, term int64) (any, error) {
	var c CreateSession
	if err := decode(w, r, &c); err != nil {
		return nil, err
	}
	if c.SessionID == "" || c.Epoch <= 0 {
		return nil, Refuse(CodeInvalidRequest, "sessionId and a positive epoch are needed")
	}
	return s.h.Create(r.Context(), term, c)
}

func (s *server) status(_ http.ResponseWriter, r *http.Request, _ int64) (any, error) {
	return s.h.Status(r.Context(), r.PathValue("id"))
}

func (s *server) qr(_ http.ResponseWriter, r *http.Request, _ int64) (any, error) {
	return s.h.QR(r.Context(), r.PathValue("id"))
}

func (s *server) release(w http.ResponseWriter, r *http.Request, _ int64) (any, error) {
	var rel Release
	if err := decode(w, r, &rel); err != nil {
		return nil, err
	}
	if rel.Epoch <= 0 {
		return nil, Refuse(CodeInvalidRequest, "a positive epoch is needed")
	}
	return struct{}{}, s.h.Release(r.Context(), r.PathValue("id"), rel.Epoch)
}

func (s *server) delete(_ http.ResponseWriter, r *http.Request, _ int64) (any, error) {
	q := r.URL.Query()
	var epoch int64
	if v := q.Get("epoch"); v != "" {
		var err error
		if epoch, err = strconv.ParseInt(v, 10, 64); err != nil || epoch < 0 {
			return nil, Refuse(CodeInvalidRequest, "epoch is not a number")
		}
	}
	return struct{}{}, s.h.Delete(r.Context(), r.PathValue("id"), epoch, q.Get("logout") == "true")
}

func (s *server) send(w http.ResponseWriter, r *http.Request, _ int64) (any, error) {
	var m Send
	if err := decode(w, r, &m); err != nil {
		return nil, err
	}
	if m.WhatsappID == "" || m.To == "" || m.Type == "" {
		return nil, Refuse(CodeInvalidRequest, "whatsappId, to and type are needed")
	}
	return s.h.Send(r.Context(), r.PathValue("id"), m)
}

func (s *server) command(w http.ResponseWriter, r *http.Request, _ int64) (any, error) {
	var c Command
	if err := decode(w, r, &c); err != nil {
		return nil, err
	}
	if c.Command == "" {
		return nil, Refuse(CodeInvalidRequest, "a command is needed")
	}
	answer, err := s.h.Command(r.Context(), c)
	if answer == nil {
		answer = struct{}{}
	}
	return answer, err
}

func (s *server) pass(w http.ResponseWriter, r *http.Request, _ int64) (any, error) {
	var p Passed
	if err := decode(w, r, &p); err != nil {
		return nil, err
	}
	if p.Epoch <= 0 || len(p.Data) == 0 {
		return nil, Refuse(CodeInvalidRequest, "data and a positive epoch are needed")
	}
	return s.h.Pass(r.Context(), r.PathValue("id"), r.PathValue("call"), p)
}

func noRoute(http.ResponseWriter, *http.Request, int64) (any, error) {
	return nil, Refuse(CodeNotFound, "there is no such route")
}

// decode reads the whole body as one JSON value. Unknown fields pass, so that a newer gateway can add some.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return Refuse(CodeTooLarge, "the body is over 2 MB")
		}
		return Refuse(CodeInvalidRequest, "the body ended early")
	}
	if err := json.Unmarshal(b, into); err != nil {
		return Refuse(CodeInvalidRequest, "the body is not the JSON that this route takes")
	}
	return nil
}

// guarded lets only the current term's holder of the secret through.
func (s *server) guarded(a action) http.Handler {
	return s.open(func(w http.ResponseWriter, r *http.Request, _ int64) (any, error) {
		term, err := s.admit(r)
		if err != nil {
			return nil, err
		}
		return s.traced(a, w, r, term)
	})
}

// traced goes on with the caller's trace. A call that is not traced starts none.
func (s *server) traced(a action, w http.ResponseWriter, r *http.Request, term int64) (any, error) {
	ctx, span := s.traces.Continue(r.Context(), tracing.Server, r.Pattern, r.Header.Get(tracing.Header), tracing.Span{})
	if span.None() {
		return a(w, r, term)
	}
	defer span.End()
	data, err := a(w, r.WithContext(ctx), term)
	if err != nil {
		span.Failed(cmp.Or(Code(err), CodeInternal))
	}
	return data, err
}

// admit looks at the term first: a caller of another term necessarily has another secret, and stale_term tells it
// more than a 401. The term is no secret, /health shows it.
func (s *server) admit(r *http.Request) (int64, error) {
	term, secret := s.h.Credentials()
	claimed := r.Header.Get(HeaderTerm)
	if n, err := strconv.ParseInt(claimed, 10, 64); claimed != "" && (err != nil || n != term) {
		return 0, Refuse(CodeStaleTerm, "another term is current here")
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || secret == "" || subtle.ConstantTimeCompare([]byte(given), []byte(secret)) != 1 {
		return 0, Refuse(CodeUnauthenticated, "the secret of the worker's term is needed")
	}
	if claimed == "" {
		return 0, Refuse(CodeStaleTerm, HeaderTerm+" is needed")
	}
	return term, nil
}

// open answers with what the action returns, and with a 500 if it panics.
func (s *server) open(a action) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler { //nolint:errorlint // a recovered value, compared as net/http does
				panic(p)
			}
			s.log.ErrorContext(r.Context(), "panic in a call to the worker", "route", r.Pattern, "panic", p, "stack", string(debug.Stack()))
			reply(w, http.StatusInternalServerError, failure{Error: "the worker failed", Code: CodeInternal})
		}()
		data, err := a(w, r, 0)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		reply(w, http.StatusOK, success{Success: true, Data: data})
	})
}

func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *Error
	if errors.As(err, &e) {
		reply(w, e.Status, failure{Error: e.Message, Code: e.Code})
		return
	}
	if r.Context().Err() == nil { // else the caller has gone, which is no fault
		s.log.ErrorContext(r.Context(), "a call to the worker failed", "route", r.Pattern, "session", r.PathValue("id"), "error", err)
	}
	reply(w, http.StatusInternalServerError, failure{Error: "the worker failed", Code: CodeInternal})
}

func reply(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // only a Handler's own value can do that
		status = http.StatusInternalServerError
		b = []byte(`{"success":false,"error":"the worker failed","code":"` + CodeInternal + `"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the caller has gone
}
