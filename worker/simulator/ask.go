package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator/simnet"
)

// What the simulated network can do beside messages. It has no labels, so a conn is no worker.Labeler.
var (
	_ worker.Contacts  = (*conn)(nil)
	_ worker.Groups    = (*conn)(nil)
	_ worker.Presencer = (*conn)(nil)
	_ worker.Reader    = (*conn)(nil)
	_ worker.Pairer    = (*conn)(nil)
)

// asking is one question without an answer.
type asking struct {
	n       int64
	ask     *simnet.Ask // nil: taken back
	written bool        // the writer has taken it: the network may have heard it
	done    chan reply  // holds one
}

type reply struct {
	answer *simnet.Answer
	err    error
}

// errNoAnswer says that a question was written, and the link ended before an answer.
var errNoAnswer = errors.New("the network did not answer")

// ask asks the network over the present link. Before the session is linked, only pairing may be asked for.
func ask[I, O any](ctx context.Context, c *conn, call wire.Call[I, O], in I) (out O, err error) {
	c.mu.Lock()
	l, ready, state := c.link, c.ready, c.state
	c.mu.Unlock()
	pairing := call.Name == wire.GetPairingCode.Name
	switch {
	case !c.session.Lease():
		return out, worker.ErrLeaseLost
	case pairing && state.PhoneNumber != "" && ready:
		return out, wire.Refuse(wire.CodeAlreadyLinked, "the session is linked")
	case pairing && (l == nil || state.Status != wire.StatusQRRequired):
		return out, wire.Refuse(wire.CodeQRNotReady, "the session does not wait for a phone")
	case l == nil || !pairing && !ready:
		return out, worker.ErrNotConnected
	}
	data, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("encode %s: %w", call.Name, err)
	}
	answer, err := l.ask(ctx, &simnet.Ask{Call: call.Name, Data: data})
	switch {
	case err != nil:
		return out, err
	case answer.Code == wire.CodeNotConnected:
		return out, worker.ErrNotConnected
	case answer.Code != "":
		return out, wire.Refuse(answer.Code, answer.Error)
	}
	return out, json.Unmarshal(answer.Data, &out)
}

// ask queues one question and waits for its answer, for the end of the link or of ctx.
func (l *link) ask(ctx context.Context, a *simnet.Ask) (*simnet.Answer, error) {
	q := &asking{ask: a, done: make(chan reply, 1)}
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return nil, worker.ErrNotConnected
	}
	l.nextN++
	q.n = l.nextN
	if l.asked == nil {
		l.asked = map[int64]*asking{}
	}
	l.asked[q.n] = q
	l.asks = append(l.asks, q)
	l.mu.Unlock()
	l.kick()
	select {
	case r := <-q.done:
		return r.answer, r.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.asked, q.n)
	if !q.written {
		q.ask = nil // the writer skips it
		return nil, fmt.Errorf("%w: %w", worker.ErrNotConnected, ctx.Err())
	}
	return nil, ctx.Err()
}

// answer settles a question.
func (l *link) answer(n int64, a *simnet.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.asked[n]; q != nil && a != nil {
		q.done <- reply{answer: a}
		delete(l.asked, n)
	}
}

// settleAsks answers the questions that have no answer when the link ends. Callers hold l.mu.
func (l *link) settleAsks() {
	for n, q := range l.asked {
		err := errNoAnswer
		if !q.written {
			err = worker.ErrNotConnected
		}
		q.done <- reply{err: err}
		delete(l.asked, n)
	}
}

// refuseAsks answers questions that the lapsed lease keeps from leaving. Callers hold l.mu.
func (l *link) refuseAsks(list []*asking) {
	for _, q := range list {
		if l.asked[q.n] == q {
			q.done <- reply{err: worker.ErrLeaseLost}
			delete(l.asked, q.n)
		}
	}
}

// takeAsks hands the questions that wait to the writer. Callers hold l.mu.
func (l *link) takeAsks() (list []*asking) {
	for _, q := range l.asks {
		if q.ask != nil {
			q.written = true
			list = append(list, q)
		}
	}
	l.asks = nil
	return list
}
