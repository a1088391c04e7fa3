// Package grouped runs calls that come at the same time as one, as a database does with commits: while a group is under way,
// the next one gathers. A call that comes alone runs at once, so nobody waits for company, and the more there is to do, the
// less each call costs.
package grouped

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Calls are calls of one kind. Run and the bounds are set before the first one.
type Calls[Q, A any] struct {
	// Run answers a group, each call at its place.
	Run func(ctx context.Context, group []Q) ([]A, error)
	// Alone says of an error that nothing of the group was done: each call is run by itself then. nil: none is.
	Alone func(error) bool

	Size    int           // of a group, at most
	Side    int           // groups that run side by side
	Timeout time.Duration // of a group
	Gap     time.Duration // at least, between the beginnings of two groups, so that they grow. Who comes after that waits for nobody

	mu      sync.Mutex
	waiting []*call[Q, A]
	running int
	began   time.Time // when the last group did
}

type call[Q, A any] struct {
	ask    Q
	answer A
	err    error
	done   chan struct{}
}

// Do makes a call. It returns when its group is answered, whatever the caller's patience, since what was asked for may be done. Timeout
// bounds each group, those before it too.
func (c *Calls[Q, A]) Do(ask Q) (A, error) {
	mine := &call[Q, A]{ask: ask, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, mine)
	if c.running < c.Side {
		c.running++
		go c.work()
	}
	c.mu.Unlock()
	<-mine.done
	return mine.answer, mine.err
}

func (c *Calls[Q, A]) work() {
	over := false
	defer func() {
		if !over { // Run has ended this goroutine: those that wait need another one
			go c.work()
		}
	}()
	for {
		c.mu.Lock()
		if rest := c.Gap - time.Since(c.began); rest > 0 && len(c.waiting) > 0 && len(c.waiting) < c.Size {
			c.mu.Unlock()
			time.Sleep(rest)
			c.mu.Lock()
		}
		group := c.waiting[:min(len(c.waiting), c.Size)]
		c.waiting = c.waiting[len(group):]
		if len(group) == 0 {
			c.waiting = nil
			c.running--
			c.mu.Unlock()
			over = true
			return
		}
		c.began = time.Now()
		c.mu.Unlock()
		c.run(group)
	}
}

func (c *Calls[Q, A]) run(group []*call[Q, A]) {
	asks := make([]Q, len(group))
	for i, one := range group {
		asks[i] = one.ask
	}
	var answers []A
	err := errEnded
	defer func() {
		if err != nil && len(group) > 1 && c.Alone != nil && c.Alone(err) {
			go c.each(group) // the next group does not wait for these
			return
		}
		for i, one := range group {
			if one.err = err; err == nil {
				one.answer = answers[i]
			}
			close(one.done)
		}
	}()
	answers, err = c.answer(asks)
}

// each runs calls by themselves, some at a time, so that one that hangs holds up few.
func (c *Calls[Q, A]) each(group []*call[Q, A]) {
	var g errgroup.Group
	g.SetLimit(aloneWidth)
	for _, one := range group {
		g.Go(func() error { c.run([]*call[Q, A]{one}); return nil })
	}
	_ = g.Wait()
}

const aloneWidth = 8

var (
	errAnswers = errors.New("a group was not answered whole")
	errEnded   = errors.New("a group ended the goroutine that ran it") // runtime.Goexit, which recover does not see
)

func (c *Calls[Q, A]) answer(asks []Q) (answers []A, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a group of calls: %v\n%s", p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	if answers, err = c.Run(ctx, asks); err == nil && len(answers) != len(asks) {
		err = errAnswers
	}
	return answers, err
}
