package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestPick(t *testing.T) {
	tests := []struct {
		name    string
		workers []Worker
		want    string // empty: nobody
	}{
		{"no workers", nil, ""},
		{"the only one", []Worker{{ID: "a", Online: true, MaxSessions: 1}}, "a"},
		{"full", []Worker{{ID: "a", Online: true, Sessions: 1, MaxSessions: 1}}, ""},
		{"overfull", []Worker{{ID: "a", Online: true, Sessions: 2, MaxSessions: 1}}, ""},
		{"no capacity", []Worker{{ID: "a", Online: true}}, ""},
		{"offline", []Worker{{ID: "a", MaxSessions: 9}}, ""},
		{"the busy one that is online", []Worker{
			{ID: "a", MaxSessions: 10},
			{ID: "b", Online: true, Sessions: 9, MaxSessions: 10, CPU: 0.99},
		}, "b"},
		{"share, not number", []Worker{
			{ID: "a", Online: true, Sessions: 5, MaxSessions: 10},
			{ID: "b", Online: true, Sessions: 40, MaxSessions: 100},
		}, "b"},
		{"share before CPU", []Worker{
			{ID: "a", Online: true, Sessions: 1, MaxSessions: 10, CPU: 0.1},
			{ID: "b", Online: true, Sessions: 0, MaxSessions: 10, CPU: 0.9},
		}, "b"},
		{"equal shares of different sizes, then CPU", []Worker{
			{ID: "a", Online: true, Sessions: 1, MaxSessions: 3, CPU: 0.5},
			{ID: "b", Online: true, Sessions: 7, MaxSessions: 21, CPU: 0.4},
		}, "b"},
		{"CPU before memory", []Worker{
			{ID: "a", Online: true, MaxSessions: 10, CPU: 0.5, Memory: 0.1},
			{ID: "b", Online: true, MaxSessions: 10, CPU: 0.4, Memory: 0.9},
		}, "b"},
		{"memory", []Worker{
			{ID: "a", Online: true, MaxSessions: 10, CPU: 0.5, Memory: 0.6},
			{ID: "b", Online: true, MaxSessions: 10, CPU: 0.5, Memory: 0.5},
		}, "b"},
		{"ID", []Worker{
			{ID: "b", Online: true, MaxSessions: 10},
			{ID: "a", Online: true, MaxSessions: 10},
		}, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, ok := Pick(tt.workers)
			assert.Equal(t, tt.want, id)
			assert.Equal(t, tt.want != "", ok)
		})
	}
}

func TestEqualWorkersDifferByAtMostOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 50).Draw(t, "size")
		workers := make([]Worker, rapid.IntRange(1, 12).Draw(t, "workers"))
		for i := range workers {
			workers[i] = Worker{
				ID: fmt.Sprintf("w%02d", i), Online: true, MaxSessions: size,
				CPU: rapid.Float64Range(0, 1).Draw(t, "cpu"), // equal in size; how busy they are must not matter
			}
		}
		for range rapid.IntRange(0, 200).Draw(t, "picks") {
			place(workers)
			low, high := size, 0
			for _, w := range workers {
				low, high = min(low, w.Sessions), max(high, w.Sessions)
			}
			if high-low > 1 {
				t.Fatalf("one holds %d, another %d", high, low)
			}
		}
	})
}

func TestPickIsNeverWrong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := make([]Worker, rapid.IntRange(0, 12).Draw(t, "workers"))
		room := 0
		for i := range workers {
			w := Worker{
				ID:          fmt.Sprintf("w%02d", i),
				Online:      rapid.Bool().Draw(t, "online"),
				Sessions:    rapid.IntRange(0, 12).Draw(t, "sessions"),
				MaxSessions: rapid.IntRange(0, 10).Draw(t, "max"),
				CPU:         rapid.Float64Range(0, 1).Draw(t, "cpu"),
			}
			if w.Online {
				room += max(w.MaxSessions-w.Sessions, 0)
			}
			workers[i] = w
		}
		before := append([]Worker(nil), workers...)
		for range room {
			if !place(workers) {
				t.Fatal("nobody found though there is room")
			}
		}
		if id, ok := Pick(workers); ok {
			t.Fatalf("%s found though all are full", id)
		}
		for i, w := range workers {
			if w.Sessions > before[i].Sessions && (!w.Online || w.Sessions > w.MaxSessions) {
				t.Fatalf("offline or overfull: %+v", w)
			}
		}
	})
}

func TestPickDoesNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := make([]Worker, rapid.IntRange(1, 6).Draw(t, "workers"))
		for i := range workers {
			workers[i] = Worker{
				ID: fmt.Sprintf("w%02d", i), Online: true,
				Sessions: rapid.IntRange(0, 2).Draw(t, "sessions"), MaxSessions: rapid.IntRange(1, 4).Draw(t, "max"),
			}
		}
		want, _ := Pick(workers)
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rnd.Shuffle(len(workers), func(i, j int) { workers[i], workers[j] = workers[j], workers[i] })
		if got, _ := Pick(workers); got != want {
			t.Fatalf("%s, and %s in another order", want, got)
		}
	})
}

// place puts one session where Pick says; false: nowhere.
func place(workers []Worker) bool {
	id, ok := Pick(workers)
	for i := range workers {
		if ok && workers[i].ID == id {
			workers[i].Sessions++
		}
	}
	return ok
}
