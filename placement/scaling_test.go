package placement

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// with returns n online workers, which have room for 100 sessions each and hold so many together.
func with(n, sessions int, cpu, memory float64) Fleet {
	var f Fleet
	for i := range n {
		f.Workers = append(f.Workers, Worker{
			Online: true, Sessions: (sessions + i) / n, MaxSessions: 100, CPU: cpu, Memory: memory,
		})
	}
	return f
}

func TestRecommendAsks(t *testing.T) {
	waiting := func(f Fleet, homeless int) Fleet { f.Homeless = homeless; return f }
	tests := []struct {
		name        string
		recommended int
		fleet       Fleet
		want        int // what it asks for; the same as recommended: nothing else
	}{
		{"80 % is no reason yet", 3, with(3, 240, 80, 90), 3},
		{"sessions above 80 %", 3, with(3, 241, 0, 0), 4},
		{"to 70 % exactly", 3, with(3, 280, 0, 0), 4},
		{"to 70 % at most", 3, with(3, 281, 0, 0), 5},
		{"CPU above 80 %", 3, with(3, 30, 80.1, 0), 4},
		{"CPU to 70 %", 4, with(4, 30, 100, 0), 6},
		{"memory above 90 %", 4, with(4, 30, 0, 90.1), 5},
		{"the most of all figures", 4, with(4, 360, 100, 100), 6},
		{"more sessions than room", 2, waiting(with(2, 200, 0, 0), 150), 5},
		{"somebody waits, whatever the figures say", 3, waiting(with(3, 30, 0, 0), 1), 4},
		{"somebody waits for workers that are on their way", 5, waiting(with(3, 250, 0, 0), 10), 5},
		{"70 % is right", 3, with(3, 210, 70, 80), 3},
		{"60 % is still right for one fewer", 3, with(3, 120, 0, 0), 3},
		{"fewer than 60 % for one fewer", 3, with(3, 119, 0, 0), 2},
		{"several fewer at once", 10, with(10, 100, 0, 0), 2},
		{"not fewer than CPU needs", 10, with(10, 100, 35, 0), 5},
		{"not fewer than memory needs", 10, with(10, 100, 0, 60), 8},
		{"not fewer at all while CPU needs them", 2, with(2, 10, 40, 0), 2},
		{"one worker for one session", 2, with(2, 1, 0, 0), 1},
		{"one worker for none", 2, with(2, 0, 0, 0), 1},
		{"never none", 1, with(1, 0, 0, 0), 1},
		{"nobody online, nothing to do", 2, Fleet{}, 1},
		{"nobody online, size unknown", 1, Fleet{Homeless: 100}, 3},
		{"nobody online, one waits", 1, Fleet{Homeless: 1}, 1},
		{"asked for already", 5, with(3, 290, 0, 0), 5},
		{"those recommended would not do, though those online do", 2, with(4, 200, 0, 0), 3},
		{"sessions in maintenance need room", 2, Fleet{Workers: append(with(2, 140, 0, 0).Workers,
			Worker{Sessions: 100, MaxSessions: 100, CPU: 100, Memory: 100})}, 4},
		{"rooms of different size", 2, Fleet{Workers: []Worker{
			{Online: true, Sessions: 50, MaxSessions: 50}, {Online: true, Sessions: 150, MaxSessions: 150}}}, 3},
		{"online without room", 1, Fleet{Workers: []Worker{{Online: true, Sessions: 50}}}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			was := Scaling{Recommended: tt.recommended, Since: now.Add(-time.Hour)}
			s := Recommend(was, tt.fleet, now)
			assert.Equal(t, tt.recommended, s.Recommended, "nothing changes at once")
			assert.Equal(t, was.Since, s.Since)
			assert.NotEmpty(t, s.Reason)
			if tt.want == tt.recommended {
				assert.Zero(t, s.Candidate, s.Reason)
				assert.Zero(t, s.Pending)
				return
			}
			assert.Equal(t, tt.want, s.Candidate, s.Reason)
			assert.Equal(t, now, s.Pending)
		})
	}
}

func TestRecommendFirst(t *testing.T) {
	s := Recommend(Scaling{}, with(3, 210, 0, 0), now)
	assert.Equal(t, Scaling{
		Recommended: 3, Since: now, Workers: 3, Utilization: 0.7,
		Reason: "Sessions would fill 3 workers to 70.0 %, CPU to 0.0 %, memory to 0.0 %: no change.",
	}, s)
	assert.Equal(t, "none", s.Action())

	s = Recommend(Scaling{}, Fleet{}, now)
	assert.Equal(t, 1, s.Recommended, "without a worker nothing can start")
	assert.Equal(t, "scale_up", s.Action())
}

func TestRecommendUtilization(t *testing.T) {
	tests := []struct {
		name  string
		fleet Fleet
		want  float64
	}{
		{"nothing", Fleet{}, 0},
		{"no room, but sessions", Fleet{Homeless: 1}, 1},
		{"sessions in maintenance only", Fleet{Workers: []Worker{{Sessions: 1, MaxSessions: 2}}}, 1},
		{"half", with(2, 100, 0, 0), 0.5},
		{"homeless ones count", Fleet{Workers: with(2, 200, 0, 0).Workers, Homeless: 100}, 1.5},
		{"room in maintenance doesn't", Fleet{Workers: append(with(1, 50, 0, 0).Workers, Worker{MaxSessions: 100})}, 0.5},
	}
	for _, tt := range tests {
		s := Recommend(Scaling{}, tt.fleet, now)
		assert.InDelta(t, tt.want, s.Utilization, 1e-9, tt.name)
	}
}

func TestScalingAction(t *testing.T) {
	assert.Equal(t, "scale_up", Scaling{Recommended: 3, Workers: 2}.Action())
	assert.Equal(t, "scale_down", Scaling{Recommended: 2, Workers: 3}.Action())
	assert.Equal(t, "none", Scaling{Recommended: 2, Workers: 2}.Action())
	assert.Equal(t, "none", Scaling{}.Action())
}

func TestRecommendChangesAfterAWhile(t *testing.T) {
	type step struct {
		at       time.Duration
		sessions int
		want     int // recommended
	}
	const s = time.Second
	tests := []struct {
		name  string
		steps []step
	}{
		{"up after a minute", []step{{0, 900, 10}, {59 * s, 900, 10}, {60 * s, 900, 13}}},
		{"up by the least that was asked for", []step{{0, 900, 10}, {30 * s, 820, 10}, {60 * s, 990, 12}}},
		{"the rest a minute later", []step{
			{0, 810, 10}, {60 * s, 990, 12}, {61 * s, 990, 12}, {120 * s, 990, 12}, {121 * s, 990, 15},
		}},
		{"a pause starts it anew", []step{{0, 900, 10}, {59 * s, 800, 10}, {60 * s, 900, 10}, {119 * s, 900, 10}, {120 * s, 900, 13}}},
		{"down after ten minutes", []step{{0, 500, 10}, {599 * s, 500, 10}, {600 * s, 500, 8}}},
		{"down by the least that was asked for", []step{{0, 400, 10}, {300 * s, 530, 10}, {600 * s, 1, 8}}},
		{"down, and a pause", []step{{0, 500, 10}, {599 * s, 540, 10}, {600 * s, 500, 10}, {1199 * s, 500, 10}, {1200 * s, 500, 8}}},
		{"turning round starts anew", []step{{0, 500, 10}, {600 * s, 900, 10}, {659 * s, 900, 10}, {660 * s, 900, 13}}},
		{"a clock that goes backwards", []step{{0, 900, 10}, {-3600 * s, 900, 10}, {59 * s, 900, 10}, {60 * s, 900, 13}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Scaling{Recommended: 10, Since: now.Add(-time.Hour)}
			for _, step := range tt.steps {
				was := r
				r = Recommend(r, with(10, step.sessions, 0, 0), now.Add(step.at))
				require.Equal(t, step.want, r.Recommended, "after %v: %s", step.at, r.Reason)
				if r.Recommended == was.Recommended {
					assert.Equal(t, was.Since, r.Since)
					continue
				}
				assert.Equal(t, now.Add(step.at), r.Since)
				assert.Zero(t, r.Candidate)
				assert.Zero(t, r.Pending)
			}
		})
	}
}

func TestRecommendSaysWhy(t *testing.T) {
	r := Recommend(Scaling{}, with(10, 900, 0, 0), now)
	assert.Equal(t, "Sessions would fill 10 workers to 90.0 %: 13 instead of 10 once that has lasted 1 min.", r.Reason)
	r = Recommend(r, with(10, 900, 0, 0), now.Add(time.Minute))
	assert.Equal(t, "Sessions would fill 10 workers to 90.0 %: 13 instead of 10.", r.Reason)
	assert.Equal(t, "scale_up", r.Action())

	for want, f := range map[string]Fleet{
		"CPU of 1 worker would be at 85.0 %: 2 instead of 1 once that has lasted 1 min.":    with(1, 9, 85, 0),
		"Memory of 1 worker would be at 95.0 %: 2 instead of 1 once that has lasted 1 min.": with(1, 9, 0, 95),
		"There is no room for 1 session: 2 instead of 1 once that has lasted 1 min.": {
			Workers: with(1, 9, 0, 0).Workers, Homeless: 1,
		},
		"There is no room for 7 sessions: 2 instead of 1 once that has lasted 1 min.": {
			Workers: with(1, 9, 0, 0).Workers, Homeless: 7,
		},
		"Sessions would fill 1 worker to only 9.0 %: 1 instead of 3 once that has lasted 10 min.":    with(3, 9, 0, 0),
		"Sessions would fill 2 workers to 45.0 %, CPU to 40.0 %, memory to 30.0 %: no change.":       with(2, 90, 40, 30),
		"Sessions would fill 2 workers to only 50.0 %: 2 instead of 3 once that has lasted 10 min.":  with(3, 100, 0, 0),
		"Sessions would fill 3 workers to only 33.3 %: 3 instead of 10 once that has lasted 10 min.": with(10, 100, 0, 20),
	} {
		assert.Equal(t, want, Recommend(Scaling{}, f, now).Reason)
	}
}

// Figures that cross a bound and come back before the time is up change nothing, for hours.
func TestRecommendIgnoresOscillation(t *testing.T) {
	tests := []struct {
		name      string
		low, high Fleet
		period    time.Duration // of half a swing
	}{
		{"sessions around 80 %", with(10, 790, 0, 0), with(10, 810, 0, 0), 45 * time.Second},
		{"CPU around 80 %", with(10, 600, 79, 0), with(10, 600, 81, 0), 45 * time.Second},
		{"memory around 90 %", with(10, 600, 0, 89), with(10, 600, 0, 91), 45 * time.Second},
		{"sessions around 60 % of one fewer", with(10, 539, 0, 0), with(10, 541, 0, 0), 9 * time.Minute},
		{"from too many to too few", with(10, 100, 0, 0), with(10, 990, 0, 0), 45 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Scaling{Recommended: 10, Since: now}
			for at := time.Duration(0); at < 12*time.Hour; at += 15 * time.Second {
				f := tt.low
				if at/tt.period%2 == 1 {
					f = tt.high
				}
				r = Recommend(r, f, now.Add(at))
				require.Equal(t, 10, r.Recommended, "after %v: %s", at, r.Reason)
				require.Equal(t, now, r.Since)
			}
		})
	}
}

// Whoever follows the recommendation, some minutes late, ends with a fleet that is right: the load that it spreads over
// more or fewer workers asks for no further change.
func TestRecommendSettles(t *testing.T) {
	for range 100 {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 0))
		sessions := rnd.IntN(2_000)
		cpu, memory := 1000*rnd.Float64(), 1000*rnd.Float64() // of all sessions together
		baseCPU, baseMemory := 30*rnd.Float64(), 60*rnd.Float64()
		late := rnd.IntN(12)

		var r Scaling
		history := slices.Repeat([]int{1 + rnd.IntN(30)}, late+1) // of what is recommended
		for minute := range 400 {
			n := history[minute]
			held := min(sessions, 100*n)
			f := with(n, held, min(100, baseCPU+cpu/float64(n)), min(100, baseMemory+memory/float64(n)))
			f.Homeless = sessions - held
			r = Recommend(r, f, now.Add(time.Duration(minute)*time.Minute))
			history = append(history, r.Recommended)
		}
		settled := now.Add(200 * time.Minute)
		require.True(t, r.Since.Before(settled), "seed %d: still changing: %v", seed, history)
		require.Zero(t, r.Candidate, "seed %d: %s", seed, r.Reason)
		require.Equal(t, "none", r.Action(), "seed %d: %s", seed, r.Reason)
		require.LessOrEqual(t, r.Utilization, ScaleUpAbove, "seed %d: %s", seed, r.Reason)
	}
}
