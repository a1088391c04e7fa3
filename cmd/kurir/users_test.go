//go:build load

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"kurir/models/modelstest"
)

const (
	loadUsers = 1000 // each with a connection of its own
	loadTime  = time.Minute
	loadThink = 4 * time.Second // between two calls of a user, on average
)

// answered is how long calls of a kind took, and which answers were not those that they should have.
type answered struct {
	mu    sync.Mutex
	took  map[string][]time.Duration
	wrong map[string]int
}

func (a *answered) note(kind string, took time.Duration, problem string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.took[kind] = append(a.took[kind], took)
	if problem != "" {
		a.wrong[kind+": "+problem]++
	}
}

// userCall is what users do: how often of 100, and what is right.
type userCall struct {
	kind   string
	weight int
	want   int
	call   func(u *loadUser) (method, path string, body any)
}

type loadUser struct {
	c        *cluster
	sessions []string
	last     string // a message that was accepted
}

func (u *loadUser) session() string { return u.sessions[rand.IntN(len(u.sessions))] }

var userCalls = []userCall{
	{"send", 30, http.StatusAccepted, func(u *loadUser) (string, string, any) {
		return http.MethodPost, "/sessions/" + u.session() + "/send", map[string]any{"to": personOf(rand.IntN(people)), "type": "text", "message": fmt.Sprint("hello ", rand.Int())}
	}},
	{"message", 20, http.StatusOK, func(u *loadUser) (string, string, any) {
		if u.last == "" {
			return http.MethodGet, "/auth/me", nil
		}
		return http.MethodGet, "/messages/" + u.last, nil
	}},
	{"history", 15, http.StatusOK, func(u *loadUser) (string, string, any) {
		return http.MethodGet, "/sessions/" + u.session() + "/messages?limit=50&direction=outbound", nil
	}},
	{"search", 5, http.StatusOK, func(u *loadUser) (string, string, any) {
		return http.MethodGet, "/sessions/" + u.session() + "/messages?limit=20&q=hello", nil
	}},
	{"sessions", 10, http.StatusOK, func(*loadUser) (string, string, any) { return http.MethodGet, "/sessions", nil }},
	{"session", 10, http.StatusOK, func(u *loadUser) (string, string, any) { return http.MethodGet, "/sessions/" + u.session(), nil }},
	{"usage", 5, http.StatusOK, func(*loadUser) (string, string, any) { return http.MethodGet, "/users/me/usage", nil }},
	{"wrong address", 5, http.StatusUnprocessableEntity, func(u *loadUser) (string, string, any) {
		return http.MethodPost, "/sessions/" + u.session() + "/send", map[string]any{"to": "12", "type": "text", "message": "x"}
	}},
}

// TestLoadOfManyUsers has 1,000 connections make mixed calls for a minute, and tells what they took and what the processes weigh.
func TestLoadOfManyUsers(t *testing.T) {
	c := newCluster(t)
	sessions := c.linkedSessions(50)
	a := &answered{took: map[string][]time.Duration{}, wrong: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), loadTime)
	defer cancel()
	var users errgroup.Group
	for i := range loadUsers {
		u := &loadUser{c: c, sessions: sessions}
		own := c.plainClient(1)
		users.Go(func() error { return u.use(ctx, own, c.apis[i%len(c.apis)], a) })
	}
	require.NoError(t, users.Wait())
	for name, p := range c.procs {
		t.Logf("%-12s %s", name, memoryOf(p.cmd.Process.Pid))
	}
	calls, wrong := 0, 0
	for _, m := range userCalls {
		took := a.took[m.kind]
		slices.Sort(took)
		calls += len(took)
		at := func(part float64) time.Duration {
			return took[int(part*float64(len(took)-1))].Round(100 * time.Microsecond)
		}
		t.Logf("%-14s %6d calls, p50 %8s, p99 %8s, longest %8s", m.kind, len(took), at(0.5), at(0.99), at(1))
	}
	for what, n := range a.wrong {
		t.Logf("%d times %s", n, what)
		wrong += n
	}
	t.Logf("%d calls, %.0f/s, %d wrong (%.3f %%)", calls, float64(calls)/loadTime.Seconds(), wrong, 100*float64(wrong)/float64(calls))
	require.Less(t, wrong*1000, calls, "errors")
	c.prove(time.Minute)
}

// plainClient speaks over so many connections at most, and keeps them.
func (c *cluster) plainClient(connections int) *http.Client {
	transport := &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Timeout: 40 * time.Second, Transport: transport}
}

func (u *loadUser) use(ctx context.Context, own *http.Client, api string, a *answered) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration(rand.ExpFloat64() * float64(loadThink))):
		}
		m, n := userCalls[0], rand.IntN(100)
		for _, m = range userCalls {
			if n -= m.weight; n < 0 {
				break
			}
		}
		method, path, body := m.call(u)
		began := time.Now()
		status, data, err := u.c.requestBy(context.WithoutCancel(ctx), own, method, api+"/api/v1"+path, body)
		took, problem := time.Since(began), ""
		switch {
		case err != nil:
			problem = err.Error()
		case status != m.want:
			problem = fmt.Sprintf("%d %.60s", status, data) // the sentence; what comes behind it differs from call to call
		case status == http.StatusAccepted:
			var sent struct{ MessageID string }
			if err := json.Unmarshal(data, &sent); err != nil {
				return err
			}
			u.last = sent.MessageID
			u.c.mu.Lock()
			u.c.accepted = append(u.c.accepted, accepted{id: sent.MessageID})
			u.c.mu.Unlock()
		}
		a.note(m.kind, took, problem)
	}
}

var memoryLines = regexp.MustCompile(`(VmHWM|VmRSS):\s+\d+ kB`)

// memoryOf is what a process has in memory, and had at most.
func memoryOf(pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s", memoryLines.FindAll(status, -1))
}

// TestLimitOverProcesses has 200 clients send at four API processes as fast as they can: as many messages are accepted as the
// tier allows, and not one more.
func TestLimitOverProcesses(t *testing.T) {
	const clients, allowed = 200, 1000
	c := plan{apis: 4, workers: 1}.start(t)
	var tenant struct{ APIKey string }
	c.call(http.MethodPost, "/auth/register", map[string]any{"email": "pro@example.com", "password": "correct horse", "tier": "pro"}, &tenant, http.StatusCreated)
	c.apiKey, c.http = tenant.APIKey, c.plainClient(clients)
	c.linkedSessions(2)
	var accepted, refused atomic.Int64
	var group errgroup.Group
	for i := range clients {
		group.Go(func() error {
			for n := 0; ; n++ {
				single := map[string]any{"to": personOf(i % people), "type": "text", "message": fmt.Sprint(i, "-", n)}
				path, body, counts := "/sessions/s000/send", any(single), int64(1)
				if i%2 == 0 && accepted.Load() < allowed/2 {
					path, body, counts = "/sessions/s001/messages/batch", map[string]any{"messages": slices.Repeat([]any{single}, 7)}, 7
				}
				status, data, err := c.request(t.Context(), http.MethodPost, c.apis[(i+n)%len(c.apis)]+"/api/v1"+path, body)
				switch {
				case err != nil:
					return err
				case status == http.StatusTooManyRequests:
					if refused.Add(1); counts == 1 {
						return nil
					}
				case status == http.StatusAccepted:
					accepted.Add(counts)
				default:
					return fmt.Errorf("%s answered %d: %s", path, status, data)
				}
			}
		})
	}
	require.NoError(t, group.Wait())
	stored := modelstest.Scalar[int64](t, c.db, `SELECT count(*) FROM messages WHERE direction = 'OUTBOUND'`)
	t.Logf("%d clients at %d processes: %d accepted, %d stored, %d refused", clients, len(c.apis), accepted.Load(), stored, refused.Load())
	require.EqualValues(t, allowed, accepted.Load())
	require.EqualValues(t, allowed, stored)
}
