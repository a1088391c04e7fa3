package main

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// attack is a load: so many connections, each with one call under way, as fast as answers come or at a rate.
type attack struct {
	connections int
	pacer       vegeta.Pacer // nil: as fast as answers come
	duration    time.Duration
	target      func(n uint64, t *vegeta.Target)
}

// atRate sends so many a second, whether answers come or not, as long as there are connections.
func atRate(perSecond int) vegeta.Pacer { return vegeta.Rate{Freq: perSecond, Per: time.Second} }

// run makes the calls and returns what came of them.
func (a attack) run(ctx context.Context) tally {
	transport := newLean(a.connections)
	client := &http.Client{Transport: transport}
	defer client.CloseIdleConnections()
	var n atomic.Uint64
	targets := func(t *vegeta.Target) error {
		a.target(n.Add(1)-1, t)
		return nil
	}
	pacer := a.pacer
	if pacer == nil {
		pacer = vegeta.Rate{}
	}
	attacker := vegeta.NewAttacker(vegeta.Client(client), vegeta.Workers(uint64(a.connections)), vegeta.MaxWorkers(uint64(a.connections)))
	end := context.AfterFunc(ctx, func() { attacker.Stop() })
	defer end()
	t := tally{errors: map[string]int{}, began: time.Now()}
	for r := range attacker.Attack(targets, pacer, a.duration, "") {
		t.add(r)
	}
	return t
}

// tally is what came of an attack.
type tally struct {
	began, ended time.Time // of the first call and of the last answer
	done         int
	latencies    []float64 // milliseconds, of what went well
	errors       map[string]int
}

func (t *tally) add(r *vegeta.Result) {
	if end := r.End(); end.After(t.ended) {
		t.ended = end
	}
	switch {
	case r.Code >= 200 && r.Code < 300:
		t.done++
		t.latencies = append(t.latencies, float64(r.Latency.Microseconds())/1000)
	case r.Code == 0:
		name, _, _ := strings.Cut(r.Error, "\n")
		t.errors[name[max(0, len(name)-60):]]++
	default:
		t.errors[codeOf(int(r.Code), r.Body)]++
	}
}

func (t *tally) seconds() float64 { return t.ended.Sub(t.began).Seconds() }

// figures of what was answered.
func (t *tally) figures() figures {
	return figures{Seconds: t.seconds(), Count: float64(t.done), PerSecond: float64(t.done) / max(t.seconds(), 1e-9), Latency: percentilesOf(t.latencies), Errors: t.errors}
}
