package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// load is how much a whole-program test sends, and how long Redis is away.
type load struct {
	sessions, messages, clients int
	redisAway                   time.Duration
}

// send has many clients send at once, over all entries, and runs each fault when that many fifths are accepted. Where
// there are faults, clients are patient. It returns how long they took.
func (c *cluster) send(sessions []string, l load, faults map[int]func()) time.Duration {
	c.t.Helper()
	var next, accepted atomic.Int64
	var group, faulting sync.WaitGroup
	started := time.Now()
	for range l.clients {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= l.messages {
					return
				}
				if err := c.sendOne(sessions, i, faults != nil); err != nil {
					c.t.Error(err)
					return
				}
				done := int(accepted.Add(1))
				if done*5%l.messages == 0 {
					if fault := faults[done*5/l.messages]; fault != nil {
						faulting.Go(fault)
					}
				}
			}
		})
	}
	group.Wait()
	took := time.Since(started)
	faulting.Wait()
	c.cancelsDone()
	return took
}

// flow is a load of so many messages a second, from when it is started until it is ended. The rate is a ceiling: what
// the clients could not send in time, because the API was away, is not sent in a burst later.
type flow struct {
	c        *cluster
	rate     int
	stop     chan struct{}
	group    sync.WaitGroup
	accepted atomic.Int64

	mu     sync.Mutex
	failed []error
}

// mostFailed is how many failures a flow tells of.
const mostFailed = 5

// startFlow has clients send to the sessions in turn, over all entries. The impatient ones take a failed call for an error;
// patient ones repeat it under its Idempotency-Key. It returns when the load is up.
func (c *cluster) startFlow(sessions []string, rate int, patient bool) *flow {
	c.t.Helper()
	f := &flow{c: c, rate: rate, stop: make(chan struct{})}
	due := make(chan struct{})
	f.group.Go(func() {
		defer close(due)
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for {
			select {
			case <-f.stop:
				return
			case <-tick.C:
				select {
				case due <- struct{}{}:
				case <-f.stop:
					return
				}
			}
		}
	})
	first := c.sendings()
	var next atomic.Int64
	for range min(rate, 64) {
		f.group.Go(func() {
			for range due {
				if err := c.sendOne(sessions, first+int(next.Add(1))-1, patient); err != nil {
					f.mu.Lock()
					f.failed = append(f.failed, err)
					f.mu.Unlock()
				} else {
					f.accepted.Add(1)
				}
			}
		})
	}
	f.more(rate / 2)
	return f
}

// more waits until so many more messages are accepted.
func (f *flow) more(n int) {
	f.c.t.Helper()
	from := f.accepted.Load()
	f.c.eventually(60*time.Second, fmt.Sprintf("%d more messages are accepted", n), func() (bool, string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.accepted.Load() >= from+int64(n) || len(f.failed) > 0, fmt.Sprint(f.accepted.Load() - from)
	})
}

// end stops the load. No call may have failed.
func (f *flow) end() {
	f.c.t.Helper()
	close(f.stop)
	f.group.Wait()
	for _, err := range f.failed[:min(len(f.failed), mostFailed)] {
		f.c.t.Error(err)
	}
	f.c.t.Logf("%d messages accepted, %d calls failed", f.accepted.Load(), len(f.failed))
	f.c.cancelsDone()
}

// sendings is how many messages have been sent so far.
func (c *cluster) sendings() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.accepted)
}

// sendOne sends the i-th message and remembers what must become of it. A patient client repeats a call that fails, as long as
// an outage may last.
func (c *cluster) sendOne(sessions []string, i int, patient bool) error {
	entry := c.entries[i%len(c.entries)]
	url := entry + "/api/v1/sessions/" + sessions[i%len(sessions)] + "/send"
	m := c.mixedMessage(i, len(sessions))
	var headers []string
	if patient {
		headers = []string{"Idempotency-Key", fmt.Sprintf("key-%d", i)}
	}
	for began := time.Now(); ; {
		status, data, err := c.request(context.Background(), http.MethodPost, url, m.body, headers...)
		switch {
		case err == nil && status == http.StatusAccepted:
			n, err := c.remember(data, m)
			if err == nil && !m.cancel.IsZero() {
				c.cancelAt(entry, n, m.cancel, patient)
			}
			return err
		case !patient || time.Since(began) > time.Minute,
			err == nil && status < 500 && status != http.StatusConflict && status != http.StatusTooManyRequests:
			return errors.Join(fmt.Errorf("send: %d %s", status, data), err)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// remember returns the message's place among all.
func (c *cluster) remember(data json.RawMessage, m mixed) (n int, err error) {
	var answer struct{ MessageID string }
	if err := json.Unmarshal(data, &answer); err != nil || answer.MessageID == "" {
		return 0, fmt.Errorf("send: no messageId in %s", data)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted = append(c.accepted, accepted{id: answer.MessageID, sha256: m.sha256})
	return len(c.accepted) - 1, nil
}
