// Package recent remembers values for a while, so that they are not asked for each time. It is safe for use by many goroutines and
// has none of its own: what nobody asks for any more goes when newer values need its place.
package recent

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Values are what is remembered, by key.
type Values[K comparable, V any] struct {
	kept    time.Duration
	entries *lru.Cache[K, entry[V]]
}

type entry[V any] struct {
	value V
	until time.Time
}

// New remembers at most so many values, those used last, each for as long as kept says.
func New[K comparable, V any](most int, kept time.Duration) *Values[K, V] {
	entries, err := lru.New[K, entry[V]](most)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &Values[K, V]{kept: kept, entries: entries}
}

// Add remembers a value from now on, in place of the former one.
func (v *Values[K, V]) Add(key K, value V) {
	v.entries.Add(key, entry[V]{value, time.Now().Add(v.kept)})
}

// Get returns a value that is remembered still. To ask for it does not make it stay longer.
func (v *Values[K, V]) Get(key K) (V, bool) { return fresh(v.entries.Get(key)) }

// Peek is Get that does not count as use.
func (v *Values[K, V]) Peek(key K) (V, bool) { return fresh(v.entries.Peek(key)) }

func fresh[V any](e entry[V], ok bool) (V, bool) {
	if !ok || !time.Now().Before(e.until) {
		var none V
		return none, false
	}
	return e.value, true
}

// Keys are those of all values, of some perhaps whose time is over.
func (v *Values[K, V]) Keys() []K { return v.entries.Keys() }

// Remove forgets a value.
func (v *Values[K, V]) Remove(key K) { v.entries.Remove(key) }

// Purge forgets all.
func (v *Values[K, V]) Purge() { v.entries.Purge() }
