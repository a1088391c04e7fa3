package limits

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// At the turn of an hour nothing begins anew: what was taken a moment before it counts for an hour after it.
func TestTurnOfTheHour(t *testing.T) {
	p := Limits{MessagesPerHour: 100}.Messages()
	var c Counter
	before := noon.Add(-time.Millisecond)
	assert.Equal(t, Quota{Allowed: true, Limit: 100, Left: 40, Reset: 61*time.Minute + time.Millisecond}, c.Take(p, 60, before))
	assert.Equal(t, Quota{Allowed: true, Limit: 100, Left: 0, Reset: 61 * time.Minute}, c.Take(p, 40, noon))
	assert.False(t, c.Take(p, 1, noon.Add(time.Minute)).Allowed)
	assert.False(t, c.Take(p, 1, before.Add(time.Hour)).Allowed)
	q := c.Take(p, 61, noon.Add(time.Hour))
	assert.Equal(t, Quota{Limit: 100, Left: 0, Retry: 2 * time.Minute, Reset: time.Minute}, q, "the second part comes back a minute later")
	assert.False(t, c.Take(p, 1, noon.Add(61*time.Minute-time.Millisecond)).Allowed)
	assert.Equal(t, Quota{Allowed: true, Limit: 100, Left: 0, Reset: time.Minute}, c.Take(p, 60, noon.Add(61*time.Minute)))
	assert.Equal(t, Quota{Allowed: true, Limit: 100, Left: 40, Reset: 61 * time.Minute}, c.Take(p, 0, noon.Add(62*time.Minute)))
	assert.Equal(t, Quota{Allowed: true, Limit: 100, Left: 99, Reset: 62 * time.Minute}, c.Take(p, 1, noon.Add(48*time.Hour)))
}

// In no span of a window, wherever it begins, is there more than the limit; what comes late by less than a slot included.
func TestNoWindowHoldsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{Limit: rapid.IntRange(1, 20).Draw(t, "limit"), Window: time.Minute, Slots: rapid.IntRange(1, 12).Draw(t, "slots"), Late: 1}
		var c Counter
		var facts []time.Time
		now := noon
		for range 60 {
			now = now.Add(time.Duration(rapid.IntRange(0, 9000).Draw(t, "pass")) * time.Millisecond)
			n := rapid.IntRange(1, 4).Draw(t, "n")
			if !c.Take(p, n, now).Allowed {
				continue
			}
			for range n {
				late := time.Duration(rapid.Int64Range(0, int64(p.Width())-1).Draw(t, "late"))
				facts = append(facts, now.Add(late))
			}
		}
		for _, from := range facts {
			within := 0
			for _, at := range facts {
				if !at.Before(from) && at.Sub(from) < p.Window {
					within++
				}
			}
			require.LessOrEqual(t, within, p.Limit)
		}
	})
}

func TestGiveBack(t *testing.T) {
	p := Policy{Limit: 10, Window: time.Minute, Slots: 6}
	var c Counter
	c.Give(3, 7) // of nothing
	c.Take(p, 10, noon)
	slot := c.Head()
	c.Give(4, slot)
	assert.Equal(t, 4, c.Take(p, 0, noon).Left)
	c.Give(100, slot)
	assert.True(t, c.Empty(), "no more than was taken")
	c.Take(p, 5, noon)
	c.Take(p, 5, noon.Add(20*time.Second))
	c.Give(5, slot+1)
	assert.Equal(t, 0, c.Take(p, 0, noon.Add(20*time.Second)).Left, "nothing was taken in that slot")
	c.Take(p, 0, noon.Add(time.Hour))
	c.Give(5, slot)
	assert.Equal(t, 10, c.Take(p, 0, noon.Add(time.Hour)).Left, "it has been forgotten")
}

func TestLimitsThatNothingFits(t *testing.T) {
	var closed, small Counter
	q := closed.Take(Limits{}.Messages(), 1, noon)
	assert.Equal(t, Quota{Retry: 62 * time.Minute}, q, "a tier that is closed")
	q = small.Take(Policy{Limit: 5, Window: time.Minute, Slots: 6}, 6, noon)
	assert.Equal(t, Quota{Limit: 5, Left: 5, Retry: 70 * time.Second}, q, "a batch that is larger than the limit")
	q = small.Take(Policy{Limit: 2, Window: time.Minute, Slots: 3}, 2, noon)
	assert.True(t, q.Allowed, "a policy that was changed begins anew")
	assert.Equal(t, 0, small.Take(Policy{Limit: 1, Window: time.Minute, Slots: 3}, 1, noon).Left, "a lower limit is at once below what is used")
}

func TestRequestsAreChecked(t *testing.T) {
	require.NoError(t, DefaultRequests().Validate())
	for name, change := range map[string]func(*Requests){
		"no window": func(r *Requests) { r.Window = 0 }, "a long one": func(r *Requests) { r.Window = 25 * time.Hour },
		"address": func(r *Requests) { r.PerAddress = 0 }, "credential": func(r *Requests) { r.PerCredential = -1 },
		"operations": func(r *Requests) { r.SessionOps = 0 }, "registrations": func(r *Requests) { r.Registrations = 0 },
		"failures": func(r *Requests) { r.Logins.Failures = 0 }, "delay": func(r *Requests) { r.Logins.Delay = time.Minute },
	} {
		r := DefaultRequests()
		change(&r)
		require.Error(t, r.Validate(), name)
	}
	seen := map[string]bool{}
	r := DefaultRequests()
	for _, p := range []Policy{r.Address(), r.Credential(), r.Operations(), r.Registering(), r.Logins.AtAccount(), Default().For(Pro).Messages()} {
		require.Contains(t, Names(), p.Name)
		require.False(t, seen[p.Name], p.Name)
		seen[p.Name] = true
		require.Zero(t, p.Window%p.Width(), "%s has whole slots", p.Name)
	}
	sessions, messages := 7, 0
	require.Equal(t, Limits{5, 1000}, Default().For(Pro).With(nil, nil))
	require.Equal(t, Limits{7, 0}, Default().For(Pro).With(&sessions, &messages))
}

func TestCanTryLogin(t *testing.T) {
	l := Logins{Failures: 5, PerAddress: 50, PerAccount: 50, Delay: time.Second}
	free := func(failed int) Quota {
		return Quota{Allowed: failed < 5, Limit: 5, Left: 5 - failed, Reset: 3 * time.Minute, Retry: 5 * time.Minute}
	}
	ok, full := Quota{Allowed: true, Limit: 50, Left: 1}, Quota{Limit: 50, Retry: 7 * time.Minute}
	for _, tt := range []struct {
		name string
		t    Tries
		want LoginDecision
	}{
		{"first", Tries{free(0), ok, ok, false}, LoginDecision{Allowed: true}},
		{"last", Tries{free(4), ok, ok, false}, LoginDecision{Allowed: true}},
		{"too many", Tries{free(5), ok, ok, false}, LoginDecision{Retry: 5 * time.Minute}},
		{"too many, from a known address", Tries{free(5), ok, ok, true}, LoginDecision{Retry: 5 * time.Minute}},
		{"an address that guesses elsewhere", Tries{free(0), full, ok, false}, LoginDecision{Retry: 7 * time.Minute}},
		{"the owner behind it", Tries{free(0), full, ok, true}, LoginDecision{Allowed: true}},
		{"an account under attack", Tries{free(0), ok, full, false}, LoginDecision{Allowed: true, Delay: time.Second}},
		{"a second try there", Tries{free(1), ok, full, false}, LoginDecision{Retry: 3 * time.Minute}},
		{"its owner, wrong four times", Tries{free(4), ok, full, true}, LoginDecision{Allowed: true}},
	} {
		assert.Equal(t, tt.want, l.CanTryLogin(tt.t), tt.name)
	}
}
