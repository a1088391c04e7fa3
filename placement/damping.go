package placement

import "time"

const (
	// FlapWindow is how far back the lapses of a worker's lease count as flapping.
	FlapWindow = 10 * time.Minute

	firstRest = 30 * time.Second
	mostRest  = 10 * time.Minute
)

// Rest returns how long a worker whose lease lapsed for the flaps-th time within FlapWindow gets no new sessions while
// others have room. The first lapse may be anybody's bad luck and costs nothing, so that a restarted worker is filled at once;
// the second costs 30 s, and each further one twice as much, at most 10 min. Sessions that are placed on a worker that
// comes and goes are moved again at each lapse, which interrupts them more than a fuller worker does.
func Rest(flaps int) time.Duration {
	if flaps < 2 {
		return 0
	}
	rest := firstRest
	for lapse := 2; lapse < flaps && rest < mostRest; lapse++ {
		rest *= 2
	}
	return min(rest, mostRest)
}
