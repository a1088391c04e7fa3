package throttle

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Calls that come at the same time share a round trip: while one pipeline is under way, the next one gathers, so a lone call
// never waits. What many ask of one counter is asked once: a tenant who sends as fast as he can costs Redis little.

// call is a run of a script.
type call struct {
	script *redis.Script
	key    string
	args   []any

	answer any
	err    error
}

// waiter is a caller with his calls.
type waiter struct {
	calls []call
	done  chan struct{}
}

type queue struct {
	mu      sync.Mutex
	waiting []*waiter
	running int
}

const (
	queueRunning = 2   // pipelines side by side
	queueBatch   = 128 // callers in one
)

// run has calls run and waits for their answers.
func (r *Redis) run(calls ...call) ([]any, error) {
	w := &waiter{calls: calls, done: make(chan struct{})}
	q := &r.queue
	q.mu.Lock()
	q.waiting = append(q.waiting, w)
	if q.running < queueRunning {
		q.running++
		go r.serve()
	}
	q.mu.Unlock()
	<-w.done
	answers := make([]any, len(calls))
	for i := range calls {
		if err := calls[i].err; err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDown, err)
		}
		answers[i] = calls[i].answer
	}
	return answers, nil
}

// serve runs what waits, until nothing does.
func (r *Redis) serve() {
	q := &r.queue
	for {
		q.mu.Lock()
		batch := q.waiting[:min(len(q.waiting), queueBatch)]
		q.waiting = q.waiting[len(batch):]
		if len(batch) == 0 {
			q.waiting = nil
			q.running--
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		var calls []*call
		for _, w := range batch {
			for i := range w.calls {
				calls = append(calls, &w.calls[i])
			}
		}
		r.runAll(r.runMerged(calls))
		for _, w := range batch {
			close(w.done)
		}
	}
}

// runMerged runs calls, those that take one from the same counter as one call. It returns those that have to be run by themselves:
// there is room for some of them, or for none.
func (r *Redis) runMerged(calls []*call) (again []*call) {
	merged, members := make([]*call, 0, len(calls)), make([][]*call, 0, len(calls))
	last := map[string]int{} // by key
	for _, c := range calls {
		single := c.script == r.take && c.args[0] == 1
		if at, ok := last[c.key]; ok && single && slices.Equal(members[at][0].args[1:], c.args[1:]) {
			members[at] = append(members[at], c)
			continue
		}
		if single {
			last[c.key] = len(merged)
		}
		merged, members = append(merged, c), append(members, []*call{c})
	}
	for i, m := range members {
		if len(m) > 1 {
			merged[i] = &call{script: r.take, key: m[0].key, args: append([]any{len(m)}, m[0].args[1:]...)}
		}
	}
	r.runAll(merged)
	for i, m := range members {
		if len(m) > 1 && !share(merged[i], m) {
			again = append(again, m...)
		}
	}
	return again
}

// share gives the answer of a merged call to its members, unless it was a refusal, which need not be one of each.
func share(merged *call, members []*call) bool {
	list, _ := merged.answer.([]any)
	if merged.err == nil && len(list) == 6 {
		if list[0] == int64(0) {
			return false
		}
		total, _ := list[1].(int64)
		for i, c := range members {
			own := slices.Clone(list)
			own[1] = total - int64(len(members)-1-i)
			c.answer = own
		}
		return true
	}
	for _, c := range members {
		c.answer, c.err = merged.answer, merged.err
	}
	return true
}

// runAll runs calls in one round trip, or two where Redis does not know a script yet.
func (r *Redis) runAll(calls []*call) {
	if len(calls) == 0 {
		return
	}
	_, err := r.guarded(context.Background(), func(ctx context.Context) ([]any, error) {
		err := r.pipeline(ctx, calls, false)
		if !redis.HasErrorPrefix(err, "NOSCRIPT") {
			return nil, err
		}
		unknown := slices.DeleteFunc(slices.Clone(calls), func(c *call) bool { return !redis.HasErrorPrefix(c.err, "NOSCRIPT") })
		return nil, r.pipeline(ctx, unknown, true)
	})
	if err == nil {
		return
	}
	for _, c := range calls {
		if c.answer == nil && c.err == nil { // it was not sent
			c.err = err
		}
	}
}
