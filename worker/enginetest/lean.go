package enginetest

import (
	"testing"
	"time"
)

// What a Network may be unable to do as the suite would have it. A Network implements what applies to it.

// Lean is a Network whose messages have no place for everything. Arrives tells what is left of one.
type Lean interface {
	Arrives(m Message) Message
}

// Absentee is a Network that has to be told who is not on it.
type Absentee interface {
	Absent(t *testing.T, number string)
}

// Untimed is a Network that asks for a pause without saying how long. Pause tells how long the engine takes it to be.
type Untimed interface {
	Pause(code string) time.Duration
}

// Founder is a Network whose groups have names of its own. Group makes one with the session and these members in it.
type Founder interface {
	Group(t *testing.T, session string, members ...string) string
}

func (h *held) arrives(m Message) Message {
	if lean, ok := h.net.(Lean); ok {
		return lean.Arrives(m)
	}
	return m
}

// absent is a number that is not on the network.
func (h *held) absent(number string) string {
	h.t.Helper()
	if a, ok := h.net.(Absentee); ok {
		a.Absent(h.t, number)
	}
	return number
}

// pause is for how long the network asks, which told it was to ask for this long.
func (h *held) pause(code string, told time.Duration) time.Duration {
	if u, ok := h.net.(Untimed); ok {
		return u.Pause(code)
	}
	return told
}

// group is one with these members in it.
func (h *held) group(members ...string) string {
	h.t.Helper()
	if f, ok := h.net.(Founder); ok {
		return f.Group(h.t, h.session.ID, members...)
	}
	return "120363041234567890@g.us"
}
