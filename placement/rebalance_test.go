package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRebalance(t *testing.T) {
	idle := Worker{ID: "t", Online: true, MaxSessions: 100}
	tests := []struct {
		name    string
		workers []Worker
		want    map[Move]int
	}{
		{"nobody", nil, nil},
		{"nobody overloaded", []Worker{
			{ID: "s", Online: true, Sessions: 90, MaxSessions: 100, CPU: 80, Memory: 90}, idle,
		}, nil},
		{"sessions, down to 90 %", []Worker{
			{ID: "s", Online: true, Sessions: 93, MaxSessions: 100}, idle,
		}, map[Move]int{{"s", "t"}: 3}},
		{"sessions, at most five leave", []Worker{
			{ID: "s", Online: true, Sessions: 99, MaxSessions: 100}, idle, {ID: "u", Online: true, MaxSessions: 100},
		}, map[Move]int{{"s", "t"}: 3, {"s", "u"}: 2}},
		{"at most five come, the worst source first", []Worker{
			{ID: "r", Online: true, Sessions: 99, MaxSessions: 100},
			{ID: "s", Online: true, Sessions: 97, MaxSessions: 100, CPU: 88},
			{ID: "u", Online: true, Sessions: 10, MaxSessions: 10}, idle,
		}, map[Move]int{{"u", "t"}: 1, {"r", "t"}: 4}},
		{"CPU, down to 80 %", []Worker{
			{ID: "s", Online: true, Sessions: 44, MaxSessions: 100, CPU: 88}, idle,
		}, map[Move]int{{"s", "t"}: 4}},
		{"memory, down to 90 %", []Worker{
			{ID: "s", Online: true, Sessions: 96, MaxSessions: 200, Memory: 96}, idle,
		}, map[Move]int{{"s", "t"}: 5}},
		{"maintenance gives nothing", []Worker{
			{ID: "s", Sessions: 100, MaxSessions: 100, CPU: 99}, idle,
		}, nil},
		{"resting ones give", []Worker{
			{ID: "s", Online: true, Resting: true, Sessions: 91, MaxSessions: 100}, idle,
		}, map[Move]int{{"s", "t"}: 1}},
		{"no sessions, nothing to give", []Worker{
			{ID: "s", Online: true, MaxSessions: 100, CPU: 99}, {ID: "z", Online: true}, idle,
		}, nil},
		{"room for none, all leave", []Worker{
			{ID: "s", Online: true, Sessions: 3}, idle,
		}, map[Move]int{{"s", "t"}: 3}},
		{"targets: up to 70 %", []Worker{
			{ID: "s", Online: true, Sessions: 100, MaxSessions: 100},
			{ID: "t", Online: true, Sessions: 61, MaxSessions: 90},
		}, map[Move]int{{"s", "t"}: 2}},
		{"targets: the emptiest first", []Worker{
			{ID: "s", Online: true, Sessions: 92, MaxSessions: 100},
			{ID: "t", Online: true, Sessions: 50, MaxSessions: 100}, {ID: "u", Online: true, Sessions: 40, MaxSessions: 100},
		}, map[Move]int{{"s", "u"}: 2}},
		{"targets: CPU up to 70 %", []Worker{
			{ID: "s", Online: true, Sessions: 50, MaxSessions: 100, CPU: 100},
			{ID: "t", Online: true, Sessions: 10, MaxSessions: 100, CPU: 65},
		}, map[Move]int{{"s", "t"}: 2}},
		{"targets: memory up to 80 %", []Worker{
			{ID: "s", Online: true, Sessions: 48, MaxSessions: 100, Memory: 96},
			{ID: "t", Online: true, Sessions: 10, MaxSessions: 100, Memory: 77},
		}, map[Move]int{{"s", "t"}: 1}},
		{"targets: neither resting nor offline", []Worker{
			{ID: "s", Online: true, Sessions: 99, MaxSessions: 100},
			{ID: "t", Online: true, Resting: true, MaxSessions: 100}, {ID: "u", MaxSessions: 100},
		}, nil},
		{"one session that is too dear goes nowhere", []Worker{
			{ID: "s", Online: true, Sessions: 1, MaxSessions: 100, CPU: 95}, idle,
		}, nil},
		{"tiny: half full is not better than empty", []Worker{
			{ID: "s", Online: true, Sessions: 1, MaxSessions: 1}, {ID: "t", Online: true, MaxSessions: 2},
		}, nil},
		{"tiny: half full on both sides", []Worker{
			{ID: "s", Online: true, Sessions: 2, MaxSessions: 2}, {ID: "t", Online: true, MaxSessions: 2},
		}, map[Move]int{{"s", "t"}: 1}},
		{"tiny, but it is the CPU", []Worker{
			{ID: "s", Online: true, Sessions: 2, MaxSessions: 10, CPU: 90}, {ID: "t", Online: true, Sessions: 5, MaxSessions: 10},
		}, map[Move]int{{"s", "t"}: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.workers)
			got := map[Move]int{}
			for _, m := range Rebalance(tt.workers) {
				got[m]++
			}
			if tt.want == nil {
				tt.want = map[Move]int{}
			}
			assert.Equal(t, tt.want, got)
			assert.Equal(t, before, tt.workers, "the argument is the caller's")
		})
	}
}

func TestMayMove(t *testing.T) {
	assert.True(t, MayMove(time.Time{}, now), "never moved")
	assert.False(t, MayMove(now, now))
	assert.False(t, MayMove(now.Add(-CoolDown+1), now))
	assert.True(t, MayMove(now.Add(-CoolDown), now))
	assert.False(t, MayMove(now.Add(time.Second), now), "another machine's clock")
}

func TestRebalanceKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		workers := fleet(t)
		moves := Rebalance(workers)

		shuffled := slices.Clone(workers)
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := Rebalance(shuffled); !slices.Equal(again, moves) {
			t.Fatalf("%v, and in another order %v", moves, again)
		}

		leave, come := map[string]int{}, map[string]int{}
		for _, m := range moves {
			leave[m.From]++
			come[m.To]++
		}
		for id, n := range leave {
			if from := find(workers, id); n > MovesPerRound || n > from.Sessions || !from.Online {
				t.Fatalf("%d leave %+v", n, from)
			}
		}
		for id, n := range come {
			to := find(workers, id)
			if n > MovesPerRound || !to.Online || to.Resting || float64(to.Sessions+n) > TargetBelow*float64(to.MaxSessions)+0.001 {
				t.Fatalf("%d come to %+v", n, to)
			}
			if leave[id] > 0 {
				t.Fatalf("%s both gives and takes: %v", id, moves)
			}
		}
	})
}

// While the load stays what it is, each session moves at most once and the moves come to an end: for workers with any
// base load and sessions that differ in cost by up to 2 points, which is what the margin of the targets absorbs.
func TestRebalanceSettles(t *testing.T) {
	total := 0
	for range 300 {
		seed := rand.Uint64()
		cheapest := 2 * rand.New(rand.NewPCG(seed, 1)).Float64()
		n := newNetwork(seed, func(rnd *rand.Rand) float64 { return cheapest + 2*rnd.Float64() })
		moved := map[*session]bool{}
		n.settle(t, func(s *session, m Move) {
			require.False(t, moved[s], "seed %d: a session moves again: %+v", n.seed, m)
			moved[s] = true
		})
		total += len(moved)
	}
	require.Positive(t, total, "the fleets must be such that something moves")
	t.Logf("%d sessions moved", total)
}

// A few sessions that are very dear among cheap ones, and CPU and memory that saturate at 100 %, deceive the estimate. Then
// a session may move more than once, but not before it has cooled down, and the moves come to an end all the same.
func TestRebalanceSettlesWhenEstimatesAreWrong(t *testing.T) {
	total, again := 0, 0
	for range 300 {
		n := newNetwork(rand.Uint64(), func(rnd *rand.Rand) float64 { return 0.2 + 80*math.Pow(rnd.Float64(), 8) })
		n.saturates = true
		moved := map[*session]time.Time{}
		n.settle(t, func(s *session, m Move) {
			if last, ok := moved[s]; ok {
				require.GreaterOrEqual(t, n.now.Sub(last), CoolDown, "seed %d: a session moves again: %+v", n.seed, m)
				again++
			}
			moved[s] = n.now
			total++
		})
	}
	require.Positive(t, total, "the fleets must be such that something moves")
	t.Logf("%d moves, %d of them of a session that had moved before", total, again)
}

// network is a fleet whose CPU and memory follow the sessions on it.
type network struct {
	seed      uint64
	rnd       *rand.Rand
	now       time.Time
	bases     []Worker // without sessions
	on        map[string][]*session
	saturates bool // CPU and memory end at 100 %
}

type session struct {
	cpu, memory float64
	movedAt     time.Time
}

// newNetwork makes a random fleet of which about half is empty; costOf draws what a session takes of CPU or memory.
func newNetwork(seed uint64, costOf func(*rand.Rand) float64) *network {
	n := &network{seed: seed, rnd: rand.New(rand.NewPCG(seed, 0)), now: now, on: map[string][]*session{}}
	for i := range 2 + n.rnd.IntN(9) {
		w := Worker{
			ID: fmt.Sprintf("w%02d", i), Online: true, Resting: n.rnd.IntN(8) == 0, MaxSessions: n.rnd.IntN(100),
			CPU: 60 * n.rnd.Float64(), Memory: 60 * n.rnd.Float64(),
		}
		n.bases = append(n.bases, w)
		full := max(0, 2.2*n.rnd.Float64()-1.1)
		for range int(full * float64(w.MaxSessions)) {
			n.on[w.ID] = append(n.on[w.ID], &session{cpu: costOf(n.rnd), memory: costOf(n.rnd)})
		}
	}
	return n
}

// settle lets a round pass each minute until nothing has moved for longer than a cool-down.
func (n *network) settle(t *testing.T, moved func(*session, Move)) {
	const patience = 2_000
	quiet := time.Duration(0)
	for range patience {
		quiet += time.Minute
		n.now = n.now.Add(time.Minute)
		for _, m := range Rebalance(n.workers()) {
			if s := n.move(m); s != nil {
				moved(s, m)
				quiet = 0
			}
		}
		if quiet > CoolDown {
			return
		}
	}
	require.Fail(t, "still moving", "seed %d, after %d rounds: %+v", n.seed, patience, n.workers())
}

// move moves a random session of those that may; nil: none may.
func (n *network) move(m Move) *session {
	from := n.on[m.From]
	var may []int
	for i, s := range from {
		if MayMove(s.movedAt, n.now) {
			may = append(may, i)
		}
	}
	if len(may) == 0 {
		return nil
	}
	i := may[n.rnd.IntN(len(may))]
	s := from[i]
	s.movedAt = n.now
	n.on[m.From] = slices.Delete(from, i, i+1)
	n.on[m.To] = append(n.on[m.To], s)
	return s
}

// workers returns the figures as they would be measured.
func (n *network) workers() []Worker {
	workers := slices.Clone(n.bases)
	for i := range workers {
		w := &workers[i]
		w.Sessions = len(n.on[w.ID])
		for _, s := range n.on[w.ID] {
			w.CPU += s.cpu
			w.Memory += s.memory
		}
		if n.saturates {
			w.CPU, w.Memory = min(w.CPU, 100), min(w.Memory, 100)
		}
	}
	return workers
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
