package api_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// scripted is a worker that answers what is passed on to it as a test says.
type scripted struct {
	wire.Handler // the rest of the protocol is not called here
	world        *world

	mu     sync.Mutex
	term   int64
	answer func(ctx context.Context, session, call string, p wire.Passed) (any, error)
	calls  []string // in order
	now    atomic.Int64
	most   atomic.Int64
}

// scripted puts a worker at the endpoint of w1, whose first term it has.
func (w *world) scripted() *scripted {
	w.Helper()
	s := &scripted{world: w, term: 1, answer: plausible}
	server := httptest.NewServer(wire.Server(s, wire.ServerOptions{Logger: slog.New(slog.DiscardHandler)}))
	w.Cleanup(server.Close)
	w.Cleanup(server.CloseClientConnections)
	w.exec(`UPDATE workers SET endpoint = $1 WHERE id = 'w1'`, server.URL)
	return s
}

func (s *scripted) Credentials() (int64, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term, s.world.vault.WorkerSecret("w1", s.term)
}

func (s *scripted) Pass(ctx context.Context, session, call string, p wire.Passed) (any, error) {
	now := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	s.mu.Lock()
	s.calls = append(s.calls, call)
	answer := s.answer
	s.mu.Unlock()
	return answer(ctx, session, call, p)
}

func (s *scripted) answers(answer func(ctx context.Context, session, call string, p wire.Passed) (any, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.calls = answer, nil
}

func (s *scripted) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// plausible answers everything with something that makes sense.
func plausible(_ context.Context, _, call string, p wire.Passed) (any, error) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	group := wire.Group{ID: "120363012345678901@g.us", Subject: "x", CreatedAt: at, Size: 1}
	switch call {
	case wire.CheckContacts.Name:
		var in wire.Numbers
		err := json.Unmarshal(p.Data, &in)
		out := wire.Checked{}
		for _, number := range in.Numbers {
			out.Numbers = append(out.Numbers, wire.CheckedNumber{Number: number})
		}
		return out, err
	case wire.GetGroup.Name:
		return group, nil
	case wire.CreateGroup.Name:
		return wire.NewGroupResult{Group: group}, nil
	case wire.GetPairingCode.Name:
		return wire.PairingCode{Code: "ABCD-EFGH", ExpiresAt: at}, nil
	}
	return struct{}{}, nil
}

func passing(t *testing.T) (*world, *tenant, *scripted) {
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	return w, u, w.scripted()
}

func (t *tenant) ask(method, path string, body any) *answer {
	t.Helper()
	return t.do(method, "/api/v1/sessions/shop"+path, t.auth(), body)
}

func (s *scripted) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func mustDecode(t testing.TB, data json.RawMessage, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(data, into))
}
