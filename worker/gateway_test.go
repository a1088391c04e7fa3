package worker

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"kurir/wire"
)

// gateway is a gateway in memory. It keeps one worker's term and lease as the protocol demands, and its hooks,
// where set, stand before that: a *wire.Error refuses, another error breaks the connection.
type gateway struct {
	lease, heartbeat time.Duration

	mu         sync.Mutex
	term       int64
	secret     string
	until      time.Time // of the lease
	drop       []string
	onRegister func(wire.Register) error
	onBeat     func(wire.Heartbeat) error
	handOver   func(wire.Heartbeat) bool                   // what a worker in maintenance is told
	garble     func(path string) (status int, body string) // another answer, of somebody between; 0: none, hang: never any
	onEvents   func(wire.EventBatch) error
	lose       func(wire.EventBatch) bool // take the batch but lose the answer

	registers []wire.Register
	beats     []wire.Heartbeat
	stored    []wire.Event // as accepted, in order
	next      int64
	batches   int
}

func newGateway() *gateway {
	return &gateway{lease: 12 * time.Second, heartbeat: 3 * time.Second}
}

var errBroken = errors.New("connection broken")

func (g *gateway) with(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *gateway) register(secret string, r wire.Register) (any, error) {
	g.registers = append(g.registers, r)
	if g.onRegister != nil {
		if err := g.onRegister(r); err != nil {
			return nil, err
		}
	}
	proven := r.PreviousTerm == g.term && secret == g.secret && secret != ""
	if time.Now().Before(g.until) && !proven {
		return nil, wire.Refuse(wire.CodeWorkerLive, "live")
	}
	g.term++
	g.secret = "secret-" + string(rune('a'+g.term))
	g.until = time.Now().Add(g.lease)
	g.next = 1
	return wire.Registered{
		WorkerID: r.WorkerID, Status: "registered", Term: g.term, Secret: g.secret,
		LeaseMs: g.lease.Milliseconds(), HeartbeatMs: g.heartbeat.Milliseconds(),
	}, nil
}

func (g *gateway) admit(secret string, term int64) error {
	if secret != g.secret {
		return wire.Refuse(wire.CodeUnauthenticated, "secret")
	}
	if term != g.term {
		return wire.Refuse(wire.CodeStaleTerm, "term")
	}
	return nil
}

func (g *gateway) beat(secret string, h wire.Heartbeat) (any, error) {
	if g.onBeat != nil {
		if err := g.onBeat(h); err != nil {
			return nil, err
		}
	}
	if err := g.admit(secret, h.Term); err != nil {
		return nil, err
	}
	g.beats = append(g.beats, h)
	g.until = time.Now().Add(g.lease)
	if h.Status == "offline" {
		g.until = time.Time{}
		g.secret = ""
	}
	answer := wire.HeartbeatAnswer{LeaseMs: g.lease.Milliseconds(), Drop: g.drop}
	if h.Status == wire.HeartbeatMaintenance && g.handOver != nil {
		answer.HandOver = g.handOver(h)
	}
	return answer, nil
}

func (g *gateway) events(secret string, b wire.EventBatch) (any, error) {
	g.batches++
	if g.onEvents != nil {
		if err := g.onEvents(b); err != nil {
			return nil, err
		}
	}
	if err := g.admit(secret, b.Term); err != nil {
		return nil, err
	}
	for i, e := range b.Events {
		if e.Seq != b.Events[0].Seq+int64(i) {
			return nil, wire.Refuse(wire.CodeInvalidRequest, "seqs are not consecutive")
		}
		if e.Seq == g.next {
			g.stored = append(g.stored, e)
			g.next++
		}
	}
	if g.lose != nil && g.lose(b) {
		return nil, errBroken
	}
	return wire.EventBatchAnswer{Next: g.next}, nil
}

// RoundTrip lets a client reach the gateway without a network, which a synctest bubble needs. As over a network, a
// client that gives up does not keep the gateway from acting.
func (g *gateway) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	if status, text := g.garbled(r.URL.Path); status == hang {
		<-r.Context().Done()
		return nil, r.Context().Err()
	} else if status != 0 {
		w := httptest.NewRecorder()
		w.WriteHeader(status)
		_, _ = w.WriteString(text)
		return w.Result(), nil
	}
	type answer struct {
		res *http.Response
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		res, err := g.answer(r, body)
		answered <- answer{res, err}
	}()
	select {
	case a := <-answered:
		return a.res, a.err
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

const hang = -1

func (g *gateway) garbled(path string) (status int, body string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.garble == nil {
		return 0, ""
	}
	return g.garble(path)
}

func (g *gateway) answer(r *http.Request, body []byte) (*http.Response, error) {
	secret := r.Header.Get(wire.HeaderSecret)
	g.mu.Lock()
	defer g.mu.Unlock()
	var data any
	var err error
	switch path := strings.TrimPrefix(r.URL.Path, "/api/v1/admin/workers"); {
	case path == "/register":
		data, err = g.register(secret, decoded[wire.Register](body))
	case strings.HasSuffix(path, "/heartbeat"):
		data, err = g.beat(secret, decoded[wire.Heartbeat](body))
	case strings.HasSuffix(path, "/events"):
		data, err = g.events(secret, decoded[wire.EventBatch](body))
	}
	w := httptest.NewRecorder()
	var refusal *wire.Error
	switch {
	case errors.As(err, &refusal):
		w.WriteHeader(refusal.Status)
		_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "code": refusal.Code, "error": refusal.Message})
	case err != nil:
		return nil, err
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "data": data})
	}
	return w.Result(), nil
}

// ServeHTTP is the same over a network.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	res, err := g.RoundTrip(r)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer res.Body.Close()
	w.WriteHeader(res.StatusCode)
	_, _ = io.Copy(w, res.Body)
}

func decoded[T any](b []byte) T {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		panic(err)
	}
	return v
}

func (g *gateway) lastBeat() (none wire.Heartbeat) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.beats) == 0 {
		return none
	}
	return g.beats[len(g.beats)-1]
}

func (g *gateway) storedIDs() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var ids []string
	for _, e := range g.stored {
		ids = append(ids, e.EventID)
	}
	return ids
}

// forget lets the gateway remember no registration and no heartbeat so far.
func (g *gateway) forget() { g.with(func() { g.registers, g.beats = nil, nil }) }

func (g *gateway) registered() []wire.Register {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.registers)
}

func (g *gateway) beaten() []wire.Heartbeat {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.beats)
}

func (g *gateway) taken() []wire.Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.stored)
}

func (g *gateway) lastRegister() wire.Register {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.registers[len(g.registers)-1]
}
