package webhook

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestParseSchedule(t *testing.T) {
	s, err := ParseSchedule("0s,5s,30s, 2m,10m,1h,3h,6h,12h,24h")
	require.NoError(t, err)
	assert.Equal(t, DefaultSchedule(), s)

	again, err := ParseSchedule(s.String())
	require.NoError(t, err)
	assert.Equal(t, s, again)

	for text, want := range map[string]string{
		"":                                 "empty",
		" ":                                "empty",
		"0s,,5s":                           `wait 2 of the schedule, ""`,
		"0s,5":                             `wait 2 of the schedule, "5"`,
		"-1s":                              "not between",
		"169h":                             "not between",
		"soon":                             "not a duration",
		strings.Repeat("1s,", 50) + "1s":   "51 waits",
		"9999999999999999999999999999999h": "not a duration",
	} {
		_, err := ParseSchedule(text)
		assert.ErrorContains(t, err, want, "%q", text)
	}
}

func TestScheduleNext(t *testing.T) {
	s := Schedule{0, 10 * time.Second, time.Hour}
	tests := []struct {
		name       string
		attempt    int
		rnd        float64
		retryAfter time.Duration
		want       time.Duration
		ok         bool
	}{
		{"first at once", 0, 0.9, 0, 0, true},
		{"after one, no jitter", 1, 0.5, 0, 10 * time.Second, true},
		{"shortest", 1, 0, 0, 8 * time.Second, true},
		{"longest", 1, 1, 0, 12 * time.Second, true},
		{"retry-after is longer", 1, 0.5, time.Minute, time.Minute, true},
		{"retry-after is shorter", 2, 0.5, time.Minute, time.Hour, true},
		{"retry-after is capped", 1, 0.5, 100 * time.Hour, 24 * time.Hour, true},
		{"last", 2, 0.5, 0, time.Hour, true},
		{"exhausted", 3, 0.5, 0, 0, false},
		{"exhausted, whatever is asked for", 3, 0.5, time.Minute, 0, false},
		{"never negative", -1, 0.5, -time.Minute, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at, ok := s.Next(tt.attempt, now, tt.rnd, tt.retryAfter)
			require.Equal(t, tt.ok, ok)
			if ok {
				assert.Equal(t, tt.want, at.Sub(now))
			}
		})
	}
	_, ok := Schedule(nil).Next(0, now, 0, 0)
	assert.False(t, ok, "an empty schedule makes no attempt")
}

func TestScheduleJitterStaysWithinBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := DefaultSchedule()
	for range 1000 {
		attempt := rnd.IntN(len(s))
		at, ok := s.Next(attempt, now, rnd.Float64(), 0)
		require.True(t, ok)
		wait := at.Sub(now)
		assert.GreaterOrEqual(t, wait, s[attempt]*8/10)
		assert.LessOrEqual(t, wait, s[attempt]*12/10)
	}
}
