package jobs

import (
	"context"
	"fmt"
	"time"

	"kurir/fault"
	"kurir/models"
	"kurir/wire"
)

const (
	sessionAsks = 4                      // calls of one session at a time: less than a worker's, so that one that hangs costs itself only
	askPatience = 500 * time.Millisecond // for a turn
	askAttempts = 2                      // of what only reads, if the connection breaks
)

// ErrTooManyCalls refuses a session's calls while as many as it may have are under way.
var ErrTooManyCalls = fault.New(fault.Limited, "too_many_calls", "Too many calls of this session are under way. Wait for their answers.").After(time.Second)

// Pass has the worker of a session ask something of the session's network, through the worker's gate. Its errors are faults
// of ours, before anything was asked, or those of wire.Pass.
func Pass[I, O any](ctx context.Context, w *Workers, s *models.Session, call wire.Call[I, O], in I) (out O, err error) {
	patience, cancel := context.WithTimeout(ctx, askPatience)
	leave, ok := w.turns.Take(patience, s.UID)
	cancel()
	if !ok {
		return out, ErrTooManyCalls
	}
	defer leave()
	worker, err := w.Of(ctx, *s.WorkerID)
	if err != nil {
		return out, err
	}
	if !wait(ctx, worker.gate.asks) {
		return out, ErrWorkerUnavailable.WithCause(fmt.Errorf("worker %s has %d calls in hand", *s.WorkerID, workerAsks))
	}
	defer func() { <-worker.gate.asks }()
	attempts := askAttempts
	if call.Writes {
		attempts = 1
	}
	for range attempts {
		done, gateErr := worker.gate.breaker.Allow()
		if gateErr != nil {
			return out, ErrWorkerUnavailable.WithCause(gateErr)
		}
		out, err = wire.Pass(ctx, worker.Client, s.UID.String(), s.Epoch, call, in)
		done(illness(err))
		if illness(err) == nil || ctx.Err() != nil {
			break
		}
	}
	return out, err
}

// wait takes one of the slots, if one is free soon.
func wait(ctx context.Context, slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(askPatience)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}
