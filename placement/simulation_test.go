package placement

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	simWorkers  = 200
	simSessions = 100_000
	simStorm    = 200 // steps, of a minute each, with disturbances
	simPatience = 200 // steps without, within which everything must come to rest
	simChurn    = 50  // steps in which nothing happens but that sessions end and are created
)

// A fleet of 200 workers with 100,000 sessions goes through a storm: workers join, die one by one and 80 of them at
// once, come back, flap and are drained, and sessions end and are created. After each step all rules hold. When the storm is
// over, the moves end; and when sessions have come and gone for a while, workers of equal size are evenly loaded.
func TestSimulation(t *testing.T) {
	s := newSimulation(t, rand.Uint64())
	s.join(simWorkers * 3 / 4)
	for session := range s.home {
		s.homeless = append(s.homeless, session)
	}
	s.placeHomeless(0)
	s.check()
	s.storm()
	s.checkEach()
	s.comeToRest()
	s.checkEach()
	s.reportSpread("at rest")
	s.churn()
	s.checkEach()
	s.reportSpread("at the end")
	s.checkSpread()
}

// simulation is what callers of this package do, without a database.
type simulation struct {
	t   *testing.T
	rnd *rand.Rand
	now time.Time

	nodes    []*node
	byID     map[string]*node
	home     []*node     // by session; nil: none
	at       []int       // its place in the node's holds
	movedAt  []time.Time // by session
	homeless []int
	ended    []int // sessions that don't exist at the moment

	deaths, drains, moves, wereHomeless int
}

// node is a worker and the sessions on it.
type node struct {
	Worker
	alive         bool
	throughout    bool // never died, never drained, there from the beginning
	slow          bool // twice the CPU for a session, so that it is overloaded long before it is full
	holds         []int
	lapses        []time.Time
	restsUntil    time.Time
	baseCPU, full float64 // CPU without sessions, and what it takes more when full
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	t.Logf("seed %d", seed)
	s := &simulation{
		t: t, rnd: rand.New(rand.NewPCG(seed, 0)), now: now, byID: map[string]*node{},
		home: make([]*node, simSessions), at: make([]int, simSessions), movedAt: make([]time.Time, simSessions),
	}
	sizes := []int{500, 750, 1_000}
	for i := range simWorkers {
		n := &node{
			Worker: Worker{ID: fmt.Sprintf("w%03d", i), MaxSessions: sizes[i%len(sizes)]},
			slow:   i%10 == 0, throughout: i < simWorkers*3/4, baseCPU: 5 + 10*s.rnd.Float64(), full: 55,
		}
		if n.slow {
			n.full *= 2
		}
		s.nodes = append(s.nodes, n)
		s.byID[n.ID] = n
	}
	return s
}

// workers returns those whose lease lives, as the gateway knows them.
func (s *simulation) workers() []Worker {
	var workers []Worker
	for _, n := range s.nodes {
		if n.alive {
			w := n.Worker
			share := float64(len(n.holds)) / float64(n.MaxSessions)
			w.Sessions, w.CPU, w.Memory = len(n.holds), n.baseCPU+n.full*share, 20+50*share
			w.Resting = s.now.Before(n.restsUntil)
			workers = append(workers, w)
		}
	}
	return workers
}

// choose returns a random node of those that match; nil: there is none.
func (s *simulation) choose(match func(*node) bool) *node {
	var matching []*node
	for _, n := range s.nodes {
		if match(n) {
			matching = append(matching, n)
		}
	}
	if len(matching) == 0 {
		return nil
	}
	return matching[s.rnd.IntN(len(matching))]
}

// join brings workers that were never there before.
func (s *simulation) join(count int) {
	for range count {
		fresh := slices.IndexFunc(s.nodes, func(n *node) bool { return !n.alive && len(n.lapses) == 0 })
		if fresh < 0 {
			return
		}
		s.nodes[fresh].alive, s.nodes[fresh].Online = true, true
	}
}

// returnSome restarts some of the dead and ends the maintenance of some that are empty.
func (s *simulation) returnSome() {
	for _, n := range s.nodes {
		dead := !n.alive && len(n.lapses) > 0
		drained := n.alive && !n.Online && len(n.holds) == 0
		if (dead || drained) && s.rnd.IntN(8) == 0 {
			n.alive, n.Online = true, true
		}
	}
}

// die kills some workers, whose sessions have no place then.
func (s *simulation) die(count int) {
	for range count {
		n := s.choose(func(n *node) bool { return n.alive })
		if n == nil {
			return
		}
		s.deaths++
		n.alive, n.Online, n.throughout = false, false, false
		n.lapses = append(n.lapses, s.now)
		flaps := 0
		for _, at := range n.lapses {
			if s.now.Sub(at) < FlapWindow {
				flaps++
			}
		}
		n.restsUntil = s.now.Add(Rest(flaps))
		for len(n.holds) > 0 {
			s.homeless = append(s.homeless, n.holds[0])
			s.leave(n.holds[0])
		}
	}
}

// maintainSome puts a worker into maintenance now and then.
func (s *simulation) maintainSome() {
	if s.rnd.IntN(6) != 0 {
		return
	}
	if n := s.choose(func(n *node) bool { return n.Online }); n != nil {
		s.drains++
		n.Online, n.throughout = false, false
	}
}

// drain moves sessions off the workers in maintenance.
func (s *simulation) drain() {
	for _, n := range s.nodes {
		if !n.alive || n.Online {
			continue
		}
		leaving := slices.Clone(n.holds)
		for i, id := range Fill(s.workers(), len(leaving), 20) {
			if id != "" {
				s.leave(leaving[i])
				s.enter(leaving[i], id)
			}
		}
	}
}

// end ends random sessions.
func (s *simulation) end(count int) {
	for range count {
		if session := s.rnd.IntN(simSessions); s.home[session] != nil {
			s.leave(session)
			s.ended = append(s.ended, session)
		}
	}
}

// create creates new sessions for those that ended; where there is no room, nothing is created.
func (s *simulation) create() {
	var refused []int
	for i, id := range Fill(s.workers(), len(s.ended), 0) {
		if id == "" {
			refused = append(refused, s.ended[i])
			continue
		}
		s.enter(s.ended[i], id)
	}
	s.ended = refused
}

// placeHomeless places the sessions that have no worker, and makes sure that nobody waits while there is room.
func (s *simulation) placeHomeless(most int) {
	workers := s.workers()
	taken := map[string]int{}
	var waiting []int
	for i, id := range Fill(workers, len(s.homeless), most) {
		if id == "" {
			waiting = append(waiting, s.homeless[i])
			continue
		}
		s.enter(s.homeless[i], id)
		taken[id]++
		find(workers, id).Sessions++
	}
	s.homeless = waiting
	s.wereHomeless = max(s.wereHomeless, len(waiting))
	if len(waiting) == 0 {
		return
	}
	restedRoom := slices.ContainsFunc(workers, func(w Worker) bool { return w.Room() && !w.Resting })
	for _, w := range workers {
		if w.Room() && (most == 0 || taken[w.ID] < most) && !(w.Resting && restedRoom) {
			s.t.Fatalf("%d sessions wait, and there is room: %+v, which took %d of %d", len(waiting), w, taken[w.ID], most)
		}
	}
}

// rebalance does one round and returns the sessions that moved.
func (s *simulation) rebalance() []int {
	var moved []int
	leave, come := map[string]int{}, map[string]int{}
	for _, m := range Rebalance(s.workers()) {
		leave[m.From]++
		come[m.To]++
		if leave[m.From] > MovesPerRound || come[m.To] > MovesPerRound {
			s.t.Fatalf("more than %d moves: %+v", MovesPerRound, m)
		}
		holds := s.byID[m.From].holds
		i := slices.IndexFunc(holds, func(session int) bool { return MayMove(s.movedAt[session], s.now) })
		if i < 0 {
			continue
		}
		session := holds[i]
		s.leave(session)
		s.enter(session, m.To)
		s.movedAt[session] = s.now
		moved = append(moved, session)
	}
	s.moves += len(moved)
	return moved
}

// leave takes a session from its worker.
func (s *simulation) leave(session int) {
	n := s.home[session]
	last := len(n.holds) - 1
	n.holds[s.at[session]] = n.holds[last]
	s.at[n.holds[last]] = s.at[session]
	n.holds = n.holds[:last]
	s.home[session] = nil
}

// enter puts a session on a worker, which must be able to take it.
func (s *simulation) enter(session int, id string) {
	n := s.byID[id]
	if !n.Online || len(n.holds) >= n.MaxSessions {
		s.t.Fatalf("session %d placed on a worker that is not online or full: %+v with %d", session, n.Worker, len(n.holds))
	}
	s.home[session], s.at[session] = n, len(n.holds)
	n.holds = append(n.holds, session)
}

// check holds the state against the rules.
func (s *simulation) check() {
	placed := 0
	for _, n := range s.nodes {
		switch {
		case len(n.holds) > 0 && !n.alive:
			s.t.Fatalf("%s is dead and holds %d sessions", n.ID, len(n.holds))
		case len(n.holds) > n.MaxSessions:
			s.t.Fatalf("%s holds %d sessions of %d", n.ID, len(n.holds), n.MaxSessions)
		}
		placed += len(n.holds)
	}
	if lost := simSessions - placed - len(s.homeless) - len(s.ended); lost != 0 {
		s.t.Fatalf("%d sessions are lost", lost)
	}
}

// checkEach makes sure of the simulation itself: each session is in one place. Under the race detector this is too slow for
// every step.
func (s *simulation) checkEach() {
	for _, n := range s.nodes {
		for i, session := range n.holds {
			if s.home[session] != n || s.at[session] != i {
				s.t.Fatalf("session %d is on %s and elsewhere", session, n.ID)
			}
		}
	}
}

// storm ends with the death of 80 workers, so that there is much to do afterwards.
func (s *simulation) storm() {
	for step := range simStorm {
		s.now = s.now.Add(time.Minute)
		s.join(s.rnd.IntN(2))
		s.returnSome()
		if s.rnd.IntN(3) == 0 {
			s.die(1)
		}
		if step == simStorm/2 || step == simStorm-1 {
			s.die(simWorkers * 2 / 5)
		}
		s.maintainSome()
		s.drain()
		s.end(50)
		s.create()
		s.placeHomeless(s.rnd.IntN(2) * 60)
		s.rebalance()
		s.check()
	}
	require.Positive(s.t, s.wereHomeless, "the storm must be such that sessions find no room")
	require.Positive(s.t, s.moves, "the storm must be such that sessions move")
	s.t.Logf("storm: %d deaths, %d drains, up to %d sessions without a worker, %d moves",
		s.deaths, s.drains, s.wereHomeless, s.moves)
}

// comeToRest lets workers come back until all sessions have a place, and then time pass until nothing has moved for longer
// than a cool-down.
func (s *simulation) comeToRest() {
	moved := map[int]bool{}
	quiet := time.Duration(0)
	for step := range simPatience {
		s.now = s.now.Add(time.Minute)
		quiet += time.Minute
		if s.unsettled() {
			s.returnSome()
			s.drain()
			s.placeHomeless(0)
			quiet = 0
		}
		for _, session := range s.rebalance() {
			require.False(s.t, moved[session], "session %d moves twice, though the load is constant", session)
			moved[session] = true
			quiet = 0
		}
		s.check()
		if quiet > CoolDown {
			require.Empty(s.t, Rebalance(s.workers()), "nothing is left to do")
			s.t.Logf("rest: %d moves, the last one in step %d", len(moved), step-int(quiet/time.Minute))
			return
		}
	}
	require.Fail(s.t, "still moving", "after %d steps", simPatience)
}

// unsettled reports whether anything but rebalancing is left to do.
func (s *simulation) unsettled() bool {
	return len(s.homeless) > 0 || slices.ContainsFunc(s.nodes, func(n *node) bool { return !n.Online })
}

// churn lets sessions come and go.
func (s *simulation) churn() {
	for range simChurn {
		s.now = s.now.Add(time.Minute)
		s.end(2_000)
		s.create()
		s.rebalance()
		s.check()
	}
}

// checkSpread fails if workers of equal size differ in sessions by more than 2 % of their room, those that were there
// throughout and those that came back empty alike. Slow ones are left out, since they are relieved for their CPU.
func (s *simulation) checkSpread() {
	for size, all := range s.loads(func(n *node) bool { return !n.slow }) {
		require.LessOrEqual(s.t, slices.Max(all)-slices.Min(all), size/50, "those with room for %d: %v", size, all)
	}
}

// reportSpread logs how evenly the workers that were there throughout are loaded.
func (s *simulation) reportSpread(when string) {
	loads := s.loads(func(n *node) bool { return n.throughout && !n.slow })
	require.NotEmpty(s.t, loads, "the storm must be such that somebody survives")
	for _, size := range slices.Sorted(maps.Keys(loads)) {
		low, high := slices.Min(loads[size]), slices.Max(loads[size])
		s.t.Logf("%s: of room for %d, %d survivors hold %d to %d: spread %d", when, size, len(loads[size]), low, high, high-low)
	}
}

// loads returns the numbers of sessions of the matching workers by their size.
func (s *simulation) loads(match func(*node) bool) map[int][]int {
	loads := map[int][]int{}
	for _, n := range s.nodes {
		if match(n) {
			loads[n.MaxSessions] = append(loads[n.MaxSessions], len(n.holds))
		}
	}
	return loads
}
