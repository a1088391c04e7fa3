// Package turns lets few at a time do what is done for one and the same, an account or a session, so that whoever asks very often
// holds up himself alone. It keeps nothing of those for whom nobody asks.
package turns

import (
	"context"
	"sync"
)

// Turns are those of many keys. The zero value is ready and gives each key one turn at a time.
type Turns[K comparable] struct {
	Most int // turns of a key at a time; 0: one

	mu  sync.Mutex
	all map[K]*turn
}

type turn struct {
	slots chan struct{}
	users int // who have a slot or wait for one
}

// Take waits for one of a key's turns until ctx ends, and takes one that is free even after that. Who takes it calls leave.
func (t *Turns[K]) Take(ctx context.Context, key K) (leave func(), ok bool) {
	one := t.enter(key)
	select {
	case one.slots <- struct{}{}:
	default:
		select {
		case one.slots <- struct{}{}:
		case <-ctx.Done():
			t.gone(key, one)
			return nil, false
		}
	}
	return func() { <-one.slots; t.gone(key, one) }, true
}

// Users says how many have a turn of a key or wait for one.
func (t *Turns[K]) Users(key K) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.all[key]; one != nil {
		return one.users
	}
	return 0
}

// Len says of how many keys there is something.
func (t *Turns[K]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all)
}

func (t *Turns[K]) enter(key K) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.all[key]
	if one == nil {
		if t.all == nil {
			t.all = map[K]*turn{}
		}
		one = &turn{slots: make(chan struct{}, max(t.Most, 1))}
		t.all[key] = one
	}
	one.users++
	return one
}

func (t *Turns[K]) gone(key K, one *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(t.all, key)
	}
}
