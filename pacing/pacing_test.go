package pacing_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"kurir/pacing"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

func TestOf(t *testing.T) {
	require.Equal(t, pacing.Pace{}, pacing.Of("simulator", nil))
	gentle := pacing.Of("whatsapp", nil)
	require.Positive(t, gentle.Rate)
	require.Positive(t, gentle.NewPerHour)
	own := pacing.Of("whatsapp", &pacing.Settings{MessagesPerMinute: ptr(5), NewChatsPerDay: ptr(0)})
	require.Equal(t, 5, own.Rate)
	require.Zero(t, own.NewPerDay, "0 switches off")
	require.Equal(t, gentle.NewPerHour, own.NewPerHour, "the rest is the engine's")
	require.Equal(t, 7, pacing.Of("simulator", &pacing.Settings{MessagesPerMinute: ptr(7)}).Rate)
}

func TestCheck(t *testing.T) {
	for field, s := range map[string]pacing.Settings{
		"messagesPerMinute": {MessagesPerMinute: ptr(-1)},
		"newChatsPerHour":   {NewChatsPerHour: ptr(100_001)},
		"newChatsPerDay":    {NewChatsPerDay: ptr(-5)},
		"jitterMs":          {JitterMs: &pacing.Range{Min: 5, Max: 4}},
		"typing":            {Typing: &pacing.Typing{MaxMs: 10_001}},
	} {
		var wrong *pacing.FieldError
		require.ErrorAs(t, s.Check(), &wrong, field)
		require.Equal(t, field, wrong.Field)
	}
	require.NoError(t, (&pacing.Settings{}).Check())
	require.NoError(t, (&pacing.Settings{MessagesPerMinute: ptr(0), JitterMs: &pacing.Range{Min: 5, Max: 5}, NewChatsPerHour: ptr(100_000)}).Check())
}

func TestSent(t *testing.T) {
	p := pacing.Pace{Rate: 30, Jitter: pacing.Range{Min: 100, Max: 300}}
	require.Equal(t, now.Add(2100*time.Millisecond), p.Sent(pacing.State{}, now, 0).NextSendAt)
	require.Equal(t, now.Add(2300*time.Millisecond), p.Sent(pacing.State{}, now, 1).NextSendAt)
	require.Zero(t, pacing.Pace{}.Sent(pacing.State{}, now, 1))
}

func TestTypingFor(t *testing.T) {
	p := pacing.Pace{Typing: pacing.Typing{PerCharacterMs: 30, MaxMs: 2000}}
	require.Zero(t, p.TypingFor(""))
	require.Equal(t, 60*time.Millisecond, p.TypingFor("é☕"), "characters, not bytes")
	require.Equal(t, 2*time.Second, p.TypingFor(strings.Repeat("x", 1_000_000)))
	require.Zero(t, pacing.Pace{}.TypingFor("hi"))
}

func TestCapped(t *testing.T) {
	p := pacing.Pace{NewPerDay: 1}
	require.True(t, p.Capped("62@s.whatsapp.net"))
	require.True(t, p.Capped("62@lid"))
	require.False(t, p.Capped("12@g.us"))
	require.False(t, p.Capped("12@newsletter"))
	require.False(t, pacing.Pace{Rate: 1}.Capped("62@s.whatsapp.net"))
}

// Whoever begins chats as fast as the caps let him, with pauses of whatever length, never begins more than they say in any window.
func TestNewChatsHoldInAnyWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := pacing.Pace{NewPerHour: rapid.IntRange(0, 40).Draw(t, "hour"), NewPerDay: rapid.IntRange(0, 200).Draw(t, "day")}
		at, s := now, pacing.State{}
		var begun []time.Time
		for range rapid.IntRange(1, 300).Draw(t, "chats") {
			if rapid.IntRange(0, 5).Draw(t, "rests") == 0 {
				at = at.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "rest")))
			}
			if open := p.NewChat(s); open.After(at) {
				if open.Sub(at) > 24*time.Hour {
					t.Fatalf("waits %v", open.Sub(at))
				}
				at = open
			}
			s = p.Begun(s, at)
			begun = append(begun, at)
		}
		for i, from := range begun {
			hour, day := 0, 0
			for _, b := range begun[i:] {
				if b.Before(from.Add(time.Hour)) {
					hour++
				}
				if b.Before(from.Add(24 * time.Hour)) {
					day++
				}
			}
			if p.NewPerHour > 0 && hour > p.NewPerHour || p.NewPerDay > 0 && day > p.NewPerDay {
				t.Fatalf("%d in an hour of %d, %d in a day of %d", hour, p.NewPerHour, day, p.NewPerDay)
			}
		}
	})
}

func TestACapIsUsedUp(t *testing.T) {
	p := pacing.Pace{NewPerHour: 20}
	s, n := pacing.State{}, 0
	for at := now; at.Before(now.Add(time.Hour)); at = at.Add(time.Second) {
		if !p.NewChat(s).After(at) {
			s = p.Begun(s, at)
			n++
		}
	}
	require.Equal(t, 20, n, "as many as it allows, in the first hour already")
	require.Equal(t, s.NewChatAt, p.NewChat(s))
}

func TestThrottled(t *testing.T) {
	none := pacing.Cooldown{}
	first := pacing.Throttled(none, pacing.RateLimited, time.Minute, false, now)
	require.Equal(t, pacing.Cooldown{Reason: pacing.RateLimited, Until: now.Add(time.Minute), Count: 1}, first)
	require.True(t, none.Begins(first, now))
	require.Equal(t, now.Add(5*time.Minute), pacing.Throttled(none, pacing.RateLimited, 0, false, now).Until, "a default")

	t.Run("in a row it doubles, up to a day", func(t *testing.T) {
		c := first
		for i := range 30 {
			at := c.Until.Add(time.Second)
			next := pacing.Throttled(c, pacing.RateLimited, time.Minute, false, at)
			require.True(t, c.Begins(next, at), "it begins anew, so subscribers are told")
			require.Equal(t, min(time.Minute<<min(i+1, 20), 24*time.Hour), next.Until.Sub(at))
			c = next
		}
		c = pacing.Throttled(c, pacing.RateLimited, time.Minute, false, c.Until.Add(25*time.Hour))
		require.Equal(t, 1, c.Count, "after a calm day it begins anew")
	})
	t.Run("a rate limit lets answers go on, until it refuses one", func(t *testing.T) {
		at := now.Add(10 * time.Second)
		next := pacing.Throttled(first, pacing.RateLimited, time.Minute, true, at)
		require.Equal(t, at.Add(30*time.Second), next.RepliesAt)
		require.Equal(t, at.Add(2*time.Minute), next.Until)
		require.False(t, first.Begins(next, at), "an extension is not told")
	})
	t.Run("a ban holds up all", func(t *testing.T) {
		ban := pacing.Throttled(first, pacing.TemporaryBan, 0, true, now.Add(time.Second))
		require.Equal(t, pacing.TemporaryBan, ban.Reason)
		require.Equal(t, ban.Until, ban.RepliesAt)
		require.True(t, first.Begins(ban, now.Add(time.Second)))
		more := pacing.Throttled(ban, pacing.RateLimited, time.Minute, true, now.Add(2*time.Second))
		require.Equal(t, pacing.TemporaryBan, more.Reason)
		require.False(t, more.Until.Before(ban.Until))
	})
	t.Run("what a worker asks for is bounded", func(t *testing.T) {
		require.Equal(t, now.Add(30*24*time.Hour), pacing.Throttled(none, pacing.TemporaryBan, 400*24*time.Hour, false, now).Until)
		require.Equal(t, now.Add(72*time.Hour), pacing.Throttled(none, pacing.TemporaryBan, 72*time.Hour, false, now).Until, "its own word may be longer than a day")
		require.Equal(t, now.Add(5*time.Minute), pacing.Throttled(none, pacing.RateLimited, -time.Hour, false, now).Until)
	})
}

func TestOpenSince(t *testing.T) {
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	for name, c := range map[string]struct {
		state    pacing.State
		cooldown pacing.Cooldown
		parked   bool
		want     time.Time
	}{
		"nothing":                     {want: time.Time{}},
		"a pace":                      {state: pacing.State{NextSendAt: at(-2)}, want: at(-2)},
		"opens now":                   {state: pacing.State{NextSendAt: now}, want: now},
		"a cap is none of the others": {state: pacing.State{NextSendAt: at(-2), NewChatAt: at(-1)}, want: at(-2)},
		"a cap":                       {state: pacing.State{NextSendAt: at(-2), NewChatAt: at(-1)}, parked: true, want: at(-1)},
		"a pause that is over":        {state: pacing.State{NextSendAt: at(-9)}, cooldown: pacing.Cooldown{Until: at(-3), RepliesAt: at(-5)}, want: at(-3)},
		"an answer in a pause":        {state: pacing.State{NextSendAt: at(-9)}, cooldown: pacing.Cooldown{Until: at(60), RepliesAt: at(-5)}, want: at(-5)},
		"closed, and yet it went":     {state: pacing.State{NextSendAt: at(1), NewChatAt: at(1)}, cooldown: pacing.Cooldown{Until: at(1), RepliesAt: at(1)}, parked: true},
	} {
		require.Equal(t, c.want, pacing.OpenSince(c.state, c.cooldown, c.parked, now), name)
	}
}
