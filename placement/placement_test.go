package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
			{ID: "b", Online: true, Sessions: 9, MaxSessions: 10, CPU: 99},
		}, "b"},
		{"share, not number", []Worker{
			{ID: "a", Online: true, Sessions: 5, MaxSessions: 10},
			{ID: "b", Online: true, Sessions: 40, MaxSessions: 100},
		}, "b"},
		{"share before CPU", []Worker{
			{ID: "a", Online: true, Sessions: 1, MaxSessions: 10, CPU: 10},
			{ID: "b", Online: true, Sessions: 0, MaxSessions: 10, CPU: 90},
		}, "b"},
		{"equal shares of different sizes, then CPU", []Worker{
			{ID: "a", Online: true, Sessions: 1, MaxSessions: 3, CPU: 50},
			{ID: "b", Online: true, Sessions: 7, MaxSessions: 21, CPU: 40},
		}, "b"},
		{"CPU before memory", []Worker{
			{ID: "a", Online: true, MaxSessions: 10, CPU: 50, Memory: 10},
			{ID: "b", Online: true, MaxSessions: 10, CPU: 40, Memory: 90},
		}, "b"},
		{"memory", []Worker{
			{ID: "a", Online: true, MaxSessions: 10, CPU: 50, Memory: 60},
			{ID: "b", Online: true, MaxSessions: 10, CPU: 50, Memory: 50},
		}, "b"},
		{"ID", []Worker{
			{ID: "b", Online: true, MaxSessions: 10},
			{ID: "a", Online: true, MaxSessions: 10},
		}, "a"},
		{"a full one rather than one that rests", []Worker{
			{ID: "a", Online: true, Resting: true, MaxSessions: 10},
			{ID: "b", Online: true, Sessions: 9, MaxSessions: 10, CPU: 99},
		}, "b"},
		{"one that rests rather than none", []Worker{
			{ID: "a", Online: true, Resting: true, MaxSessions: 10},
			{ID: "b", Online: true, Sessions: 10, MaxSessions: 10},
			{ID: "c", MaxSessions: 10},
		}, "a"},
		{"the better one of those that rest", []Worker{
			{ID: "a", Online: true, Resting: true, Sessions: 2, MaxSessions: 10},
			{ID: "b", Online: true, Resting: true, Sessions: 1, MaxSessions: 10},
		}, "b"},
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
				CPU: rapid.Float64Range(0, 100).Draw(t, "cpu"), // equal in size; how busy they are must not matter
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

func TestWorkersOfDifferentSizeFillByShare(t *testing.T) {
	workers := []Worker{
		{ID: "a", Online: true, MaxSessions: 10},
		{ID: "b", Online: true, MaxSessions: 20},
		{ID: "c", Online: true, MaxSessions: 70},
	}
	for picks := 1; picks <= 100; picks++ {
		require.True(t, place(workers))
		for _, a := range workers {
			for _, b := range workers {
				without, share := float64(a.Sessions-1)/float64(a.MaxSessions), float64(b.Sessions)/float64(b.MaxSessions)
				assert.LessOrEqual(t, without, share+1e-9, "the last session of %s should have gone to %s", a.ID, b.ID)
			}
			if picks%10 == 0 {
				assert.Equal(t, a.MaxSessions*picks/100, a.Sessions, "%s after %d", a.ID, picks)
			}
		}
	}
	assert.False(t, place(workers), "all are full")
}

func TestPickIsNeverWrong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := fleet(t)
		room := 0
		for _, w := range workers {
			if w.Online {
				room += max(w.MaxSessions-w.Sessions, 0)
			}
		}
		for range room {
			id, ok := Pick(workers)
			if !ok {
				t.Fatal("nobody found though there is room")
			}
			w := find(workers, id)
			if !w.Online || w.Sessions >= w.MaxSessions {
				t.Fatalf("not online or full: %+v", w)
			}
			if w.Resting && slices.ContainsFunc(workers, func(o Worker) bool { return o.Room() && !o.Resting }) {
				t.Fatalf("%+v rests and others have room", w)
			}
			w.Sessions++
		}
		if id, ok := Pick(workers); ok {
			t.Fatalf("%s found though all are full", id)
		}
	})
}

func TestPickDoesNotDependOnTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := make([]Worker, rapid.IntRange(1, 6).Draw(t, "workers"))
		for i := range workers {
			workers[i] = Worker{
				ID: fmt.Sprintf("w%02d", i), Online: true,
				Resting:  rapid.Bool().Draw(t, "resting"),
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

// fleet draws up to 12 workers of all kinds.
func fleet(t *rapid.T) []Worker {
	workers := make([]Worker, rapid.IntRange(0, 12).Draw(t, "workers"))
	for i := range workers {
		workers[i] = Worker{
			ID:          fmt.Sprintf("w%02d", i),
			Online:      rapid.IntRange(0, 3).Draw(t, "online") > 0,
			Resting:     rapid.IntRange(0, 3).Draw(t, "resting") == 0,
			Sessions:    rapid.IntRange(0, 12).Draw(t, "sessions"),
			MaxSessions: rapid.IntRange(0, 12).Draw(t, "max"),
			CPU:         rapid.Float64Range(0, 100).Draw(t, "cpu"),
			Memory:      rapid.Float64Range(0, 100).Draw(t, "memory"),
		}
	}
	return workers
}

// find returns the worker with the ID; nil: nobody has it.
func find(workers []Worker, id string) *Worker {
	i := slices.IndexFunc(workers, func(w Worker) bool { return w.ID == id })
	if i < 0 {
		return nil
	}
	return &workers[i]
}

// place puts one session where Pick says; false: nowhere.
func place(workers []Worker) bool {
	id, ok := Pick(workers)
	if ok {
		find(workers, id).Sessions++
	}
	return ok
}

func TestSimulatedPhonesTakeNewSessionsWhereNothingElseIsRegistered(t *testing.T) {
	for _, tt := range []struct {
		name       string
		registered []string
		simulator  bool
	}{
		{"nobody has come yet", nil, true},
		{"simulators alone", []string{"simulator"}, true},
		{"one was announced, and nobody knows of what engine", []string{"simulator", ""}, true},
		{"a real one beside them", []string{"simulator", "whatsapp"}, false},
		{"an engine that we do not know is a real one", []string{"other", "simulator"}, false},
		{"real ones alone", []string{"whatsapp"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.simulator, TakesNew("simulator", tt.registered))
			assert.True(t, TakesNew("whatsapp", tt.registered))
		})
	}
}
