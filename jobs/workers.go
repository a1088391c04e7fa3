package jobs

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/sony/gobreaker/v2"

	"kurir/fault"
	"kurir/models"
	"kurir/wire"
)

// Workers calls worker nodes. Per worker it bounds the calls in flight and keeps a breaker, so that one that hangs costs
// its own sessions only.
type Workers struct {
	db    *models.DB
	vault *models.Vault
	http  *http.Client
	known *expirable.LRU[string, models.Worker] // endpoint and term, for a second

	mu    sync.Mutex
	gates map[string]*gate
}

type gate struct {
	slots   chan struct{}
	breaker *gobreaker.TwoStepCircuitBreaker[any]
}

const (
	workerSlots   = 64 // calls in flight to one worker, from this process
	workerFailing = 5  // consecutive failures that open the breaker
	workerRest    = 3 * time.Second
)

// NewWorkers makes a Workers.
func NewWorkers(db *models.DB, vault *models.Vault) *Workers {
	return &Workers{db: db, vault: vault, http: wire.NewHTTPClient(), gates: map[string]*gate{},
		known: expirable.NewLRU[string, models.Worker](10_000, nil, time.Second)}
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
		Endpoint: worker.Endpoint, Term: worker.Term, Secret: w.vault.WorkerSecret(worker.ID, worker.Term)})}
}

func (w *Workers) gate(id string) *gate {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.gates[id]
	if g == nil {
		g = &gate{slots: make(chan struct{}, workerSlots), breaker: gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
			Name: id, MaxRequests: 1, Timeout: workerRest,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= workerFailing },
		})}
		w.gates[id] = g
	}
	return g
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
	// A worker that refuses with a code is well; one that cannot be reached or does not answer in time is not.
	if err != nil && wire.Code(err) == "" {
		done(err)
	} else {
		done(nil)
	}
	return result, err
}

// notSent is a refusal of our own, before any byte left.
func notSent(cause error) error {
	return &wire.Error{Status: http.StatusServiceUnavailable, Code: wire.CodeNotConnected, Message: "the gateway did not call: " + cause.Error()}
}
