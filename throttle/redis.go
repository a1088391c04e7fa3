package throttle

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"

	"kurir/limits"
)

//go:embed take.lua
var takeSource string

//go:embed give.lua
var giveSource string

//go:embed install.lua
var installSource string

//go:embed forget.lua
var forgetSource string

// Ask is a wish to count n more.
type Ask struct {
	Key    string
	Policy limits.Policy
	N      int  // 0 only looks
	Strict bool // only if there is a counter already, see Taken.Missing
}

// Taken is the answer.
type Taken struct {
	limits.Quota
	Missing bool  // there is no counter, and nothing was counted
	Epoch   int64 // of the counter, 0 for those that were never installed
	Slot    int64
	Ask     Ask
}

// Redis counts in Redis, by its clock. Each call is one round trip, and calls that come at the same time share one. While Redis does not answer, calls fail at once for most
// of the time, so that nobody waits for it.
type Redis struct {
	client                      redis.UniversalClient
	timeout                     time.Duration
	take, give, install, forget *redis.Script
	breaker                     *gobreaker.CircuitBreaker[[]any]
	now                         func() int64 // ms; 0 is Redis' clock
	queue                       queue
}

// breakTime is how long Redis is left alone after it failed.
const breakTime = time.Second

// NewRedis counts with client, and waits for it no longer than timeout.
func NewRedis(client redis.UniversalClient, timeout time.Duration) *Redis {
	return &Redis{client: client, timeout: timeout, take: redis.NewScript(takeSource), give: redis.NewScript(giveSource),
		install: redis.NewScript(installSource), forget: redis.NewScript(forgetSource), now: func() int64 { return 0 },
		breaker: gobreaker.NewCircuitBreaker[[]any](gobreaker.Settings{Timeout: breakTime,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 3 }})}
}

// ErrDown says that Redis does not answer.
var ErrDown = errors.New("redis does not answer")

// Take counts all that is asked for in one pipeline. Each stands alone: one that is refused does not undo the others.
func (r *Redis) Take(_ context.Context, asks ...Ask) ([]Taken, error) {
	calls := make([]call, len(asks))
	for i, a := range asks {
		calls[i] = call{script: r.take, key: a.Key, args: []any{a.N, a.Policy.Limit, a.Policy.Width().Milliseconds(), a.Policy.Kept(), a.Strict, r.now()}}
	}
	answers, err := r.run(calls...)
	if err != nil {
		return nil, err
	}
	taken := make([]Taken, len(asks))
	for i, a := range asks {
		if taken[i], err = takenOf(a, answers[i]); err != nil {
			return nil, err
		}
	}
	return taken, nil
}

func takenOf(a Ask, answer any) (Taken, error) {
	list, _ := answer.([]any)
	if len(list) == 1 {
		return Taken{Missing: true, Ask: a}, nil
	}
	if len(list) != 6 {
		return Taken{}, fmt.Errorf("a counter answered %v", answer)
	}
	var n [5]int64
	for i := range n {
		n[i], _ = list[i].(int64)
	}
	text, _ := list[5].(string)
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return Taken{}, fmt.Errorf("epoch of a counter: %w", err)
	}
	return Taken{Ask: a, Epoch: epoch, Slot: n[4], Quota: limits.Quota{Allowed: n[0] == 1, Limit: a.Policy.Limit, Left: max(a.Policy.Limit-int(n[1]), 0),
		Retry: time.Duration(n[2]) * time.Millisecond, Reset: time.Duration(n[3]) * time.Millisecond}}, nil
}

// Give takes back n of what was counted.
func (r *Redis) Give(_ context.Context, t Taken, n int) error {
	_, err := r.run(call{script: r.give, key: t.Ask.Key, args: []any{n, t.Ask.Policy.Kept(), t.Slot, t.Epoch}})
	return err
}

// Install makes a counter of what was counted elsewhere, by age in slots, unless one of this epoch or a later one is there.
func (r *Redis) Install(_ context.Context, key string, p limits.Policy, epoch int64, counts map[int64]int64) error {
	args := []any{epoch, p.Width().Milliseconds(), p.Kept(), r.now()}
	for age, n := range counts {
		args = append(args, age, n)
	}
	_, err := r.run(call{script: r.install, key: key, args: args})
	return err
}

// Forget drops a counter, if it is of this epoch.
func (r *Redis) Forget(_ context.Context, key string, epoch int64) error {
	_, err := r.run(call{script: r.forget, key: key, args: []any{epoch}})
	return err
}

// Clear drops counters, whatever their epoch.
func (r *Redis) Clear(ctx context.Context, keys ...string) error {
	_, err := r.guarded(ctx, func(ctx context.Context) ([]any, error) {
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error { // one by one: in a cluster they may lie on several nodes
			for _, key := range keys {
				p.Del(ctx, key)
			}
			return nil
		})
		return nil, err
	})
	return err
}

// First reports whether nobody has asked with this key within the time.
func (r *Redis) First(ctx context.Context, key string, within time.Duration) (bool, error) {
	answers, err := r.guarded(ctx, func(ctx context.Context) ([]any, error) {
		first, err := r.client.SetNX(ctx, key, 1, within).Result()
		return []any{first}, err
	})
	if err != nil {
		return false, err
	}
	first, _ := answers[0].(bool)
	return first, nil
}

// pipeline runs calls in one round trip, each with an error of its own; whole sends the scripts themselves.
func (r *Redis) pipeline(ctx context.Context, calls []*call, whole bool) error {
	send := func(p redis.Scripter, c *call) *redis.Cmd {
		if whole {
			return p.Eval(ctx, sourceOf(r, c.script), []string{c.key}, c.args...)
		}
		return p.EvalSha(ctx, c.script.Hash(), []string{c.key}, c.args...)
	}
	if len(calls) == 1 {
		calls[0].answer, calls[0].err = send(r.client, calls[0]).Result()
		return calls[0].err
	}
	commands := make([]*redis.Cmd, len(calls))
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range calls {
			commands[i] = send(p, c)
		}
		return nil
	})
	for i, c := range calls {
		c.answer, c.err = commands[i].Result()
	}
	return err
}

func sourceOf(r *Redis, s *redis.Script) string {
	return map[*redis.Script]string{r.take: takeSource, r.give: giveSource, r.install: installSource, r.forget: forgetSource}[s]
}

func (r *Redis) guarded(ctx context.Context, f func(context.Context) ([]any, error)) ([]any, error) {
	answers, err := r.breaker.Execute(func() ([]any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout)
		defer cancel()
		return f(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDown, err)
	}
	return answers, nil
}
