package jobs

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/sony/gobreaker/v2"

	"kurir/fault"
	"kurir/models"
	"kurir/recent"
	"kurir/turns"
	"kurir/wire"
)

// Workers calls worker nodes. Per worker it bounds the calls in flight and keeps a breaker, so that one that hangs costs
// its own sessions only.
type Workers struct {
	db    *models.DB
	vault *models.Vault
	http  *http.Client
	known *recent.Values[string, models.Worker] // endpoint and term, for a second

	mu    sync.Mutex
	gates map[string]*gate
	turns turns.Turns[uuid.UUID] // of sessions, see passthrough.go
}

type gate struct {
	slots    chan struct{} // of sends
	asks     chan struct{} // of calls that are passed on
	control  chan struct{} // of control-plane calls
	progress atomic.Int64  // when one of those began or ended last, in Unix nanoseconds
	breaker  *gobreaker.TwoStepCircuitBreaker[any]
}

const (
	workerSlots   = 64 // calls in flight to one worker, from this process
	workerAsks    = 64 // calls that are passed on to one worker at a time, from this process
	workerControl = 10 // of those, besides sends: less than the slots of the control queue, so that one worker never takes all
	workerFailing = 5  // consecutive failures that open the breaker
	workerRest    = 3 * time.Second
)

// NewWorkers makes a Workers.
func NewWorkers(db *models.DB, vault *models.Vault) *Workers {
	return &Workers{db: db, vault: vault, http: wire.NewHTTPClient(), gates: map[string]*gate{}, turns: turns.Turns[uuid.UUID]{Most: sessionAsks},
		known: recent.New[string, models.Worker](10_000, time.Second)}
}

// WorkerClient is a worker behind its gate.
type WorkerClient struct {
	*wire.Client
	gate *gate
}

// ErrWorkerUnavailable says that a session's worker cannot be asked now.
var ErrWorkerUnavailable = fault.New(fault.Unavailable, "worker_unavailable", "The session's worker cannot be reached now. Try again.").After(2 * time.Second)

// Of returns the client of a worker by its ID.
func (w *Workers) Of(ctx context.Context, id string) (*WorkerClient, error) {
	if id == "" {
		return nil, ErrWorkerUnavailable.WithCause(errors.New("the session has no worker"))
	}
	worker, ok := w.known.Get(id)
	if !ok {
		row, err := models.WorkerByID(ctx, w.db, id)
		if err != nil {
			return nil, ErrWorkerUnavailable.WithCause(err)
		}
		worker = *row
		w.known.Add(id, worker)
	}
	return w.client(&worker), nil
}

func (w *Workers) client(worker *models.Worker) *WorkerClient {
	return &WorkerClient{gate: w.gate(worker.ID), Client: wire.NewClient(w.http, wire.Target{WorkerID: worker.ID,
		Endpoint: worker.Endpoint, Term: worker.Term, Secret: w.vault.WorkerSecretOf(worker.ID, worker.Term, worker.SecretKey)})}
}

func (w *Workers) gate(id string) *gate {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gates[id]
	if g == nil {
		g = &gate{slots: make(chan struct{}, workerSlots), control: make(chan struct{}, workerControl), asks: make(chan struct{}, workerAsks), breaker: gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Name: id, MaxRequests: 1, Timeout: workerRest,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= workerFailing },
		})}
		w.gates[id] = g
	}
	return g
}

// resting says that a worker has failed so often that nobody asks it for a while.
func (w *Workers) resting(id string) bool {
	w.mu.Lock()
	g := w.gates[id]
	w.mu.Unlock()
	return g != nil && g.breaker.State() == gobreaker.StateOpen
}

// controlPatience is how long the calls that a worker has in hand may make no progress before further jobs stop waiting for
// their turn: they would keep slots that the jobs of other workers need.
const controlPatience = time.Second

// control makes a control-plane call through the gate. A worker that hangs keeps a few jobs; the others look again later.
func (c *WorkerClient) control(ctx context.Context, timeout time.Duration, call func(ctx context.Context) error) error {
	if err := c.turn(ctx); err != nil {
		return err
	}
	defer func() { c.gate.moved(); <-c.gate.control }()
	done, err := c.gate.breaker.Allow()
	if err != nil {
		return later{workerRest}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = call(ctx)
	done(illness(err))
	return err
}

// turn waits for one of the worker's slots, as long as its calls come and go.
func (c *WorkerClient) turn(ctx context.Context) error {
	for {
		select {
		case c.gate.control <- struct{}{}:
			c.gate.moved()
			return nil
		default:
		}
		left := controlPatience - time.Since(time.Unix(0, c.gate.progress.Load()))
		if left <= 0 {
			return later{workerRest}
		}
		select {
		case c.gate.control <- struct{}{}:
			c.gate.moved()
			return nil
		case <-time.After(left):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// moved notes that a call has begun or ended.
func (g *gate) moved() { g.progress.Store(time.Now().UnixNano()) }

// illness is the error of a worker that is not well: it cannot be reached, or does not answer in time. One that refuses with
// a code is well.
func illness(err error) error {
	if err != nil && wire.Code(err) == "" {
		return err
	}
	return nil
}

// Send is wire.Client.Send through the gate. Refusals at the gate prove that nothing was sent.
func (c *WorkerClient) Send(ctx context.Context, session string, m wire.Send) (wire.SendResult, error) {
	done, err := c.gate.breaker.Allow()
	if err != nil {
		return wire.SendResult{}, notSent(err)
	}
	select {
	case c.gate.slots <- struct{}{}:
		defer func() { <-c.gate.slots }()
	case <-ctx.Done():
		done(nil)
		return wire.SendResult{}, notSent(ctx.Err())
	}
	result, err := c.Client.Send(ctx, session, m)
	done(illness(err))
	return result, err
}

// notSent is a refusal of our own, before any byte left.
func notSent(cause error) error {
	return &wire.Error{Status: http.StatusServiceUnavailable, Code: wire.CodeNotConnected, Message: "the gateway did not call: " + cause.Error()}
}
