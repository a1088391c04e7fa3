package placement

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestEscape(t *testing.T) {
	bad := Worker{ID: "bad", Online: true, Sessions: 4, MaxSessions: 10, Troubled: 4}
	with := func(others ...Worker) []Worker { return append([]Worker{bad}, others...) }
	tests := []struct {
		name    string
		workers []Worker
		want    bool
	}{
		{"nobody known", nil, false},
		{"nobody else", with(), false},
		{"one without trouble", with(Worker{ID: "b", Online: true, Sessions: 1, MaxSessions: 2}), true},
		{"one with less", with(Worker{ID: "b", Online: true, Sessions: 4, MaxSessions: 10, Troubled: 3}), true},
		{"less in number, equal in share", with(Worker{ID: "b", Online: true, Sessions: 1, MaxSessions: 10, Troubled: 1}), false},
		{"more in number, less in share", with(Worker{ID: "b", Online: true, Sessions: 9, MaxSessions: 10, Troubled: 8}), true},
		{"all the same: the network", with(
			Worker{ID: "b", Online: true, Sessions: 3, MaxSessions: 9, Troubled: 3},
			Worker{ID: "c", Online: true, Sessions: 7, MaxSessions: 9, Troubled: 7},
		), false},
		{"one without sessions", with(Worker{ID: "b", Online: true, MaxSessions: 1}), true},
		{"one without sessions that rests", with(Worker{ID: "b", Online: true, Resting: true, MaxSessions: 1}), false},
		{"one that rests, but its sessions are well", with(
			Worker{ID: "b", Online: true, Resting: true, Sessions: 1, MaxSessions: 2},
		), true},
		{"full", with(Worker{ID: "b", Online: true, Sessions: 2, MaxSessions: 2}), false},
		{"offline", with(Worker{ID: "b", Sessions: 1, MaxSessions: 2}), false},
		{"out of maintenance too", []Worker{
			{ID: "bad", Sessions: 1, MaxSessions: 1, Troubled: 1},
			{ID: "b", Online: true, Sessions: 1, MaxSessions: 2},
		}, true},
		{"only outdated ones", with(Worker{ID: "b", Online: true, Outdated: true, Sessions: 4, MaxSessions: 10, Troubled: 1}, Worker{ID: "c", Online: true, Outdated: true, MaxSessions: 1}), false},
		{"outdated, and one with as much trouble is not", []Worker{
			{ID: "bad", Online: true, Outdated: true, Sessions: 9, MaxSessions: 9, Troubled: 1},
			{ID: "b", Online: true, Resting: true, Sessions: 9, MaxSessions: 10, Troubled: 9},
		}, true},
		{"outdated, without anybody who wants to connect", []Worker{
			{ID: "bad", Online: true, Outdated: true, Sessions: 9, MaxSessions: 9},
			{ID: "b", Online: true, MaxSessions: 10},
		}, false},
		{"outdated as all are, whatever the shares", []Worker{
			{ID: "bad", Online: true, Outdated: true, Sessions: 9, MaxSessions: 9, Troubled: 9},
			{ID: "b", Online: true, Outdated: true, Sessions: 2, MaxSessions: 10},
		}, false},
		{"no trouble", []Worker{
			{ID: "bad", Online: true, Sessions: 9, MaxSessions: 9},
			{ID: "b", Online: true, MaxSessions: 9},
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, Escape(tt.workers, "bad")) })
	}
}

// If sessions could escape both ways between two workers, they would.
func TestEscapeIsOneWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pair := make([]Worker, 2)
		for i, id := range []string{"a", "b"} {
			sessions := rapid.IntRange(0, 5).Draw(t, "sessions")
			pair[i] = Worker{
				ID: id, Online: true, Resting: rapid.Bool().Draw(t, "resting"), MaxSessions: 9,
				Sessions: sessions, Troubled: rapid.IntRange(0, sessions).Draw(t, "troubled"), Outdated: rapid.Bool().Draw(t, "outdated"),
			}
		}
		if Escape(pair, "a") && Escape(pair, "b") {
			t.Fatalf("each is better off than the other: %+v", pair)
		}
	})
}

func TestAiling(t *testing.T) {
	tests := []struct {
		troubled, sessions int
		want               bool
	}{
		{0, 0, false},
		{2, 2, false},
		{3, 3, true},
		{3, 5, true},
		{3, 6, false},
		{50, 100, false},
		{51, 100, true},
	}
	for _, tt := range tests {
		w := Worker{Sessions: tt.sessions, Troubled: tt.troubled}
		assert.Equal(t, tt.want, Ailing(w), "%d of %d", tt.troubled, tt.sessions)
	}
}
