package webhook

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func good(n int) Batch { return Batch{Succeeded: n, Slowest: 10 * time.Millisecond} }
func bad(n int) Batch  { return Batch{Failed: n, Slowest: 10 * time.Millisecond} }

func slots(w Width, at time.Time) int {
	n, _ := w.Slots(at)
	return n
}

func TestWidth(t *testing.T) {
	tests := []struct {
		name    string
		batches []Batch
		want    int
	}{
		{"starts small", nil, 4},
		{"a full batch widens", []Batch{good(4)}, 5},
		{"one by one", []Batch{good(4), good(5), good(6)}, 7},
		{"a part of a batch proves nothing", []Batch{good(3)}, 4},
		{"an empty batch changes nothing", []Batch{{}}, 4},
		{"one failure halves", []Batch{good(4), good(5), {Succeeded: 5, Failed: 1}}, 3},
		{"never below one", []Batch{bad(1), bad(1), bad(1), bad(1)}, 1},
		{"slow answers halve", []Batch{{Succeeded: 4, Slowest: SlowAnswer}}, 2},
		{"not quite slow", []Batch{{Succeeded: 4, Slowest: SlowAnswer - 1}}, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w Width
			for _, b := range tt.batches {
				w = w.After(b, now)
			}
			assert.Equal(t, tt.want, slots(w, now))
		})
	}
}

func TestWidthIsBounded(t *testing.T) {
	var w Width
	for range 1000 {
		w = w.After(good(slots(w, now)), now)
	}
	assert.Equal(t, MaxWidth, slots(w, now))
}

func TestWidthBreaksAndProbes(t *testing.T) {
	var w Width
	for range BreakAfter - 1 {
		w = w.After(bad(1), now)
	}
	require.False(t, w.Broken())
	require.Equal(t, 1, slots(w, now))

	w = w.After(bad(1), now)
	require.True(t, w.Broken())
	at := now
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		pause *= time.Second
		n, resume := w.Slots(at.Add(pause - 1))
		assert.Zero(t, n, "within %s", pause)
		assert.Equal(t, at.Add(pause), resume)
		at = at.Add(pause)
		assert.Equal(t, 1, slots(w, at), "one probe after %s", pause)
		w = w.After(bad(1), at)
	}

	w = w.After(good(1), at)
	assert.False(t, w.Broken())
	assert.Equal(t, 2, slots(w, at), "a probe that succeeds is a full batch of one")
}

func TestWidthCountsConsecutiveFailuresOnly(t *testing.T) {
	var w Width
	for range 100 {
		w = w.After(bad(BreakAfter-1), now)
		w = w.After(good(1), now)
	}
	assert.False(t, w.Broken())
}

func TestWidthOneWideFailureIsOneStep(t *testing.T) {
	w := Width{}.After(bad(64), now)
	require.True(t, w.Broken())
	_, resume := w.Slots(now)
	assert.Equal(t, now.Add(time.Second), resume)
}

func TestWidthAlwaysMovesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w Width
		at := now
		for range rapid.IntRange(0, 200).Draw(t, "batches") {
			n, resume := w.Slots(at)
			if n == 0 {
				if pause := resume.Sub(at); pause <= 0 || pause > MaxProbePause {
					t.Fatalf("pause of %s", pause)
				}
				at = resume
				n, _ = w.Slots(at)
			}
			if n < 1 || n > MaxWidth {
				t.Fatalf("%d slots", n)
			}
			failed := rapid.IntRange(0, n).Draw(t, "failed")
			w = w.After(Batch{Succeeded: n - failed, Failed: failed}, at)
		}
	})
}

func TestWidthRemembersThatItWaited(t *testing.T) {
	var w Width
	assert.False(t, w.Slow())
	slow := w.After(Batch{Failed: 1, Slowest: SlowAnswer}, now)
	assert.True(t, slow.Slow())
	assert.True(t, slow.After(Batch{}, now).Slow(), "nothing was learned")
	assert.False(t, slow.After(Batch{Failed: 1, Slowest: time.Second}, now).Slow(), "it fails, but quickly")
	assert.True(t, w.CutOff().Slow())
	assert.False(t, w.CutOff().Broken())
	assert.False(t, w.CutOff().After(Batch{Succeeded: 1, Slowest: time.Second}, now).Slow())
}
