package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// thinks is how long a user waits between two calls, on average.
const thinks = 2 * time.Second

// habit is what users do: how often of 100, and which status is right.
type habit struct {
	kind   string
	weight int
	want   int
	call   func(u *user) (method, path string, body any)
}

var habits = []habit{
	{"send", 30, http.StatusAccepted, func(u *user) (string, string, any) {
		return http.MethodPost, "/sessions/" + u.session.id + "/send", map[string]any{"to": personOf(rand.Uint64()), "type": "text", "message": fmt.Sprint("hello ", rand.Int())}
	}},
	{"message", 20, http.StatusOK, func(u *user) (string, string, any) {
		if u.last == "" {
			return http.MethodGet, "/users/me", nil
		}
		return http.MethodGet, "/messages/" + u.last, nil
	}},
	{"history", 15, http.StatusOK, func(u *user) (string, string, any) {
		return http.MethodGet, "/sessions/" + u.session.id + "/messages?limit=50&direction=outbound", nil
	}},
	{"search", 5, http.StatusOK, func(u *user) (string, string, any) {
		return http.MethodGet, "/sessions/" + u.session.id + "/messages?limit=20&q=hello", nil
	}},
	{"sessions", 10, http.StatusOK, func(*user) (string, string, any) { return http.MethodGet, "/sessions", nil }},
	{"session", 10, http.StatusOK, func(u *user) (string, string, any) { return http.MethodGet, "/sessions/" + u.session.id, nil }},
	{"usage", 5, http.StatusOK, func(*user) (string, string, any) { return http.MethodGet, "/users/me/usage", nil }},
	{"wrong address", 5, http.StatusUnprocessableEntity, func(u *user) (string, string, any) {
		return http.MethodPost, "/sessions/" + u.session.id + "/send", map[string]any{"to": "12", "type": "text", "message": "x"}
	}},
}

// user is one of many, with a connection of his own.
type user struct {
	session session
	last    string // a message that was accepted
	own     *http.Client
}

// answers is what users got.
type answers struct {
	mu       sync.Mutex
	took     map[string][]float64 // milliseconds by kind
	wrong    map[string]int
	accepted int
}

func (a *answers) note(kind string, took time.Duration, problem string, accepted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if accepted {
		a.accepted++
	}
	if problem != "" {
		a.wrong[kind+": "+problem]++
		return
	}
	a.took[kind] = append(a.took[kind], float64(took.Microseconds())/1000)
}

// mixed has many users make mixed calls, and shows that every accepted message went out once.
func mixed(ctx context.Context, b *bench) error {
	return b.with(ctx, "mixed", b.few, func(r *rig) error {
		users := make([]*user, b.users)
		for i := range users {
			users[i] = &user{session: r.phones[i%len(r.phones)], own: &http.Client{Timeout: patience, Transport: &http.Transport{MaxConnsPerHost: 1}}}
			defer users[i].own.CloseIdleConnections()
		}
		if _, _, err := r.crowd(ctx, users, b.warmup+thinks); err != nil { // everybody is connected then
			return err
		}
		return b.repeat(ctx, func() error {
			all, kinds, err := r.crowd(ctx, users, b.duration)
			if err != nil {
				return err
			}
			b.add("mixed", fmt.Sprintf("%d users, all calls", b.users), "calls", all)
			for _, h := range habits {
				b.add("mixed", h.kind, "calls", kinds[h.kind])
			}
			return nil
		})
	})
}

func (r *rig) crowd(ctx context.Context, users []*user, duration time.Duration) (all figures, kinds map[string]figures, err error) {
	before, err := r.witness(ctx)
	if err != nil {
		return all, nil, err
	}
	a := &answers{took: map[string][]float64{}, wrong: map[string]int{}}
	m, began := r.meter(), time.Now()
	until, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var group sync.WaitGroup
	for _, u := range users {
		group.Go(func() { u.live(ctx, until, r.api+"/api/v1", a) })
	}
	group.Wait()
	seconds, costs := time.Since(began).Seconds(), m.end()
	kinds = map[string]figures{}
	var every []float64
	for kind, took := range a.took {
		every = append(every, took...)
		kinds[kind] = figures{Seconds: seconds, Count: float64(len(took)), PerSecond: float64(len(took)) / seconds, Latency: percentilesOf(took)}
	}
	all = figures{Seconds: seconds, Count: float64(len(every)), PerSecond: float64(len(every)) / seconds, Latency: percentilesOf(every), Errors: a.wrong}
	all.charge(costs)
	return all, kinds, r.allShown(ctx, before, a.accepted)
}

// live makes calls, with pauses, until the time is up; a call under way is answered all the same.
func (u *user) live(ctx, until context.Context, api string, a *answers) {
	for {
		select {
		case <-until.Done():
			return
		case <-time.After(time.Duration(rand.ExpFloat64() * float64(thinks))):
		}
		h := chooseHabit(rand.IntN(100))
		method, path, body := h.call(u)
		began := time.Now()
		status, answer, err := exchange(ctx, u.own, method, api+path, u.session.key, body)
		took, problem, accepted := time.Since(began), "", false
		switch {
		case err != nil:
			problem = "no answer"
		case status != h.want:
			problem = codeOf(status, answer)
		case status == http.StatusAccepted:
			var sent struct{ Data struct{ MessageID string } }
			if accepted = json.Unmarshal(answer, &sent) == nil; accepted {
				u.last = sent.Data.MessageID
			}
		}
		a.note(h.kind, took, problem, accepted)
	}
}

func chooseHabit(n int) habit {
	for _, h := range habits {
		if n -= h.weight; n < 0 {
			return h
		}
	}
	return habits[0]
}
