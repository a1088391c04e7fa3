package pacing

import "time"

// allowance is a cap on new chats: never more than most in any window. A quarter of them may be begun at once, the rest is
// spread over the window. It is a GCRA: tat is the theoretical arrival time, which each new chat moves on by one interval.
type allowance struct {
	most   int
	window time.Duration
}

func (a allowance) burst() int { return max(a.most/4, 1) }

// interval is such that what comes after a burst, within the window, is at most the rest.
func (a allowance) interval() time.Duration {
	n := time.Duration(a.most - a.burst() + 1)
	return (a.window + n - 1) / n
}

// openAt is when a chat may next be begun.
func (a allowance) openAt(tat time.Time) time.Time {
	if a.most <= 0 || tat.IsZero() {
		return time.Time{}
	}
	return tat.Add(-time.Duration(a.burst()-1) * a.interval())
}

// take is tat after a chat was begun.
func (a allowance) take(tat, now time.Time) time.Time {
	if a.most <= 0 {
		return tat
	}
	if tat.Before(now) {
		tat = now
	}
	return tat.Add(a.interval())
}

func (p Pace) hour() allowance { return allowance{p.NewPerHour, time.Hour} }
func (p Pace) day() allowance  { return allowance{p.NewPerDay, 24 * time.Hour} }

// NewChat is when a chat may next be begun; the past or the zero time: now.
func (p Pace) NewChat(s State) time.Time {
	h, d := p.hour().openAt(s.HourTAT), p.day().openAt(s.DayTAT)
	if h.After(d) {
		return h
	}
	return d
}

// Begun is the state after a chat was begun.
func (p Pace) Begun(s State, now time.Time) State {
	s.HourTAT, s.DayTAT = p.hour().take(s.HourTAT, now), p.day().take(s.DayTAT, now)
	s.NewChatAt = p.NewChat(s)
	return s
}
