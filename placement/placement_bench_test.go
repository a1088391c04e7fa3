package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// large is a fleet of 200 workers with 100,000 sessions. The first so many of them are overloaded, the others have room.
func large(overloaded int) []Worker {
	rnd := rand.New(rand.NewPCG(1, 0))
	workers := make([]Worker, 200)
	for i := range workers {
		w := Worker{
			ID: fmt.Sprintf("w%03d", i), Online: true, Sessions: 490 + rnd.IntN(21), MaxSessions: 800,
			CPU: 40 + 20*rnd.Float64(), Memory: 40 + 20*rnd.Float64(),
		}
		if i < overloaded {
			w.CPU = 81 + 19*rnd.Float64()
		}
		workers[i] = w
	}
	return workers
}

func BenchmarkPick(b *testing.B) {
	workers := large(0)
	for b.Loop() {
		Pick(workers)
	}
}

// The sessions of a dead worker find a place on the 199 others.
func BenchmarkFill(b *testing.B) {
	workers := large(0)
	workers[0].Online = false
	for b.Loop() {
		Fill(workers, 500, 0)
	}
}

func BenchmarkRebalance(b *testing.B) {
	for _, overloaded := range []int{0, 20, 100} {
		workers := large(overloaded)
		b.Run(fmt.Sprintf("overloaded=%d", overloaded), func(b *testing.B) {
			moves := 0
			for b.Loop() {
				moves = len(Rebalance(workers))
			}
			b.ReportMetric(float64(moves), "moves")
		})
	}
}

func BenchmarkRecommend(b *testing.B) {
	f := Fleet{Workers: large(0)}
	for b.Loop() {
		Recommend(Scaling{}, f, now)
	}
}
