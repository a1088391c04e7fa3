package placement

import "container/heap"

// Fill places n sessions one after another, each where Pick would put it, and returns the IDs of their workers. It is for
// the many sessions of a worker that died: n calls of Pick would look at every worker n times.
//
// most bounds how many sessions one worker takes in this call, so that it isn't asked to connect hundreds at once; 0 is
// no bound. "" means that nobody took the session; all after it are "" too. A resting worker is a last resort here too:
// room that most keeps for a later call on a worker that doesn't rest is waited for.
func Fill(workers []Worker, n, most int) []string {
	placed := make([]string, max(n, 0))
	q := make(queue, 0, len(workers))
	for _, w := range workers {
		if w.Room() {
			q = append(q, &candidate{Worker: w})
		}
	}
	heap.Init(&q)
	later := false // somebody who doesn't rest has room that most keeps
	for i := range placed {
		if len(q) == 0 || q[0].Resting && later {
			break
		}
		best := q[0]
		placed[i] = best.ID
		best.Sessions++
		best.taken++
		enough := best.taken == most
		if enough || !best.Room() {
			heap.Pop(&q)
			later = later || best.Room() && !best.Resting
		} else {
			heap.Fix(&q, 0)
		}
	}
	return placed
}

// candidate is a worker while Fill places sessions on it.
type candidate struct {
	Worker
	taken int // in this call
}

// queue is a heap of workers with room, the one that Pick would take on top.
type queue []*candidate

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return compare(&q[i].Worker, &q[j].Worker) < 0 }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(*candidate)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
