package webhook

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// jitter is the share by which a wait is stretched or shortened, so that deliveries that failed together do not
	// come back together.
	jitter = 0.2
	// maxRetryAfter bounds what an endpoint may ask for; longer would be a way to never be tried again.
	maxRetryAfter = 24 * time.Hour
	// maxWait and maxAttempts bound a configured schedule: deliveries are kept for weeks, not for ever.
	maxWait     = 7 * 24 * time.Hour
	maxAttempts = 50
)

// Schedule is the wait before each attempt: the first entry before the first attempt, the next after its failure, and so
// on. Its length is the number of attempts.
type Schedule []time.Duration

// DefaultSchedule spreads ten attempts over about two days.
func DefaultSchedule() Schedule {
	return Schedule{
		0, 5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute,
		time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	}
}

// ParseSchedule reads waits as Go writes durations, separated by commas: "0s,5s,30s,2m,1h".
func ParseSchedule(text string) (Schedule, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("schedule is empty")
	}
	fields := strings.Split(text, ",")
	if len(fields) > maxAttempts {
		return nil, fmt.Errorf("schedule has %d waits, at most %d are allowed", len(fields), maxAttempts)
	}
	s := make(Schedule, len(fields))
	for i, field := range fields {
		wait, err := time.ParseDuration(strings.TrimSpace(field))
		if err != nil {
			return nil, fmt.Errorf("wait %d of the schedule, %q, is not a duration such as 30s", i+1, field)
		}
		if wait < 0 || wait > maxWait {
			return nil, fmt.Errorf("wait %d of the schedule, %q, is not between 0s and %s", i+1, field, maxWait)
		}
		s[i] = wait
	}
	return s, nil
}

// String writes the schedule as ParseSchedule reads it.
func (s Schedule) String() string {
	waits := make([]string, len(s))
	for i, wait := range s {
		waits[i] = wait.String()
	}
	return strings.Join(waits, ",")
}

// Next says when to try again after attempt attempts have been made, 0 for a new delivery; false when there are to be no
// more. rnd in [0, 1) chooses the jitter. retryAfter is what the endpoint asked for, 0 if nothing: it is a lower bound,
// up to 24 h.
func (s Schedule) Next(attempt int, now time.Time, rnd float64, retryAfter time.Duration) (time.Time, bool) {
	attempt = max(attempt, 0)
	if attempt >= len(s) {
		return time.Time{}, false
	}
	wait := time.Duration(float64(s[attempt]) * (1 + jitter*(2*rnd-1)))
	return now.Add(max(wait, min(retryAfter, maxRetryAfter))), true
}
