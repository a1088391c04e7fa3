package pacing

import "time"

// Reasons of a cool-down.
const (
	RateLimited  = "rate_limited"  // the network takes less for a while
	TemporaryBan = "temporary_ban" // the network takes nothing for a while
	Banned       = "banned"        // the network lets the number in no more for a while; it ends when the session connects again
)

// Cooldown is a pause that a session's network asked for. The zero Cooldown is none.
type Cooldown struct {
	Reason    string
	Until     time.Time // cold messages wait
	RepliesAt time.Time // answers to people who wrote wait too, until then
	Count     int       // in a row
}

const (
	rateLimitPause = 5 * time.Minute // where the network names none
	banPause       = time.Hour
	replyPause     = 15 * time.Second
	mostPause      = 24 * time.Hour      // of what we make of a pause by doubling it
	MostAsked      = 30 * 24 * time.Hour // of what a network may ask for: a broken worker must not silence a session for good
	// Calm is for how long after a cool-down the next one still counts as the next in a row.
	Calm = 24 * time.Hour
)

// WarmFor is for how long after a person wrote what goes to them is an answer.
const WarmFor = 24 * time.Hour

// Running reports whether the cool-down goes on.
func (c Cooldown) Running(now time.Time) bool { return c.Until.After(now) }

// Throttled is the cool-down after the network refused a message for a while. asked is the pause that it named, 0 for none;
// reply says that the message was an answer. Each throttling in a row doubles the pause. A rate limit lets answers go on, at
// intervals if it refuses them too; a ban holds up all, since a banned number can send nothing.
func Throttled(c Cooldown, reason string, asked time.Duration, reply bool, now time.Time) Cooldown {
	if now.After(c.Until.Add(Calm)) {
		c = Cooldown{}
	}
	running := c.Running(now)
	c.Count++
	pause := max(asked, 0)
	if pause == 0 {
		pause = rateLimitPause
		if reason == TemporaryBan {
			pause = banPause
		}
	}
	pause = min(max(min(pause, MostAsked), doubled(pause, c.Count, mostPause)), MostAsked)
	c.Until = later(c.Until, now.Add(pause))
	switch {
	case reason == TemporaryBan || running && c.Reason == TemporaryBan:
		c.Reason, c.RepliesAt = TemporaryBan, c.Until
	case reply:
		c.Reason, c.RepliesAt = RateLimited, later(c.RepliesAt, now.Add(doubled(replyPause, c.Count, pause)))
	default:
		c.Reason = RateLimited
		if !running {
			c.RepliesAt = time.Time{}
		}
	}
	return c
}

// Begins reports whether subscribers are to be told of next: it is no mere extension of what they know.
func (c Cooldown) Begins(next Cooldown, now time.Time) bool {
	return !c.Running(now) || c.Reason != next.Reason
}

// doubled is a pause doubled with each further one in a row, up to most.
func doubled(pause time.Duration, count int, most time.Duration) time.Duration {
	for i := 1; i < count && pause < most; i++ {
		pause *= 2
	}
	return min(pause, most)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
