package placement

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestFill(t *testing.T) {
	two := []Worker{
		{ID: "a", Online: true, MaxSessions: 2},
		{ID: "b", Online: true, MaxSessions: 4},
	}
	rested := []Worker{
		{ID: "a", Online: true, MaxSessions: 4},
		{ID: "z", Online: true, Resting: true, MaxSessions: 4},
	}
	tests := []struct {
		name    string
		workers []Worker
		n, most int
		want    []string
	}{
		{"nothing to place", two, 0, 0, []string{}},
		{"less than nothing", two, -1, 0, []string{}},
		{"no workers", nil, 2, 0, []string{"", ""}},
		{"by share, until all are full", two, 7, 0, []string{"a", "b", "b", "a", "b", "b", ""}},
		{"most", two, 4, 1, []string{"a", "b", "", ""}},
		{"most above the room", two, 7, 9, []string{"a", "b", "b", "a", "b", "b", ""}},
		{"offline", []Worker{{ID: "a", MaxSessions: 9}}, 1, 0, []string{""}},
		{"resting ones when others are full", rested, 6, 0, []string{"a", "a", "a", "a", "z", "z"}},
		{"not when others have room in the next call", rested, 4, 2, []string{"a", "a", "", ""}},
		{"but when most is all the room that others have", rested, 6, 4, []string{"a", "a", "a", "a", "z", "z"}},
		{"most holds for resting ones too", rested[1:], 4, 3, []string{"z", "z", "z", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.workers)
			assert.Equal(t, tt.want, Fill(tt.workers, tt.n, tt.most))
			assert.Equal(t, before, tt.workers, "the argument is the caller's")
		})
	}
}

func TestFillIsRepeatedPick(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := fleet(t)
		n := rapid.IntRange(0, 150).Draw(t, "n")
		most := rapid.IntRange(0, 8).Draw(t, "most")

		want := pickRepeatedly(slices.Clone(workers), n, most)
		if got := Fill(workers, n, most); !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q\nof %+v", got, want, workers)
		}
	})
}

// pickRepeatedly is Fill without its heap.
func pickRepeatedly(workers []Worker, n, most int) []string {
	placed := make([]string, n)
	taken := map[string]int{}
	for i := range placed {
		var open []Worker
		later := false
		for _, w := range workers {
			if most == 0 || taken[w.ID] < most {
				open = append(open, w)
			} else {
				later = later || w.Room() && !w.Resting
			}
		}
		id, ok := Pick(open)
		if !ok || later && find(open, id).Resting {
			break
		}
		placed[i] = id
		taken[id]++
		find(workers, id).Sessions++
	}
	return placed
}

func TestFillNeverOverfills(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := fleet(t)
		n := rapid.IntRange(0, 150).Draw(t, "n")
		most := rapid.IntRange(0, 8).Draw(t, "most")

		taken := map[string]int{}
		nobody := false
		for _, id := range Fill(workers, n, most) {
			if id == "" {
				nobody = true
				continue
			}
			w := find(workers, id)
			w.Sessions++
			taken[id]++
			switch {
			case nobody:
				t.Fatalf("%s took a session after one that nobody took", id)
			case !w.Online || w.Sessions > w.MaxSessions:
				t.Fatalf("not online or overfull: %+v", w)
			case most > 0 && taken[id] > most:
				t.Fatalf("%s took %d, at most %d are allowed", id, taken[id], most)
			}
		}
		for _, w := range workers {
			if nobody && most == 0 && w.Room() {
				t.Fatalf("nobody took a session though there is room: %+v", w)
			}
		}
	})
}
