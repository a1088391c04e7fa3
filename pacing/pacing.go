// Package pacing holds the rules of how fast a session may send, so that its number is not taken for a machine's: the gap
// between messages, how long "typing" shows, how many strangers may be written to, and for how long to be quiet when the
// network asks for it. The rules are pure: state and time in, decision out. The state lies in PostgreSQL, so that it holds
// for whichever runner sends next.
package pacing

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Settings are a session owner's choices. What is absent is as the session's engine has it by default; 0 switches off.
type Settings struct {
	MessagesPerMinute *int    `json:"messagesPerMinute,omitempty" minimum:"0" maximum:"6000" doc:"At most; 0: as fast as it goes" example:"30"`
	JitterMs          *Range  `json:"jitterMs,omitempty" doc:"Added to each gap, at random"`
	Typing            *Typing `json:"typing,omitempty" doc:"How long typing is shown before a message"`
	NewChatsPerHour   *int    `json:"newChatsPerHour,omitempty" minimum:"0" maximum:"100000" doc:"First messages to people who never wrote and were never written to, in any hour; 0: no cap" example:"20"`
	NewChatsPerDay    *int    `json:"newChatsPerDay,omitempty" minimum:"0" maximum:"1000000" doc:"The same for any 24 hours" example:"100"`
}

// Range is a range of milliseconds.
type Range struct {
	Min int `json:"min" minimum:"0" maximum:"60000" example:"0"`
	Max int `json:"max" minimum:"0" maximum:"60000" example:"1500"`
}

// Typing is how long typing is shown, in milliseconds.
type Typing struct {
	PerCharacterMs int `json:"perCharacterMs" minimum:"0" maximum:"1000" example:"30"`
	MaxMs          int `json:"maxMs" minimum:"0" maximum:"10000" example:"2000"`
}

// Pace is what holds for a session: its owner's choices, and the defaults of its engine for the rest.
type Pace struct {
	Rate       int // messages a minute, 0: unbounded
	Jitter     Range
	Typing     Typing
	NewPerHour int // 0: no cap
	NewPerDay  int
}

// gentle is what an account on WhatsApp itself gets. WhatsApp publishes no figures; it acts on what looks automatic and on what
// people report. A busy person writes a message every two seconds at most and not like clockwork, and does not write to
// more than a hundred strangers a day. Answers to customers stay quick.
var gentle = Pace{Rate: 30, Jitter: Range{0, 1500}, Typing: Typing{PerCharacterMs: 30, MaxMs: 2000}, NewPerHour: 20, NewPerDay: 100}

// GentleEngines lists the engines whose sessions are paced by default.
func GentleEngines() []string { return []string{"whatsapp"} }

// Of is the pace of a session.
func Of(engine string, s *Settings) Pace {
	var p Pace
	for _, e := range GentleEngines() {
		if e == engine {
			p = gentle
		}
	}
	if s == nil {
		return p
	}
	set(&p.Rate, s.MessagesPerMinute)
	set(&p.Jitter, s.JitterMs)
	set(&p.Typing, s.Typing)
	set(&p.NewPerHour, s.NewChatsPerHour)
	set(&p.NewPerDay, s.NewChatsPerDay)
	return p
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// FieldError says which setting is wrong.
type FieldError struct{ Field, Message string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// Check finds what the owner may not choose. The error is a *FieldError.
func (s *Settings) Check() error {
	for _, c := range []struct {
		field string
		value *int
		most  int
	}{{"messagesPerMinute", s.MessagesPerMinute, 6000}, {"newChatsPerHour", s.NewChatsPerHour, 100_000}, {"newChatsPerDay", s.NewChatsPerDay, 1_000_000}} {
		if c.value != nil && (*c.value < 0 || *c.value > c.most) {
			return &FieldError{c.field, fmt.Sprintf("expected 0 to %d", c.most)}
		}
	}
	if j := s.JitterMs; j != nil && (j.Min < 0 || j.Max > 60_000 || j.Min > j.Max) {
		return &FieldError{"jitterMs", "expected min and max from 0 to 60000, min not above max"}
	}
	if t := s.Typing; t != nil && (t.PerCharacterMs < 0 || t.PerCharacterMs > 1000 || t.MaxMs < 0 || t.MaxMs > 10_000) {
		return &FieldError{"typing", "expected perCharacterMs from 0 to 1000 and maxMs from 0 to 10000"}
	}
	return nil
}

// State is where a paced session stands. The zero State is that of a session that never sent.
type State struct {
	NextSendAt time.Time // nothing is sent before
	NewChatAt  time.Time // no chat is begun before
	HourTAT    time.Time // how far the caps on new chats are used
	DayTAT     time.Time
}

// OpenSince is since when neither pace nor network has had a message wait that goes out now, one that was parked for the caps on new
// chats or another; the zero time: they never have.
func OpenSince(s State, c Cooldown, parked bool, now time.Time) time.Time {
	var since time.Time
	for _, gate := range []time.Time{s.NextSendAt, c.RepliesAt, c.Until} {
		if !gate.After(now) { // else it does not hold for this one
			since = later(since, gate)
		}
	}
	if parked && !s.NewChatAt.After(now) {
		since = later(since, s.NewChatAt)
	}
	return since
}

// Sent is the state after a message went out, or may have. luck is from 0 to 1, and chooses the jitter.
func (p Pace) Sent(s State, now time.Time, luck float64) State {
	if p.Rate > 0 {
		gap := time.Minute / time.Duration(p.Rate)
		jitter := float64(p.Jitter.Min) + luck*float64(p.Jitter.Max-p.Jitter.Min)
		s.NextSendAt = now.Add(gap + time.Duration(jitter*float64(time.Millisecond)))
	}
	return s
}

// TypingFor is how long typing shows before a text.
func (p Pace) TypingFor(text string) time.Duration {
	ms := min(utf8.RuneCountInString(text)*p.Typing.PerCharacterMs, p.Typing.MaxMs)
	return time.Duration(ms) * time.Millisecond
}

// Capped reports whether the caps on new chats can concern a chat: they are about strangers, and a group or channel is none.
func (p Pace) Capped(chat string) bool {
	return (p.NewPerHour > 0 || p.NewPerDay > 0) && !Shared(chat)
}

// Shared reports whether a chat is a group, a channel or a broadcast list.
func Shared(chat string) bool {
	return strings.HasSuffix(chat, "@g.us") || strings.HasSuffix(chat, "@newsletter") || strings.HasSuffix(chat, "@broadcast")
}
